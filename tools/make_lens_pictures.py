"""Draw the pictures of docs/lens.md into docs/pictures/: a forecaster trained on the weather that ships, a bare cell.

python tools/make_lens_pictures.py [RUN]     RUN: a trained run, to be looked at instead of training one (half a minute)
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

import cellula
from cellula.tasks.forecast.job import train_forecast
from cellula.tasks.options import TrainingOptions

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
# Dots an inch: small files that still can be read.
SHARPNESS = 90


def trained_run(folder: Path) -> Path:
    """A forecaster of hourly temperatures at three airports."""
    options = TrainingOptions(epochs=4, learning_rate=2e-3)
    forecaster = cellula.Forecaster("lstm", hidden_size=24, patch=2, training=options)
    train_forecast(forecaster, None, folder / "run")
    return folder / "run"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(sys.argv[1]) if len(sys.argv) > 1 else trained_run(Path(folder))
        found = cellula.lens(cellula.Forecaster.load(run))
    torch.manual_seed(0)
    bare = cellula.lens(cellula.Recurrent("elman", 8, 64), torch.randn(100, 4, 8))
    drawings = {
        "lens-heat-map": found.heat_map("f", "c", order="time"),
        "lens-trace": found.trace(3, "i", "f", "o", "c"),
        "lens-saturation": found.saturation(),
        "lens-memory": bare.memory_curve(),
    }
    print(found)
    for name, drawing in drawings.items():
        (PICTURES / f"{name}.png").write_bytes(drawing.png(SHARPNESS))
        print(f"wrote docs/pictures/{name}.png")


if __name__ == "__main__":
    main()
