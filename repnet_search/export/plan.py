"""A training step as a plan for a device: where every buffer lies, and which operator touches which.

As data for programs (JSON), and as a C header. For a board every buffer, and every parameter with its state, also has
its region of RAM. It is a plan, not a trainer: it holds no kernels and no weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from repnet_search.errors import OverBudgetError
from repnet_search.graph import OpKind, Role, Schedule, Slopes
from repnet_search.memory import MemoryEstimate, RegionPlan, check_fit, list_state
from repnet_search.memory.explain import MemoryExplanation, explain_memory, list_storages
from repnet_search.memory.liveness import ALIGNMENT_BYTES
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.spec.target import DeviceLimits

PLAN_FORMAT = 1
NOTICE = "This is a plan, not a trainer: it holds no kernels, no weights and no code that trains."


@dataclass(frozen=True, slots=True)
class PlannedBuffer:
    """A buffer of the arena: its unique name, where it lies, and the first and last operator that touch it.

    With regions the offset is that in its region (by position); without, that in the arena.
    """

    name: str
    role: Role
    shape: tuple[int, ...]
    offset_bytes: int
    size_bytes: int
    first_op: int
    last_op: int
    region: int | None = None


@dataclass(frozen=True, slots=True)
class PlannedState:
    """What outlives the step: the parameter that it belongs to, the term of the account, and where it lies."""

    name: str
    term: str
    region: int
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PlannedRegion:
    """A region of RAM: what may be used of it, up to where its buffers reach, and what lies behind them for good."""

    name: str
    size_bytes: int
    buffer_bytes: int
    state_bytes: int

    @property
    def used_bytes(self) -> int:
        """What is used of it."""
        return self.buffer_bytes + self.state_bytes


@dataclass(frozen=True, slots=True)
class PlannedOp:
    """An operator of the step and the buffers (by position) that it reads and writes, each once."""

    kind: OpKind
    place: str
    is_forward: bool
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    macs: int


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The placed buffers of a step in the order of their first use, and its operators in the order they run.

    Regions, and the state placed into them, are there where the plan is made for a board.
    """

    resolved: ResolvedDesign
    memory: MemoryEstimate
    classes: int
    buffers: tuple[PlannedBuffer, ...]
    ops: tuple[PlannedOp, ...]
    forward_ops: int
    regions: tuple[PlannedRegion, ...] = ()
    state: tuple[PlannedState, ...] = ()


def create_plan(
    resolved: ResolvedDesign,
    *,
    classes: int,
    batch: int = 1,
    schedule: Schedule = Schedule.LAYER,
    slopes: Slopes = Slopes.EXACT,
    limits: DeviceLimits | None = None,
) -> MemoryPlan:
    """Returns the plan of a design; its arena is the estimate's, or lies in the regions of a device.

    Args:
        resolved: the design in its explicit form.
        classes: outputs of the head.
        batch: images of a micro-batch.
        schedule: how the target runs the frozen backbone.
        slopes: how it keeps the slopes of smooth activations.
        limits: of the device; None plans one arena of any size.

    Raises:
        SpecError: as `build_graph`.
        OverBudgetError: the design does not fit the device.
    """
    explained = explain_memory(resolved, classes=classes, batch=batch, schedule=schedule, slopes=slopes)
    placed = None if limits is None else _place(explained, limits)
    graph, liveness = explained.graph, explained.liveness
    spots: list[tuple[int, int | None]] = [(offset, None) for offset in explained.arena.offsets]
    if placed is not None:
        spots = [(spot.offset_bytes, spot.region) for spot in placed.buffers]
    position = {storage: index for index, storage in enumerate(list_storages(graph))}
    names = make_unique([buffer.name for buffer in liveness.buffers], separator=" ")
    buffers = (
        PlannedBuffer(
            name,
            buffer.role,
            graph.tensors[storage].shape,
            offset,
            buffer.size_bytes,
            buffer.first,
            buffer.last,
            region,
        )
        for name, buffer, storage, (offset, region) in zip(names, liveness.buffers, position, spots, strict=True)
    )

    def touched(tensors: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(position[graph.tensors[index].storage] for index in tensors))

    ops = (
        PlannedOp(op.kind, op.place, index < graph.forward_ops, touched(op.reads), touched(op.writes), op.macs)
        for index, op in enumerate(graph.ops)
    )
    return MemoryPlan(
        resolved,
        explained.estimate,
        classes,
        tuple(buffers),
        tuple(ops),
        graph.forward_ops,
        () if placed is None else _planned_regions(placed),
        () if placed is None else _planned_state(explained, placed),
    )


