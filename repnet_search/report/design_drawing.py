"""A design as a drawing: its places in the order of the forward pass, what connects them, and the bytes of each.

The rows are places (image, blocks, modules, head), the lanes are the backbone and the Rep-Net. A training step runs
down the rows and, behind the loss, up again, so that both passes of a place lie in one row [Yang2022repnet].

[Yang2022repnet] L. Yang, A. S. Rakin, D. Fan, Rep-Net: Efficient On-Device Learning via Feature Reprogramming, CVPR
2022.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any, NamedTuple

from repnet_search.memory.explain import MemoryExplanation, PlaceMemory
from repnet_search.spec.design import Exchange
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.spec.shapes import ModuleShape

BACKBONE_LANE, REPNET_LANE = 0.0, 1.0
IMAGE = "image"
_HALF = 0.5
_BESIDE_IMAGE = 0.33
"""Where the widest box ends."""


class Part(StrEnum):
    """What a row is, as the drawing's legend names it."""

    IMAGE = "image"
    FORWARD_ONLY = "frozen, forward"
    GRADIENT = "frozen, gradient"
    TRAINED = "trained"


class Flow(StrEnum):
    """What an arrow carries, as the drawing's legend names it."""

    BACKBONE = "backbone b"
    STREAM = "stream r"
    WRITE = "write b+γ⊙s"
    READ = "read b"


class Arrow(NamedTuple):
    """A line over (lane, row) points with its head at the last one."""

    flow: Flow
    points: tuple[tuple[float, float], ...]


class Moment(NamedTuple):
    """An operator of a place, and the bytes alive while it runs, parameters and their state included."""

    operator: str
    alive_bytes: int


@dataclass(frozen=True, slots=True)
class Row:
    """A place with its output and its operators.

    Args:
        place: its name, such as "block 6".
        part: what it is.
        shape: of its output, (N, C, H, W) or (N, C).
        output_bytes: of that output.
        memory: what it takes; None of an image that no module reads.
        forward: its operators in the forward pass.
        backward: those in the backward pass.
    """

    place: str
    part: Part
    shape: tuple[int, ...]
    output_bytes: int
    memory: PlaceMemory | None
    forward: tuple[Moment, ...] = ()
    backward: tuple[Moment, ...] = ()

    @property
    def dimensions(self) -> str:
        """The shape of one sample.

        >>> Row("block 6", Part.FORWARD_ONLY, (1, 16, 6, 6), 2304, None).dimensions
        '16×6×6'
        """
        return "×".join(map(str, self.shape[1:]))


@dataclass(frozen=True, slots=True)
class DesignDrawing:
    """What the drawing of a design shows; rows are counted from 0.

    Args:
        resolved: the design.
        rows: its places in the order of the forward pass.
        arrows: what connects them.
        additions: (lane, row) of the sums of the exchanges.
        r0: shape and bytes of the pooled image; None where no module reads it.
        state_bytes: parameters, their optimizer's state and accumulated gradients.
        peak_place: the row with the operator at which most is alive.
        peak_bytes: how much, with the state.
        budget_bytes: what may be used in all; None where there is no budget.
    """

    resolved: ResolvedDesign
    rows: tuple[Row, ...]
    arrows: tuple[Arrow, ...]
    additions: tuple[tuple[float, float], ...]
    r0: tuple[tuple[int, ...], int] | None
    state_bytes: int
    peak_place: str
    peak_bytes: int
    budget_bytes: int | None

    def row_of(self, place: str) -> int | None:
        """Returns the row of a place, None where there is none."""
        return next((index for index, row in enumerate(self.rows) if row.place == place), None)


def create_drawing(explained: MemoryExplanation, *, budget_bytes: int | None = None) -> DesignDrawing:
    """Returns the drawing of a design and one step of its training (account arena)."""
    memory = explained.estimate
    state = memory.ram_bytes - memory.arena_bytes
    rows = tuple(_rows(explained, state))
    index_of = {row.place: index for index, row in enumerate(rows)}
    pooled = rows[0].memory
    return DesignDrawing(
        resolved=explained.resolved,
        rows=rows,
        arrows=tuple(_arrows(explained.resolved, index_of)),
        additions=tuple(_additions(explained.resolved, index_of)),
        r0=None if pooled is None else (pooled.shape, pooled.output_bytes),
        state_bytes=state,
        peak_place=explained.peak.place,
        peak_bytes=explained.peak.live_bytes + state,
        budget_bytes=budget_bytes,
    )


def drawing_rows(drawing: DesignDrawing) -> list[dict[str, Any]]:
    """Returns the data behind the drawing: a row per place, in bytes."""
    return [_data_row(row, drawing.state_bytes) for row in drawing.rows]


