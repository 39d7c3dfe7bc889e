"""Reading a bundle: the model that was trained, ready to use, and the one that its model.py makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import safetensors
from safetensors.torch import load_file
from torch import Tensor, nn

from repnet_search.errors import SpecError, UsageError
from repnet_search.export.frozen import restore_frozen
from repnet_search.export.manifest import read_manifest
from repnet_search.models.calibration import Calibration
from repnet_search.models.input_range import InputRange, parse_input_range
from repnet_search.models.repnet import RepNet
from repnet_search.spec.files import load_design
from repnet_search.spec.resolve import ResolvedDesign, resolve

DESIGN_FILE = "design.yaml"
FACTS_FILE = "bundle.json"
FROZEN_FILE = "backbone.safetensors"
TRAINED_FILE = "trained.safetensors"
CALIBRATION_FILE = "calibration.json"
LABELS_FILE = "labels.txt"
MODEL_FILE = "model.py"

Read = TypeVar("Read")


class BundleModel(nn.Module):
    """A bundle's model, ready to use: uint8 images (N, 3, resolution, resolution) → logits (N, labels)."""

    def __init__(
        self, repnet: RepNet, *, resolved: ResolvedDesign, labels: tuple[str, ...], input_range: InputRange
    ) -> None:
        super().__init__()
        self.repnet = repnet
        self.resolved = resolved
        self.labels = labels
        self.input_range = input_range
        self.resolution = resolved.design.resolution

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits (N, labels) of images with values 0..255."""
        logits: Tensor = self.repnet(self.input_range.normalise(images))
        return logits


def load_model(folder: str | Path) -> BundleModel:
    """Returns a bundle's model in eval mode.

    Raises:
        RepnetSearchError: the folder is no bundle, or one of its files is not what it should be.
    """
    folder = Path(folder)
    read_manifest(folder)
    path = existing(folder, DESIGN_FILE)
    resolved = resolve(load_design(path), source=str(path))
    labels = guard(folder, LABELS_FILE, _read_labels)
    calibration = guard(folder, CALIBRATION_FILE, _read_calibration) if resolved.design.activation_bits == 8 else None
    input_range = guard(folder, FACTS_FILE, _read_input_range)
    frozen = guard(folder, FROZEN_FILE, load_file)
    trained = guard(folder, TRAINED_FILE, load_file)
    try:
        weights = restore_frozen(frozen)
        model = RepNet(resolved, weights, classes=len(labels), calibration=calibration)
    except (KeyError, RuntimeError, ValueError, OverflowError) as error:
        raise SpecError(
            f"{FROZEN_FILE} or {CALIBRATION_FILE} in {folder} does not hold what its {DESIGN_FILE} needs; export it "
            "again."
        ) from error
    try:
        model.load_trainable_state(trained)
    except (KeyError, RuntimeError) as error:
        raise SpecError(
            f"{TRAINED_FILE} in {folder} does not hold the parameters of its {DESIGN_FILE}; export it again."
        ) from error
    return BundleModel(model, resolved=resolved, labels=labels, input_range=input_range).eval()


def load_standalone(folder: Path) -> ModuleType:
    """Returns a bundle's model.py as a module, run; unlike an import it leaves no __pycache__ there."""
    path = folder / MODEL_FILE
    module = ModuleType("bundle_model")
    module.__file__ = str(path)
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)
    return module


def read_facts(folder: Path) -> dict[str, Any]:
    """Returns what bundle.json says: data, backbone, accuracies, memory.

    Raises:
        SpecError: it cannot be read.
    """
    return guard(folder, FACTS_FILE, lambda path: dict(json.loads(path.read_text(encoding="utf-8"))))


def guard(folder: Path, name: str, read: Callable[[Path], Read]) -> Read:
    """Returns what a file of a bundle holds.

    Raises:
        SpecError: it is missing, or cannot be read.
    """
    try:
        return read(existing(folder, name))
    except (OSError, ValueError, TypeError, AttributeError, KeyError, UsageError, safetensors.SafetensorError) as error:
        raise SpecError(f"{name} in the bundle {folder} cannot be read ({error}); export it again.") from error


def existing(folder: Path, name: str) -> Path:
    """Returns the path of a bundle's file; raises SpecError where it is missing."""
    path = folder / name
    if not path.is_file():
        raise SpecError(f"A bundle is a folder that 'repnet-search export' wrote, but {folder} has no {name}.")
    return path


def _read_labels(path: Path) -> tuple[str, ...]:
    return tuple(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"))


def _read_calibration(path: Path) -> Calibration:
    ranges = json.loads(path.read_text(encoding="utf-8"))
    return Calibration({str(name): (float(low), float(high)) for name, (low, high) in ranges.items()})


def _read_input_range(path: Path) -> InputRange:
    return parse_input_range(str(json.loads(path.read_text(encoding="utf-8"))["input_range"]))