def _place(explained: MemoryExplanation, limits: DeviceLimits) -> RegionPlan | None:
    fit = check_fit(explained, limits)
    if not fit.fits:
        raise OverBudgetError(f"Design {explained.resolved.short_id} {fit.problem}; there is no plan of it.")
    return fit.plan


def _planned_regions(placed: RegionPlan) -> tuple[PlannedRegion, ...]:
    columns = zip(placed.regions, placed.buffer_bytes, placed.state_bytes, strict=True)
    return tuple(PlannedRegion(region.name, region.size_bytes, buffers, state) for region, buffers, state in columns)


def _planned_state(explained: MemoryExplanation, placed: RegionPlan) -> tuple[PlannedState, ...]:
    tensors = list_state(explained.graph, explained.resolved.design.recipe)
    return tuple(
        PlannedState(tensor.name, tensor.term, spot.region, spot.offset_bytes, tensor.size_bytes)
        for tensor, spot in zip(tensors, placed.state, strict=True)
    )


def plan_to_json(plan: MemoryPlan) -> dict[str, Any]:
    """Returns a plan as a value for JSON; buffers and operators are named by their positions."""
    memory, design = plan.memory, plan.resolved.design
    region_names: dict[int | None, str | None] = {None: None}
    region_names |= {index: region.name for index, region in enumerate(plan.regions)}
    return {
        "format": PLAN_FORMAT,
        "notice": NOTICE,
        "design_id": plan.resolved.id,
        "design": design.model_dump(mode="json", exclude_none=True),
        "account": "arena",
        "schedule": memory.schedule.value,
        "slopes": memory.slopes.value,
        "batch": memory.batch,
        "classes": plan.classes,
        "recipe": design.recipe.model_dump(mode="json"),
        "arena_bytes": memory.arena_bytes,
        "alignment_bytes": ALIGNMENT_BYTES,
        "ram_bytes": memory.ram_bytes,
        "terms": dict(memory.terms),
        "forward_ops": plan.forward_ops,
        "regions": [dataclasses.asdict(region) for region in plan.regions],
        "state": [dataclasses.asdict(item) | {"region": region_names[item.region]} for item in plan.state],
        "buffers": [
            {
                "name": buffer.name,
                "role": buffer.role.value,
                "shape": list(buffer.shape),
                "region": region_names[buffer.region],
                "offset_bytes": buffer.offset_bytes,
                "size_bytes": buffer.size_bytes,
                "first_op": buffer.first_op,
                "last_op": buffer.last_op,
            }
            for buffer in plan.buffers
        ],
        "ops": [
            {
                "place": op.place,
                "kind": op.kind.value,
                "pass": "forward" if op.is_forward else "backward",
                "reads": list(op.reads),
                "writes": list(op.writes),
                "macs": op.macs,
            }
            for op in plan.ops
        ],
    }


def make_unique(names: Sequence[str], *, separator: str) -> list[str]:
    """Returns the names with a separator and a number behind every repetition.

    >>> make_unique(["a", "b", "a"], separator=" ")
    ['a', 'b', 'a 2']
    """
    taken: set[str] = set()
    unique = []
    for name in names:
        candidate, count = name, 1
        while candidate in taken:
            count += 1
            candidate = f"{name}{separator}{count}"
        taken.add(candidate)
        unique.append(candidate)
    return unique
