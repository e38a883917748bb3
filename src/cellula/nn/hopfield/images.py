"""Black-white images to patterns of -1 and 1, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cellula.errors import DataError, UsageError

__all__ = ["to_image", "to_pattern"]


def to_pattern(image: Any, threshold: float | None = None) -> Tensor:
    """Turn images into patterns: 1 where a pixel is bright, -1 where it is dark.

    Args:
        image: an array, a tensor or nested lists of any shape, one image or many. A picture that Pillow has opened
            in mode "1" or "L" is one too.
        threshold: pixels above it are bright. Without one: half way up the range of the pixels, which is 0 to 1 for
            booleans, floating point numbers and whole numbers that are all 0 or 1, and 0 to 255 for bytes.

    Returns:
        The patterns, in the shape of the image, of torch's default dtype, on the image's device.

    Raises:
        DataError: the image has no pixels, or pixels that are no finite numbers.
        UsageError: there is no threshold, and the pixels do not say what their range is.

    Example:
        >>> from cellula.nn.hopfield import to_pattern
        >>> to_pattern([[0, 1], [1, 0]])
        tensor([[-1.,  1.],
                [ 1., -1.]])
    """
    pixels = image.detach() if isinstance(image, Tensor) else torch.as_tensor(_array(image))
    if pixels.numel() == 0:
        raise DataError(f"the image has no pixels: its shape is {list(pixels.shape)}")
    if pixels.is_complex() or (pixels.is_floating_point() and not bool(pixels.isfinite().all())):
        raise DataError("the image has pixels that are no finite real numbers")
    limit = _half_way(pixels) if threshold is None else threshold
    return torch.where(pixels > limit, 1.0, -1.0).to(torch.get_default_dtype())


def to_image(pattern: Tensor | np.ndarray, shape: Sequence[int] | None = None) -> np.ndarray:
    """Turn states into images: bytes from 0 (black, -1) to 255 (white, 1).

    Args:
        pattern: states from -1 to 1, of any shape; what lies between becomes grey, what lies beyond is cut.
        shape: of one image, such as (28, 28), where the units lie flat: [B, N] becomes [B, 28, 28].

    Returns:
        The images as `uint8`, ready for matplotlib and Pillow.

    Raises:
        UsageError: the units do not fill the shape.

    Example:
        >>> import torch
        >>> from cellula.nn.hopfield import to_image
        >>> to_image(torch.tensor([-1.0, 1.0, 1.0, -1.0]), shape=(2, 2)).tolist()
        [[0, 255], [255, 0]]
    """
    state = pattern.detach().cpu().double().numpy() if isinstance(pattern, Tensor) else np.asarray(pattern, dtype=float)
    if shape is not None:
        units = state.shape[-1] if state.ndim else 1
        if any(side < 0 for side in shape) or units != int(np.prod(shape)):
            raise UsageError(f"shape={tuple(shape)} has {int(np.prod(shape))} pixels, but the state has {units} units")
        state = state.reshape(*state.shape[:-1], *shape)
    return np.rint((np.clip(state, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)


def _array(image: Any) -> np.ndarray:
    try:
        pixels = np.array(image)
    except ValueError as error:
        raise DataError("the rows of the image differ in length; give an array of one shape") from error
    if pixels.dtype.kind not in "biuf":
        raise DataError(f"an image is an array of numbers, not of {pixels.dtype} ({type(image).__name__})")
    if pixels.dtype in (np.bool_, np.uint8):
        return pixels
    # numpy knows number types and byte orders that torch does not.
    return pixels.astype(np.float64 if pixels.dtype.kind == "f" else np.int64)


def _half_way(pixels: Tensor) -> float:
    """The middle of the range in which these pixels lie."""
    if pixels.dtype == torch.bool:
        return 0.5
    low, high = pixels.min().item(), pixels.max().item()
    if low >= 0 and high <= 1:
        return 0.5
    if pixels.dtype == torch.uint8:
        return 127.5
    raise UsageError(
        f"the pixels run from {low:g} to {high:g} and have type {str(pixels.dtype).removeprefix('torch.')}; "
        "say which are bright: to_pattern(image, threshold=...)"
    )
