"""torch's own database of module tests, as it lies in the wheel: its inputs and its error inputs, on our layers.

The cases are torch's, unchanged; only the class that is made is ours.
"""

import functools

import pytest
import torch

import cellula.nn
from torch_pairs import CELLS, LAYERS, assert_same

pytest.importorskip(
    "expecttest", reason="torch's module database cannot be loaded: expecttest (extra `test`) is missing"
)
from torch.testing._internal import common_modules

INFOS = {info.module_cls.__name__: info for info in common_modules.module_db
         if info.module_cls.__module__ == "torch.nn.modules.rnn"}  # fmt: skip
MAKE = {"device": "cpu", "dtype": torch.float64, "requires_grad": True}
MODES = (True, False)


def inputs_of(name, training, **options):
    info = INFOS[name]
    return list(info.module_inputs_func(info, training=training, **MAKE, **options))


def errors_of(name, training):
    info = INFOS[name]
    return list(info.module_error_inputs_func(info, training=training, **MAKE)) if info.module_error_inputs_func else []


def made(source, name, given, training):
    arguments = given.constructor_input
    return getattr(source, name)(*arguments.args, **{"dtype": torch.float64, **arguments.kwargs}).train(training)


def check(name, given, training):
    theirs, ours = (made(source, name, given, training) for source in (torch.nn, cellula.nn))
    ours.load_state_dict(theirs.state_dict())
    call = given.forward_input
    found = assert_same(theirs, ours, *call.args, **call.kwargs)
    if given.reference_fn is not None and not isinstance(call.args[0], torch.nn.utils.rnn.PackedSequence):
        expected = given.reference_fn(ours, *call.args, **call.kwargs)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("training", MODES, ids=["train", "eval"])
@pytest.mark.parametrize("name", (*LAYERS, *CELLS))
def test_inputs(name, training):
    for given in inputs_of(name, training):
        check(name, given, training)


@pytest.mark.parametrize("name", ["GRU", "RNN"])
def test_packed_inputs(name):
    packed = [given for given in inputs_of(name, True, with_packed_sequence=True)
              if isinstance(given.forward_input.args[0], torch.nn.utils.rnn.PackedSequence)]  # fmt: skip
    assert packed
    for given in packed:
        check(name, given, True)


@pytest.mark.parametrize("name", (*LAYERS, *CELLS))
def test_error_inputs(name):
    for error in errors_of(name, True):
        given = error.module_error_input

        def attempt(source, given=given, error=error):
            arguments = given.constructor_input
            module = getattr(source, name)(*arguments.args, **arguments.kwargs)
            if error.error_on == common_modules.ModuleErrorEnum.FORWARD_ERROR:
                module(*given.forward_input.args, **given.forward_input.kwargs)

        for source in (torch.nn, cellula.nn):
            with pytest.raises(error.error_type, match=error.error_regex):
                attempt(source)


def test_how_many_there_are(capsys):
    names = (*LAYERS, *CELLS)
    inputs = sum(len(inputs_of(name, training)) for name in names for training in MODES)
    errors = sum(len(errors_of(name, True)) for name in names)
    with capsys.disabled():
        print(f"\ntorch {torch.__version__}: {inputs} inputs and {errors} error inputs of its module database")
    assert inputs >= 100 and errors >= 20
    if torch.__version__.startswith("2.13"):
        assert (inputs, errors) == (174, 58)


def test_the_check_notices_another_layer():
    given = inputs_of("GRU", True)[0]
    wrong = functools.partial(cellula.nn.RNN, dtype=torch.float64)
    theirs = made(torch.nn, "GRU", given, True)
    with pytest.raises((AssertionError, RuntimeError)):
        assert_same(theirs, wrong(2, 2, 2), *given.forward_input.args)
