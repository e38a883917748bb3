"""Black-white images to patterns and back."""

import numpy as np
import pytest
import torch

from cellula import DataError, HopfieldMemory, UsageError
from cellula.nn.hopfield import to_image, to_pattern


def test_images_in_and_out():
    images = np.random.default_rng(0).integers(0, 2, (3, 8, 9)).astype(bool)
    memory = HopfieldMemory().store(to_pattern(images))
    assert memory.shape == (8, 9)
    probe = images[1].copy()
    probe[:2] = False
    back = to_image(memory.recall(to_pattern(probe), seed=0).state)
    assert back.dtype == np.uint8 and np.array_equal(back, images[1] * np.uint8(255))


@pytest.mark.parametrize("image", [
    np.array([[False, True]]), np.array([[0, 1]]), np.array([[0, 1]], np.uint8), np.array([[0, 255]], np.uint8),
    np.array([[100, 200]], np.uint8), np.array([[0.2, 0.7]]), np.array([[0, 1]], np.uint16), [[0, 1]],
    torch.tensor([[0.0, 1.0]]), torch.tensor([[False, True]]), np.array([[0.2, 0.7]], ">f4"),
])  # fmt: skip
def test_any_kind_of_pixels(image):
    pattern = to_pattern(image)
    assert pattern.tolist() == [[-1.0, 1.0]] and pattern.dtype == torch.get_default_dtype()
    assert to_image(pattern).tolist() == [[0, 255]] and torch.equal(to_pattern(to_image(pattern)), pattern)


def test_a_picture_of_pillow():
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: no picture to read")
    picture = image.fromarray(np.array([[0, 255, 255]], np.uint8))
    assert to_pattern(picture).tolist() == to_pattern(picture.convert("1")).tolist() == [[-1.0, 1.0, 1.0]]


def test_thresholds_and_greys():
    assert to_pattern([[-3.0, 0.1, 5.0]], threshold=0).tolist() == [[-1.0, 1.0, 1.0]]
    assert to_pattern(np.array([[0.2, 0.7]]), threshold=0.1).tolist() == [[1.0, 1.0]]
    assert to_image(np.array([-2.0, -1.0, 0.0, 1.0, 2.0])).tolist() == [0, 0, 128, 255, 255]
    assert to_image(torch.zeros(5, 12), shape=(3, 4)).shape == (5, 3, 4)
    assert to_image(torch.zeros(12), shape=(3, 4)).shape == (3, 4)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: to_pattern(np.array([[-1, 300]])), UsageError, "run from -1 to 300 and have type int64; say which"),
    (lambda: to_pattern(np.array([[0.0, 2.0]])), UsageError, "threshold"),
    (lambda: to_pattern([[float("inf")]]), DataError, "finite"),
    (lambda: to_pattern([]), DataError, "no pixels"),
    (lambda: to_pattern("image.png"), DataError, "not of <U9"),
    (lambda: to_pattern([[1], [1, 0]]), DataError, "differ in length"),
    (lambda: to_image(torch.zeros(5), shape=(2, 3)), UsageError, "has 6 pixels, but the state has 5 units"),
])  # fmt: skip
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
