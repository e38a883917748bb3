"""A fitted forecaster in files: written beside its training, and read out of files that may be anybody's."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from cellula.errors import FormulaError, RunError, UsageError
from cellula.formula.parser import parse
from cellula.graph.build import build
from cellula.models import ForecastNetwork
from cellula.tasks.forecast.description import Description, read_description
from cellula.tasks.forecast.model import ForecastModel
from cellula.tasks.forecast.settings import FORECAST_TRAINING
from cellula.tasks.options import TrainingOptions
from cellula.tasks.run import RunDirectory, load_model, load_weights
from cellula.tasks.training import History

__all__ = ["model_file", "read_forecaster", "run_directory", "shown", "training_record"]


def model_file(path: Path) -> Path:
    """The model file that a path means: itself, or that of a run directory."""
    return path / "model.safetensors" if path.is_dir() else path


def read_forecaster(path: Path) -> tuple[ForecastModel, Description, dict[str, Any]]:
    """Reads a model file.

    Args:
        path: a file that `Forecaster.save` wrote, the `model.safetensors` of a run, or the run directory.

    Returns:
        The model, its description, and the parameters that the forecaster had.

    Raises:
        RunError: where the file is missing, damaged, or not a forecaster's; nothing in it can run code.
    """
    file = model_file(path)
    tensors, metadata = load_model(file)
    try:
        description = read_description(metadata["forecaster"])
        parameters = read_parameters(metadata["parameters"])
        refuse_size(description, tensors)
        model = restore(description, tensors)
    except FormulaError as error:
        raise RunError(f"{file}: the formula in it is wrong: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise RunError(f"{file} cannot be used as a forecaster: {error}; expected one that Forecaster saved") from error
    load_weights(model, tensors, file)
    return model, description, parameters


def read_parameters(found: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a forecaster out of JSON, which has lists for tuples and tables for dataclasses."""
    parameters = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    return {**parameters, "training": TrainingOptions(**found["training"])}


def refuse_size(description: Description, tensors: Mapping[str, torch.Tensor]) -> None:
    """ValueError where the sizes are not those of the weights: a few bytes must not ask for gigabytes."""
    sizes = description.sizes
    patch = min(sizes.patch, sizes.window)
    intervals = (len(description.levels), sizes.horizon, sizes.targets)
    expected = {
        "network.linear": (sizes.linear_columns, sizes.horizon * sizes.targets),
        "network.history_input.weight": (sizes.hidden_size, sizes.history_columns * patch),
        "offsets": intervals,
        "rates": intervals,
        "newest_offsets": (len(description.series), *intervals),
        "context": (len(description.series), sizes.window, sizes.history_columns),
    }
    for name, shape in expected.items():
        if name not in tensors or tuple(tensors[name].shape) != shape:
            there = list(tensors[name].shape) if name in tensors else "nothing"
            raise ValueError(f"{name} is {there}, expected {list(shape)}")
    if sizes.num_layers > len(tensors):
        raise ValueError(f"num_layers={sizes.num_layers}, but there are {len(tensors)} weights")
    largest = max(tensor.numel() for tensor in tensors.values())
    for name, value in description.settings.items():
        if isinstance(value, int) and value > largest:
            raise ValueError(f"the cell's {name} is {value}, larger than all of its weights")


def restore(description: Description, tensors: Mapping[str, torch.Tensor]) -> ForecastModel:
    """A model of the right sizes with random weights."""
    # Built from the text alone: a name or a path would read what the file's author chose.
    graph = build(parse(description.cell))
    network = ForecastNetwork(description.sizes, graph, description.settings)
    return ForecastModel(network, description.levels, torch.zeros(tensors["context"].shape))


def training_record(history: History | None) -> dict[str, object]:
    """What a model file says about the training."""
    if history is None or not history.epochs:
        return {}
    return {
        "epoch": history.best_epoch,
        "step": history.epochs[-1]["step"],
        "validation_loss": history.best_loss,
        "stopped": history.stopped,
    }


@contextmanager
def run_directory(path: str | PathLike[str] | None, overwrite: bool, resume: bool) -> Iterator[RunDirectory]:
    """The run directory at a path, or a temporary one."""
    if path is not None:
        with RunDirectory.create(path, overwrite=overwrite, resume=resume) as directory:
            yield directory
        return
    if overwrite or resume:
        raise UsageError("overwrite= and resume= need run=, the directory of the run")
    with (
        tempfile.TemporaryDirectory(prefix="cellula-") as folder,
        RunDirectory.create(Path(folder) / "run") as directory,
    ):
        yield directory


def shown(value: Any) -> str:
    """A parameter as in `repr`: of a formula the first line, of the options of training what was changed."""
    if isinstance(value, str) and "\n" in value:
        return repr(value.partition("\n")[0] + " ...")
    if isinstance(value, TrainingOptions):
        usual = asdict(FORECAST_TRAINING)
        changed = [f"{name}={entry!r}" for name, entry in asdict(value).items() if entry != usual[name]]
        return f"TrainingOptions({', '.join(['...', *changed])})"
    return repr(value)
