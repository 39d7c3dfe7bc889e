"""The negative control of running a step inside its arena: plans that forget a use of a kept buffer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from repnet_search.graph import TrainingGraph
from repnet_search.memory import Arena, Buffer, Liveness, compute_liveness, place_buffers


@dataclass(frozen=True, slots=True)
class ForgetfulPlan:
    """A placement under which `forgotten` overlaps `clashing` in its bytes while both are in use."""

    arena: Arena
    forgotten: Buffer
    clashing: tuple[Buffer, ...]


def plan_forgetfully(graph: TrainingGraph) -> Iterator[ForgetfulPlan]:
    """Yields for every buffer kept for the backward pass the placement that forgets its last use.

    Those under which nothing overlaps it all the same are left out: they are right by luck.
    """
    liveness = compute_liveness(graph)
    uses = _list_uses(graph)
    for index, buffer in enumerate(liveness.buffers):
        if not buffer.first < graph.forward_ops <= buffer.last:
            continue
        arena = place_buffers(_shorten(liveness, index, last=uses[index][-2]))
        clashing = _find_clashing(liveness.buffers, arena, index)
        if clashing:
            yield ForgetfulPlan(arena, buffer, clashing)


def _shorten(liveness: Liveness, index: int, *, last: int) -> Liveness:
    """Returns the liveness with a buffer that ends at operator `last`."""
    buffer = liveness.buffers[index]
    buffers = (*liveness.buffers[:index], buffer._replace(last=last), *liveness.buffers[index + 1 :])
    gone = range(last + 1, buffer.last + 1)
    live = (size - buffer.size_bytes * (op in gone) for op, size in enumerate(liveness.live_bytes))
    return Liveness(buffers, tuple(live), liveness.forward_ops)


def _list_uses(graph: TrainingGraph) -> list[list[int]]:
    """Returns the operators that use each buffer, in the order of the liveness."""
    uses: dict[int, list[int]] = {}
    for index, op in enumerate(graph.ops):
        for storage in {graph.tensors[tensor].storage: None for tensor in op.reads + op.writes}:
            uses.setdefault(storage, []).append(index)
    return list(uses.values())


def _find_clashing(buffers: tuple[Buffer, ...], arena: Arena, index: int) -> tuple[Buffer, ...]:
    one, start = buffers[index], arena.offsets[index]
    end = start + one.size_bytes
    return tuple(
        other
        for other, offset in zip(buffers, arena.offsets, strict=True)
        if other is not one
        and other.first <= one.last
        and one.first <= other.last
        and offset < end
        and start < offset + other.size_bytes
    )
