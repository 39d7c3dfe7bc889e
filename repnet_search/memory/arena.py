"""Placing a step's buffers into one arena.

Greedy by size, as in TensorFlow Lite Micro's memory planner: the largest buffer first, each at the lowest offset at
which it overlaps no buffer that is alive at the same time. The live sum is the lower bound of what this can reach.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass

from repnet_search.memory.liveness import Buffer, Liveness


@dataclass(frozen=True, slots=True)
class Arena:
    """A placement: the offset of every buffer of the liveness, in its order, and the bytes needed in all."""

    offsets: tuple[int, ...]
    size_bytes: int


def place_buffers(liveness: Liveness) -> Arena:
    """Returns the greedy placement of a step's buffers."""
    buffers = liveness.buffers
    order = sorted(range(len(buffers)), key=lambda index: _priority(buffers[index]))
    offsets = [0] * len(buffers)
    placed: list[tuple[int, int, int, int]] = []  # (offset, end, first, last), ascending in offset
    size_bytes = 0
    for index in order:
        buffer = buffers[index]
        offset = _lowest_gap(placed, buffer)
        end = offset + buffer.size_bytes
        offsets[index] = offset
        insort(placed, (offset, end, buffer.first, buffer.last))
        size_bytes = max(size_bytes, end)
    return Arena(tuple(offsets), size_bytes)


def _priority(buffer: Buffer) -> tuple[int, int, int]:
    return -buffer.size_bytes, buffer.first, buffer.last


def _lowest_gap(placed: list[tuple[int, int, int, int]], buffer: Buffer) -> int:
    """Returns the lowest offset with room among the placed buffers that live at the same time."""
    size, first, last = buffer.size_bytes, buffer.first, buffer.last
    offset = 0
    for start, end, placed_first, placed_last in placed:
        if placed_first > last or placed_last < first:
            continue
        if start - offset >= size:
            break
        if end > offset:
            offset = end
    return offset
