"""What is adapted: a whole bundle, the images that it shall learn, and the plan that its steps must keep to."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from repnet_search.boards import Region
from repnet_search.data import DataSource
from repnet_search.data.relabelled import RelabelledImages
from repnet_search.errors import DataError, SpecError, suggest
from repnet_search.export.card import Provenance
from repnet_search.export.frozen import restore_frozen
from repnet_search.export.load import FROZEN_FILE, BundleModel, guard, load_model, read_facts
from repnet_search.export.manifest import refuse_damage
from repnet_search.export.plan import create_plan, plan_to_json
from repnet_search.graph import Schedule, Slopes, TrainingGraph, build_graph
from repnet_search.memory import Arena, Liveness, MemoryEstimate, compute_liveness, estimate_memory
from repnet_search.models.weights import BackboneWeights
from repnet_search.spec.target import DeviceLimits
from repnet_search.training.task import Task
from repnet_search.units import format_size

PLAN_FILE = "plan.json"

_MOST_LABELS_NAMED = 10


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A training step and where a plan puts its buffers.

    Args:
        graph: the step at micro-batch 1.
        arena: its buffers; of a board's regions the arena has one behind the other, each as far as buffers reach.
        terms: the bytes of each term of the account, the arena's as planned.
    """

    graph: TrainingGraph
    arena: Arena
    terms: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Target:
    """What a plan was made for: how its device runs the step, and what that has, as far as the bundle knows."""

    schedule: Schedule
    slopes: Slopes
    board: str | None
    limits: DeviceLimits | None

    def estimate(self, model: BundleModel, *, classes: int) -> MemoryEstimate:
        """Returns the account of a model's step with so many outputs."""
        return estimate_memory(model.resolved, classes=classes, schedule=self.schedule, slopes=self.slopes)


@dataclass(frozen=True, slots=True)
class AdaptSubject:
    """A bundle's model with its images (`task`) and its plan.

    `ram_before_bytes` is the training memory with the bundle's own head, None where the head is that one; `provenance`
    is what is still true of a model that goes on learning.
    """

    model: BundleModel
    task: Task
    plan: StepPlan
    memory: MemoryEstimate
    provenance: Provenance
    ram_before_bytes: int | None = None


def load_subject(folder: Path, source: DataSource, *, new_head: bool = False) -> AdaptSubject:
    """Returns what a bundle's device would train on some images.

    Args:
        folder: the bundle.
        source: the images.
        new_head: whether the last layer starts anew, at 0, with the images' classes in place of the bundle's labels.

    Raises:
        SpecError: the folder is no bundle, is not whole, or its plan is not that of its design.
        DataError: a class of the images is none of the labels.
        OverBudgetError: the new last layer does not fit the device that the bundle was made for.
    """
    refuse_damage(folder)
    model = load_model(folder)
    written = guard(folder, PLAN_FILE, lambda path: dict(json.loads(path.read_text(encoding="utf-8"))))
    facts = read_facts(folder)
    target = guard(folder, PLAN_FILE, lambda _: _read_target(written, facts))
    ram_before_bytes = None
    if new_head:
        ram_before_bytes = target.estimate(model, classes=len(model.labels)).ram_bytes
        model = _renew_head(model, source.classes)
        written = _plan_again(model, target)
    else:
        _check_classes(folder, model, source, target)
        source = RelabelledImages(source, model.labels)
    plan = _read_plan(folder, model, written, target)
    memory = target.estimate(model, classes=len(model.labels))
    return AdaptSubject(
        model,
        _load_task(folder, model, source),
        plan,
        memory,
        Provenance(facts.get("study") or "", board=target.board, limits=target.limits),
        ram_before_bytes,
    )


def _read_target(written: dict[str, Any], facts: dict[str, Any]) -> _Target:
    """Returns what plan.json and bundle.json say of the device; a design trained without a study has none."""
    schedule, slopes, device = Schedule(written["schedule"]), Slopes(written["slopes"]), facts["target"]
    if device is None:
        return _Target(schedule, slopes, None, None)
    regions = tuple(Region(region["name"], region["size_bytes"]) for region in written["regions"])
    return _Target(schedule, slopes, device["board"], DeviceLimits(device["ram_bytes"], device["flash_bytes"], regions))