def _data_row(row: Row, state_bytes: int) -> dict[str, Any]:
    memory = row.memory
    return {
        "place": row.place,
        "kind": row.part.value,
        "output": row.dimensions,
        "output (bytes)": row.output_bytes,
        "kept for backward (bytes)": 0 if memory is None else memory.kept_bytes,
        "alive forward (bytes)": max((moment.alive_bytes for moment in row.forward), default=None),
        "alive backward (bytes)": max((moment.alive_bytes for moment in row.backward), default=None),
        "of these parameters and state (bytes)": state_bytes,
        "MACs forward": 0 if memory is None else memory.forward_macs,
        "MACs of the step": 0 if memory is None else memory.macs,
        "trainable parameters": 0 if memory is None else memory.trainable_parameters,
    }


def _rows(explained: MemoryExplanation, state_bytes: int) -> Iterator[Row]:
    graph, image = explained.graph, explained.graph.image()
    places = {memory.place: memory for memory in explained.places}
    moments: dict[tuple[str, bool], list[Moment]] = {}
    for index, (op, live) in enumerate(zip(graph.ops, explained.liveness.live_bytes, strict=True)):
        key = (op.place, index < graph.forward_ops)
        moments.setdefault(key, []).append(Moment(op.kind.value, live + state_bytes))
    for place in dict.fromkeys((IMAGE, *places)):
        memory = places.get(place)
        shape, size = (image.shape, image.size_bytes) if place == IMAGE or memory is None else _output(memory)
        forward, backward = (tuple(moments.get((place, direction), ())) for direction in (True, False))
        yield Row(place, _part(place, backward=bool(backward)), shape, size, memory, forward, backward)


def _output(memory: PlaceMemory) -> tuple[tuple[int, ...], int]:
    return memory.shape, memory.output_bytes


def _part(place: str, *, backward: bool) -> Part:
    if place == IMAGE:
        return Part.IMAGE
    if not place.startswith("block"):
        return Part.TRAINED
    return Part.GRADIENT if backward else Part.FORWARD_ONLY


def _additions(resolved: ResolvedDesign, index_of: dict[str, int]) -> Iterator[tuple[float, float]]:
    for number, module in enumerate(resolved.modules, start=1):
        row = index_of[f"module {number}"]
        yield (BACKBONE_LANE, row) if module.exchange.writes else (REPNET_LANE, row + _HALF)


def _arrows(resolved: ResolvedDesign, index_of: dict[str, int]) -> Iterator[Arrow]:
    blocks = [row for place, row in index_of.items() if not place.startswith("module")]
    for above, below in pairwise(blocks):
        yield Arrow(Flow.BACKBONE, ((BACKBONE_LANE, above), (BACKBONE_LANE, below)))
    if resolved.modules:
        yield Arrow(Flow.STREAM, ((_BESIDE_IMAGE, 0), (REPNET_LANE, 0)))
    source = (REPNET_LANE, 0.0)
    for number, module in enumerate(resolved.modules, start=1):
        row = index_of[f"module {number}"]
        yield from _into_module(module, source, index_of, row)
        yield from _out_of_module(module, row, is_read=_is_read(resolved, number))
        source = (REPNET_LANE, row + (0 if module.exchange is Exchange.TO_BACKBONE else _HALF))
    if resolved.head_reads_stream:
        yield Arrow(Flow.STREAM, (source, (REPNET_LANE, index_of["head"]), (BACKBONE_LANE, index_of["head"])))


def _is_read(resolved: ResolvedDesign, number: int) -> bool:
    """Returns whether anything reads the stream behind a module (counted from 1)."""
    if number == len(resolved.modules):
        return resolved.head_reads_stream
    return not resolved.modules[number].reads_block_input


def _into_module(
    module: ModuleShape, source: tuple[float, float], index_of: dict[str, int], row: int
) -> Iterator[Arrow]:
    """Yields what a module reads: the stream, or the merged feature in front of its connector's block."""
    end = (REPNET_LANE, float(row))
    if module.reads_block_input:
        above = index_of[f"block {module.after_block}"] - _HALF
        yield Arrow(Flow.READ, ((BACKBONE_LANE, above), (REPNET_LANE, above), end))
    else:
        yield Arrow(Flow.STREAM, (source, end))


def _out_of_module(module: ModuleShape, row: int, *, is_read: bool) -> Iterator[Arrow]:
    """Yields the exchange: what is written into b, and what the stream takes of b."""
    if module.exchange.writes:
        yield Arrow(Flow.WRITE, ((REPNET_LANE, row), (BACKBONE_LANE, row)))
    else:
        yield Arrow(Flow.STREAM, ((REPNET_LANE, row), (REPNET_LANE, row + _HALF)))
    if module.exchange is not Exchange.TO_BACKBONE and is_read:
        yield Arrow(Flow.READ, ((BACKBONE_LANE, row + _HALF), (REPNET_LANE, row + _HALF)))
