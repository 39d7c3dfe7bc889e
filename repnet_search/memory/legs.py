"""Legs: the blocks between two connectors, reduced to two peaks and what they keep, for every start, end and state."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from repnet_search.backbones import BlockTable
from repnet_search.graph.tape import FLOAT_BYTES
from repnet_search.memory.segments import NO_OPERATOR, Segment, Target, measure_block


class Hold(IntEnum):
    """What a leg holds for the module at its end.

    APART: nothing, or a stream that has a storage of its own. START: the feature that it starts from, which is the
    stream (`both`). END: the input of its last block (`block_input`).
    """

    APART = 0
    START = 1
    END = 2


class Path(IntEnum):
    """The gradient path of a leg: none passes; one passes; the biases train, without or with whole gradients."""

    NONE = 0
    FROZEN = 1
    BIAS = 2
    BIAS_WHOLE = 3


@dataclass(frozen=True, slots=True)
class LegTable:
    """A row per leg: from block `start` to the block of the connector, or to the head, which counts as block L.

    Columns: the forward and the backward peak and what is kept, without what lives elsewhere; and the bytes of what the
    leg holds for its module.
    """

    blocks: int
    forward_peak: NDArray[np.int64]
    backward_peak: NDArray[np.int64]
    kept: NDArray[np.int64]
    held: NDArray[np.int64]

    @staticmethod
    def count(blocks: int) -> int:
        """Returns the rows for a backbone of so many blocks."""
        return (blocks + 1) ** 2 * len(Hold) * len(Path)


COLUMNS = ("forward_peak", "backward_peak", "kept", "held")


def create_leg_table(table: BlockTable, *, resolution: int, target: Target) -> LegTable:
    """Returns the legs of a backbone at a resolution."""
    count = len(table.blocks)
    rows = np.zeros((LegTable.count(count), len(COLUMNS)), dtype=np.int64)
    rows[:, :2] = NO_OPERATOR
    shaped = rows.reshape(count + 1, count + 1, len(Hold), len(Path), len(COLUMNS))
    for path in Path:
        blocks = _Blocks(table, resolution, target, path)
        for start in range(count + 1):
            _fill(shaped[start, :, :, path], blocks, start)
    return LegTable(count, *(np.ascontiguousarray(column) for column in rows.T))


class _Blocks:
    """The segments of all blocks on one gradient path, their inputs held or not."""

    def __init__(self, table: BlockTable, resolution: int, target: Target, path: Path) -> None:
        sizes = table.output_sizes(resolution)
        self.features: list[int] = []
        self.gradients: list[int] = []
        self.free: list[Segment | None] = []
        self.held: list[Segment | None] = []
        for index, block in enumerate(table.blocks):
            if block.is_identity:
                self.free.append(None)
                self.held.append(None)
                self.features.append(self.features[-1])
            else:
                free, held = (
                    measure_block(
                        table,
                        index,
                        input_size=sizes[index - 1] if index else resolution,
                        target=target,
                        tracked=path is Path.FROZEN or (path is not Path.NONE and index > 0),
                        train_bias=path in (Path.BIAS, Path.BIAS_WHOLE),
                        whole_gradients=path is Path.BIAS_WHOLE,
                        held=is_held,
                    )
                    for is_held in (False, True)
                )
                self.free.append(free)
                self.held.append(held)
                self.features.append(free.feature)
            self.gradients.append(target.batch * block.channels * sizes[index] ** 2 * FLOAT_BYTES)


def _fill(legs: NDArray[np.int64], blocks: _Blocks, start: int) -> None:
    """Fills all legs that begin at one block: `legs` has an axis for the end, one for what is held, one of columns."""
    apart = _Running()
    from_start = _Running()
    for end, (free, held) in enumerate(zip(blocks.free[start:], blocks.held[start:], strict=True), start=start):
        if free is None or held is None:
            continue
        if end > 0:
            at_end = apart.then(held)
            legs[end, Hold.END] = *at_end.row(), blocks.features[end - 1]
        if start > 0:
            # The first block's input is what is held; behind it, it is alive beside everything.
            feature, gradient = blocks.features[start - 1], blocks.gradients[start - 1]
            first = apart.blocks == 0
            from_start = from_start.then(held) if first else from_start.then(free, forward=feature, backward=gradient)
            legs[end, Hold.START] = *from_start.row(), feature
        apart = apart.then(free)
        legs[end, Hold.APART] = *apart.row(), 0
    legs[len(blocks.free), Hold.APART] = *apart.row(), 0


@dataclass(frozen=True, slots=True)
class _Running:
    """The peaks of the blocks so far and what they keep."""

    forward_peak: int = NO_OPERATOR
    backward_peak: int = NO_OPERATOR
    kept: int = 0
    blocks: int = 0

    def then(self, segment: Segment, *, forward: int = 0, backward: int = 0) -> _Running:
        """Returns the same with a block more, beside which `forward` and `backward` bytes are alive."""
        return _Running(
            max(self.forward_peak, self.kept + forward + int(segment.forward_peak)),
            max(self.backward_peak, self.kept + backward + int(segment.backward_peak)),
            self.kept + int(segment.kept),
            self.blocks + 1,
        )

    def row(self) -> tuple[int, int, int]:
        """Returns the columns that they share."""
        return self.forward_peak, self.backward_peak, self.kept