def _check_classes(folder: Path, model: BundleModel, source: DataSource, target: _Target) -> None:
    """Refuses images of classes that the head has no output for, and says what a new head would take."""
    unknown = [name for name in source.classes if name not in model.labels]
    if not unknown:
        return
    named = ", ".join(model.labels[:_MOST_LABELS_NAMED]) + ", …" * (len(model.labels) > _MOST_LABELS_NAMED)
    more = f" (nor are {len(unknown) - 1} more)" if len(unknown) > 1 else ""
    classes = len(model.labels), len(source.classes)
    now, then = (format_size(target.estimate(model, classes=count).ram_bytes) for count in classes)
    costs = f"{classes[1]} outputs in place of {classes[0]}, {then} of training memory in place of {now}"
    price = costs if classes[0] != classes[1] else f"{then} of training memory, as now"
    raise DataError(
        f"Every class of the images must be one of the labels of {folder} ({named}), but {unknown[0]!r} is not{more}; "
        f"rename it, or start the last layer anew with --new-head: {price}."
        f"{suggest(unknown[0], model.labels)}"
    )


def _load_task(folder: Path, model: BundleModel, source: DataSource) -> Task:
    """Returns the bundle's frozen weights, as they were exported, with the images."""
    facts = read_facts(folder)["backbone"]
    tensors = restore_frozen(guard(folder, FROZEN_FILE, load_file))
    weights = BackboneWeights(tensors, facts["name"], facts["sha256"], model.input_range)
    return Task({model.resolved.design.backbone: weights}, source, torch.device("cpu"))


def _renew_head(model: BundleModel, labels: tuple[str, ...]) -> BundleModel:
    """Returns the model with a last layer of 0 for other labels, as every training starts."""
    head = nn.Linear(model.repnet.head.in_features, len(labels))
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    model.repnet.head = head
    return BundleModel(model.repnet, resolved=model.resolved, labels=labels, input_range=model.input_range).eval()


def _plan_again(model: BundleModel, target: _Target) -> dict[str, Any]:
    """Returns the plan for another number of outputs, for the same target."""
    plan = create_plan(
        model.resolved,
        classes=len(model.labels),
        schedule=target.schedule,
        slopes=target.slopes,
        limits=target.limits,
    )
    return plan_to_json(plan)


def _read_plan(folder: Path, model: BundleModel, written: dict[str, Any], target: _Target) -> StepPlan:
    """Returns the step with its buffers where plan.json has them.

    Raises:
        SpecError: it is not a plan of this step, as another version may have written it.
    """
    graph = build_graph(
        model.resolved, classes=len(model.labels), batch=1, schedule=target.schedule, slopes=target.slopes
    )
    try:
        arena = _place_as_written(written, compute_liveness(graph))
        terms = {str(name): int(size) for name, size in written["terms"].items()} | {"arena": arena.size_bytes}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise SpecError(
            f"{PLAN_FILE} in the bundle {folder} is not the plan of a step at micro-batch 1 of its design; export it "
            "again with this version."
        ) from error
    return StepPlan(graph, arena, terms)


def _place_as_written(written: dict[str, Any], liveness: Liveness) -> Arena:
    """Returns the offsets that a plan gives the buffers; regions lie one behind the other.

    Raises:
        ValueError: its buffers are not those of the step, or two of them clash.
    """
    regions = written["regions"] or [{"name": None, "buffer_bytes": written["arena_bytes"]}]
    ends = [0, *itertools.accumulate(region["buffer_bytes"] for region in regions)]
    starts = {region["name"]: start for region, start in zip(regions, ends, strict=False)}
    planned = written["buffers"]
    found = [(item["size_bytes"], item["first_op"], item["last_op"]) for item in planned]
    if found != [(item.size_bytes, item.first, item.last) for item in liveness.buffers]:
        raise ValueError("buffers of another step")
    arena = Arena(tuple(starts[item["region"]] + item["offset_bytes"] for item in planned), ends[-1])
    if _clashes(arena, liveness):
        raise ValueError("buffers overlap")
    return arena


def _clashes(arena: Arena, liveness: Liveness) -> bool:
    """Whether a buffer leaves the arena, or two share bytes while both are in use."""
    placed = list(zip(arena.offsets, liveness.buffers, strict=True))
    leaves = any(not 0 <= offset <= arena.size_bytes - item.size_bytes for offset, item in placed)
    return leaves or any(
        a < b + other.size_bytes and b < a + one.size_bytes and one.first <= other.last and other.first <= one.last
        for (a, one), (b, other) in itertools.combinations(placed, 2)
    )
