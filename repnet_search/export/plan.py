"""A training step as a plan for a device: where every buffer lies, and which operator touches which.

As data for programs (JSON), and as a C header. It is a plan, not a trainer: it holds no kernels and no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from repnet_search.graph import OpKind, Role, Schedule
from repnet_search.memory import MemoryEstimate
from repnet_search.memory.explain import explain_memory, list_storages
from repnet_search.memory.liveness import ALIGNMENT_BYTES
from repnet_search.spec.resolve import ResolvedDesign

PLAN_FORMAT = 1
NOTICE = "This is a plan, not a trainer: it holds no kernels, no weights and no code that trains."


@dataclass(frozen=True, slots=True)
class PlannedBuffer:
    """A buffer of the arena: its unique name, where it lies, and the first and last operator that touch it."""

    name: str
    role: Role
    shape: tuple[int, ...]
    offset_bytes: int
    size_bytes: int
    first_op: int
    last_op: int


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
    """The placed buffers of a step in the order of their first use, and its operators in the order they run."""

    resolved: ResolvedDesign
    memory: MemoryEstimate
    classes: int
    buffers: tuple[PlannedBuffer, ...]
    ops: tuple[PlannedOp, ...]
    forward_ops: int


def create_plan(
    resolved: ResolvedDesign, *, classes: int, batch: int = 1, schedule: Schedule = Schedule.LAYER
) -> MemoryPlan:
    """Returns the plan of a design; its arena is the estimate's.

    Raises:
        SpecError: as `build_graph`.
    """
    explained = explain_memory(resolved, classes=classes, batch=batch, schedule=schedule)
    graph, liveness = explained.graph, explained.liveness
    position = {storage: index for index, storage in enumerate(list_storages(graph))}
    names = make_unique([buffer.name for buffer in liveness.buffers], separator=" ")
    buffers = (
        PlannedBuffer(
            name, buffer.role, graph.tensors[storage].shape, offset, buffer.size_bytes, buffer.first, buffer.last
        )
        for name, buffer, storage, offset in zip(
            names, liveness.buffers, position, explained.arena.offsets, strict=True
        )
    )

    def touched(tensors: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(position[graph.tensors[index].storage] for index in tensors))

    ops = (
        PlannedOp(op.kind, op.place, index < graph.forward_ops, touched(op.reads), touched(op.writes), op.macs)
        for index, op in enumerate(graph.ops)
    )
    return MemoryPlan(resolved, explained.estimate, classes, tuple(buffers), tuple(ops), graph.forward_ops)


def plan_to_json(plan: MemoryPlan) -> dict[str, Any]:
    """Returns a plan as a value for JSON; buffers and operators are named by their positions."""
    memory, design = plan.memory, plan.resolved.design
    return {
        "format": PLAN_FORMAT,
        "notice": NOTICE,
        "design_id": plan.resolved.id,
        "design": design.model_dump(mode="json", exclude_none=True),
        "account": "arena",
        "schedule": memory.schedule.value,
        "batch": memory.batch,
        "classes": plan.classes,
        "recipe": design.recipe.model_dump(mode="json"),
        "arena_bytes": memory.arena_bytes,
        "alignment_bytes": ALIGNMENT_BYTES,
        "ram_bytes": memory.ram_bytes,
        "terms": dict(memory.terms),
        "forward_ops": plan.forward_ops,
        "buffers": [
            {
                "name": buffer.name,
                "role": buffer.role.value,
                "shape": list(buffer.shape),
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
