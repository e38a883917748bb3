"""Checkpointing: segments that are computed again give what the whole gives, in less memory."""

import subprocess
import sys

import pytest
import torch

from cellula import Recurrent, UsageError
from compare import assert_close, gradients

CELLS = ("lstm", "gru", "zoneout_lstm", "variational_dropout_lstm", "mlp")


@pytest.mark.parametrize("backend", ["c", "reference"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("lengths", [None, (13, 2, 0)])
def test_segments_are_the_whole(cell, backend, lengths):
    whole = Recurrent(cell, 3, 4, backend=backend, dtype=torch.float64)
    x = torch.randn(13, 3, 3, dtype=torch.float64, requires_grad=True)
    found = []
    for every in (None, 1, 4, 13, 50):
        part = Recurrent(cell, 3, 4, backend=backend, checkpoint_every=every, dtype=torch.float64)
        part.load_state_dict(whole.state_dict())
        torch.manual_seed(1)
        output, state = part(x, lengths=lengths)
        found.append([output, *state, *gradients([output, *state], [x, *part.parameters()])])
    for other in found[1:]:
        assert_close(other, found[0])


def test_only_a_loss_on_the_last_state():
    whole, part = (Recurrent("lstm", 3, 4, backend="c", checkpoint_every=every) for every in (None, 3))
    part.load_state_dict(whole.state_dict())
    x = torch.randn(8, 2, 3)
    found = [gradients([module(x)[1].c], [*module.parameters()]) for module in (whole, part)]
    assert_close(found[1], found[0], 1e-5)


@pytest.mark.parametrize("every", [0, -1, 2.5, True])
def test_a_wrong_number_is_refused(every):
    with pytest.raises(UsageError, match="checkpoint_every is"):
        Recurrent("lstm", 3, 4, checkpoint_every=every)


MEMORY = """
import re, torch
from cellula import Recurrent
torch.set_num_threads(1)
module = Recurrent("lstm", 8, 64, backend="c", checkpoint_every={every})
x = torch.zeros(4000, 8, 8)
module(x[:10])[0].sum().backward()

def peak():
    # What getrusage says a process inherits from the one that started it.
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

before = peak()
module(x)[0].sum().backward()
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read in kilobytes, as Linux gives it")
def test_it_takes_less_memory():
    peaks = []
    for every in (None, 64):
        command = [sys.executable, "-c", MEMORY.format(every=every)]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    # All that an LSTM saves is 6 x 64 numbers a step and row, of which the output stays.
    saved = 4000 * 8 * 64 * 4 / 1024
    assert peaks[0] > 4 * saved
    assert peaks[1] < peaks[0] - 2 * saved
