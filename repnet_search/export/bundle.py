"""A bundle: a trained design in a folder that stands alone.

design.yaml, trained.safetensors (what training changed), backbone.safetensors (frozen, norms folded), memory.json (the
account), bundle.json (labels, input range, accuracies), for an int8 backbone calibration.json (its activations'
ranges), and a README that shows how to load it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from repnet_search.errors import RepnetSearchError, SpecError
from repnet_search.export.place import BundlePlace
from repnet_search.memory import MemoryEstimate
from repnet_search.models.calibration import Calibration
from repnet_search.models.input_range import InputRange, parse_input_range
from repnet_search.models.repnet import RepNet
from repnet_search.spec.files import design_to_yaml, load_design
from repnet_search.spec.resolve import ResolvedDesign, resolve
from repnet_search.training.task import Task
from repnet_search.units import format_size

FORMAT_VERSION = 1
CALIBRATION_FILE = "calibration.json"

Read = TypeVar("Read")

_README = """# Rep-Net {design_id}

A side network for {backbone}, found by repnet-search: {classes} classes, {resolution} px, {ram} of training memory
(account `arena`, schedule {schedule}, recipe {recipe},
micro-batch 1).

    import repnet_search
    design = repnet_search.load_design("design.yaml")
    model = repnet_search.load_model(".")    # uint8 images (N, 3, {resolution}, {resolution}) -> logits (N, {classes})

`repnet-search evaluate . --data FOLDER` measures it on images.
"""


class BundleModel(nn.Module):
    """A bundle's model, ready to use: uint8 images (N, 3, resolution, resolution) → logits (N, labels)."""

    def __init__(self, repnet: RepNet, *, labels: tuple[str, ...], input_range: InputRange, resolution: int) -> None:
        super().__init__()
        self.repnet = repnet
        self.labels = labels
        self.input_range = input_range
        self.resolution = resolution

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits (N, labels) of images with values 0..255."""
        logits: Tensor = self.repnet(self.input_range.normalise(images))
        return logits


def save_bundle(
    place: BundlePlace,
    resolved: ResolvedDesign,
    model: RepNet,
    task: Task,
    memory: MemoryEstimate,
    *,
    accuracies: dict[str, float],
) -> None:
    """Writes a bundle; the folder has its name only once it is complete.

    Args:
        place: where to, from `hold_place`.
        resolved: the design.
        model: its trained model.
        task: what it was trained on.
        memory: its account.
        accuracies: accuracies in 0..1 by what they were measured on.

    Raises:
        RepnetSearchError: the folder cannot be written, or has become something that is not replaced.
    """
    try:
        _write_files(place.draft, resolved, model, task, memory, accuracies)
        place.finish()
    except (OSError, safetensors.SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RepnetSearchError(
            f"The bundle {place.folder} cannot be written ({reason}); make room, or name another folder."
        ) from error


def load_model(folder: str | Path) -> BundleModel:
    """Returns a bundle's model in eval mode.

    Raises:
        RepnetSearchError: the folder is no bundle, or one of its files is not what it should be.
    """
    folder = Path(folder)
    resolved = resolve(load_design(_existing(folder, "design.yaml")))
    info = _read_json(folder, "bundle.json")
    if info.get("format") != FORMAT_VERSION:
        raise SpecError(
            f"The bundle {folder} has format {info.get('format')}, but this version reads {FORMAT_VERSION}."
        )
    labels = tuple(str(label) for label in info["labels"])
    calibration = _read_calibration(folder) if resolved.design.activation_bits == 8 else None
    weights = _read_tensors(folder, "backbone.safetensors")
    model = RepNet(resolved, weights, classes=len(labels), calibration=calibration)
    try:
        model.load_trainable_state(_read_tensors(folder, "trained.safetensors"))
    except (KeyError, RuntimeError) as error:
        raise SpecError(f"trained.safetensors in {folder} does not hold the parameters of its design.yaml.") from error
    input_range = parse_input_range(str(info["input_range"]))
    return BundleModel(model, labels=labels, input_range=input_range, resolution=resolved.design.resolution).eval()


def _write_files(
    folder: Path,
    resolved: ResolvedDesign,
    model: RepNet,
    task: Task,
    memory: MemoryEstimate,
    accuracies: dict[str, float],
) -> None:
    design = resolved.design
    weights = task.weights_of(design.backbone)
    (folder / "design.yaml").write_text(design_to_yaml(design), encoding="utf-8")
    save_file(
        {name: value.cpu().contiguous() for name, value in model.trainable_state().items()},
        folder / "trained.safetensors",
    )
    save_file({name: value.contiguous() for name, value in weights.tensors.items()}, folder / "backbone.safetensors")
    if model.calibration is not None:
        _write_json(folder / CALIBRATION_FILE, {name: list(ends) for name, ends in model.calibration.ranges.items()})
    report: dict[str, Any] = {"account": "arena", "ram_bytes": memory.ram_bytes, "flash_bytes": memory.flash_bytes}
    _write_json(folder / "memory.json", report | {"terms": dict(memory.terms)} | dataclasses.asdict(memory))
    info = {
        "format": FORMAT_VERSION,
        "design_id": resolved.id,
        "labels": list(task.source.classes),
        "input_range": weights.input_range.text,
        "backbone": {"name": weights.name, "sha256": weights.sha256},
        "data": {"name": task.source.name, "sha256": task.source.sha256()},
        "accuracy": accuracies,
    }
    _write_json(folder / "bundle.json", info)
    recipe = design.recipe
    readme = _README.format(
        design_id=resolved.short_id,
        backbone=resolved.table.name,
        classes=task.classes,
        resolution=design.resolution,
        ram=format_size(memory.ram_bytes),
        schedule=memory.schedule.value,
        recipe=f"{recipe.optimizer.value}, {recipe.accumulate} images per update",
    )
    (folder / "README.md").write_text(readme, encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes files that only their owner may read


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    return _guard(folder, name, lambda path: dict(json.loads(path.read_text(encoding="utf-8"))))


def _read_calibration(folder: Path) -> Calibration:
    def read(path: Path) -> Calibration:
        ranges = json.loads(path.read_text(encoding="utf-8"))
        return Calibration({str(name): (float(low), float(high)) for name, (low, high) in ranges.items()})

    return _guard(folder, CALIBRATION_FILE, read)


def _read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    return _guard(folder, name, load_file)


def _guard(folder: Path, name: str, read: Callable[[Path], Read]) -> Read:
    try:
        return read(_existing(folder, name))
    except (OSError, ValueError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise SpecError(f"{name} in the bundle {folder} cannot be read ({error}); export it again.") from error


def _existing(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise SpecError(f"A bundle is a folder that 'repnet-search export' wrote, but {folder} has no {name}.")
    return path
