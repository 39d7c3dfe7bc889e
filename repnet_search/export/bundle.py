"""A bundle: a trained design in a folder that stands alone, checked before it has its name.

design.yaml; backbone.safetensors (frozen, norms folded) and trained.safetensors (what training changed); model.py,
which needs nothing of repnet_search, and on demand model.onnx; plan.json and plan.h; labels.txt; card.md for people,
bundle.json for programs; for an int8 backbone calibration.json (its activations' ranges); manifest.json with the sha256
of all of them.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import save_file

from repnet_search.errors import DataError, RepnetSearchError
from repnet_search.export.card import CardFacts, Provenance, create_card
from repnet_search.export.check import check_bundle
from repnet_search.export.frozen import dump_frozen
from repnet_search.export.load import (
    CALIBRATION_FILE,
    DESIGN_FILE,
    FACTS_FILE,
    FROZEN_FILE,
    LABELS_FILE,
    MODEL_FILE,
    TRAINED_FILE,
    BundleModel,
    load_model,
)
from repnet_search.export.manifest import write_manifest
from repnet_search.export.model_file import create_model_file
from repnet_search.export.onnx_file import save_onnx
from repnet_search.export.place import BundlePlace
from repnet_search.export.plan import create_plan, plan_to_json
from repnet_search.export.plan_header import LARGEST_ARENA_BYTES, plan_to_c_header
from repnet_search.memory import MemoryEstimate
from repnet_search.models.repnet import RepNet
from repnet_search.spec.files import design_to_yaml
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.training.task import Task

__all__ = ["BundleModel", "load_model", "save_bundle"]


def save_bundle(
    place: BundlePlace,
    resolved: ResolvedDesign,
    model: RepNet,
    task: Task,
    memory: MemoryEstimate,
    *,
    accuracies: dict[str, float],
    provenance: Provenance | None = None,
    onnx: bool = False,
) -> None:
    """Writes a bundle; the folder has its name only once it is complete and passes its check.

    Args:
        place: where to, from `hold_place`.
        resolved: the design.
        model: its trained model.
        task: what it was trained on.
        memory: its account; the plan has the same batch, schedule and slopes.
        accuracies: accuracies in 0..1 by what they were measured on.
        provenance: where the model comes from.
        onnx: whether model.onnx is written, which needs the extra `onnx`.

    Raises:
        RepnetSearchError: the folder cannot be written, has become something that is not replaced, or what was written
            does not compute what the model does.
        DataError: a label has more than one line.
        OverBudgetError: the design does not fit the target of its study.
    """
    facts = CardFacts(memory, accuracies, provenance or Provenance(), onnx)
    try:
        _write_files(place.draft, resolved, model, task, facts)
        check_bundle(place.draft).raise_failures(place.folder)
        place.finish()
    except (OSError, safetensors.SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RepnetSearchError(
            f"The bundle {place.folder} cannot be written ({reason}); make room, or name another folder."
        ) from error


def _write_files(folder: Path, resolved: ResolvedDesign, model: RepNet, task: Task, facts: CardFacts) -> None:
    weights = task.weights_of(resolved.design.backbone)
    _write(folder / DESIGN_FILE, design_to_yaml(resolved.design))
    _write(folder / LABELS_FILE, _labels_text(task.source.classes))
    trained = {name: value.cpu().contiguous() for name, value in model.trainable_state().items()}
    save_file(trained, folder / TRAINED_FILE)
    frozen = dump_frozen(weights.tensors, activation_bits=resolved.design.activation_bits)
    save_file(frozen, folder / FROZEN_FILE)
    if model.calibration is not None:
        ranges = {name: list(ends) for name, ends in model.calibration.ranges.items()}
        _write_json(folder / CALIBRATION_FILE, ranges)
    _write_json(folder / FACTS_FILE, _collect_facts(resolved, task, facts))
    text = create_model_file(resolved, model, input_range=weights.input_range, classes=task.classes)
    _write(folder / MODEL_FILE, text)
    if facts.has_onnx:
        save_onnx(folder, resolution=resolved.design.resolution)
    _write_plan(folder, resolved, task, facts)
    _write(folder / "card.md", create_card(resolved, task, facts))
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes files that only their owner may read
    write_manifest(folder)


def _labels_text(labels: tuple[str, ...]) -> str:
    """Returns a label per line; any other sign of a line's end stays part of its label."""
    broken = next((label for label in labels if "\n" in label or "\r" in label), None)
    if broken is not None:
        raise DataError(f"A label must be one line, since labels.txt has one per line, but got {broken!r}; rename it.")
    return "\n".join(labels) + "\n"


def _collect_facts(resolved: ResolvedDesign, task: Task, facts: CardFacts) -> dict[str, Any]:
    weights, memory, provenance = task.weights_of(resolved.design.backbone), facts.memory, facts.provenance
    confirmation = provenance.confirmation
    account: dict[str, Any] = {"account": "arena", "ram_bytes": memory.ram_bytes, "flash_bytes": memory.flash_bytes}
    return {
        "design_id": resolved.id,
        "study": provenance.study or None,
        "target": _collect_target(provenance),
        "input_range": weights.input_range.text,
        "backbone": {"name": weights.name, "sha256": weights.sha256},
        "data": {"name": task.source.name, "sha256": task.source.sha256()},
        "training": provenance.training.model_dump(mode="json") if provenance.training is not None else None,
        "adapted": dataclasses.asdict(provenance.adapted) if provenance.adapted is not None else None,
        "accuracy": facts.accuracies,
        "confirmed": [dataclasses.asdict(run) for run in confirmation.runs] if confirmation is not None else [],
        "memory": account | {"terms": dict(memory.terms)} | dataclasses.asdict(memory),
    }


def _collect_target(provenance: Provenance) -> dict[str, Any] | None:
    """Returns the device of the study; the regions of its RAM are in plan.json."""
    limits = provenance.limits
    if limits is None:
        return None
    return {"board": provenance.board, "ram_bytes": limits.ram_bytes, "flash_bytes": limits.flash_bytes}


def _write_plan(folder: Path, resolved: ResolvedDesign, task: Task, facts: CardFacts) -> None:
    memory = facts.memory
    plan = create_plan(
        resolved,
        classes=task.classes,
        batch=memory.batch,
        schedule=memory.schedule,
        slopes=memory.slopes,
        limits=facts.provenance.limits,
    )
    _write_json(folder / "plan.json", plan_to_json(plan))
    if memory.arena_bytes <= LARGEST_ARENA_BYTES:
        _write(folder / "plan.h", plan_to_c_header(plan))


def _write_json(path: Path, value: dict[str, Any]) -> None:
    _write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
