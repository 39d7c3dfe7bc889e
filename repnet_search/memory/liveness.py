"""Which bytes are alive when: lifetimes of storages over the schedule, their sum at every operator, and its peaks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from repnet_search.graph import Role, TrainingGraph

ALIGNMENT_BYTES = 4


def align(size_bytes: int) -> int:
    """Returns a size rounded up to what a buffer takes.

    >>> align(5)
    8
    """
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


class Buffer(NamedTuple):
    """A storage with its size and the first and last operator that touch it."""

    name: str
    role: Role
    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Liveness:
    """Buffers of a step in the order of their first use, and the live bytes at every operator."""

    buffers: tuple[Buffer, ...]
    live_bytes: tuple[int, ...]
    forward_ops: int

    @property
    def peak_bytes(self) -> int:
        """The largest live sum of the step, which no placement can go below."""
        return max(self.live_bytes)

    @property
    def peak_op(self) -> int:
        """The first operator at which the peak is reached."""
        return self.live_bytes.index(self.peak_bytes)

    @property
    def forward_peak_bytes(self) -> int:
        """The largest live sum of the forward pass."""
        return max(self.live_bytes[: self.forward_ops])

    @property
    def backward_peak_bytes(self) -> int:
        """The largest live sum of the backward pass."""
        return max(self.live_bytes[self.forward_ops :])

    @property
    def kept_bytes(self) -> int:
        """What the forward pass keeps for the backward pass."""
        start = self.forward_ops
        return sum(buffer.size_bytes for buffer in self.buffers if buffer.first < start <= buffer.last)

    def forward_peak_bytes_without(self, *roles: Role) -> int:
        """Returns the largest live sum of the forward pass, buffers of some roles left out."""
        left_out = [0] * len(self.live_bytes)
        for buffer in self.buffers:
            if buffer.role in roles:
                for op in range(buffer.first, buffer.last + 1):
                    left_out[op] += buffer.size_bytes
        return max(live - out for live, out in zip(self.live_bytes[: self.forward_ops], left_out, strict=False))

    def alive_at(self, op: int) -> tuple[Buffer, ...]:
        """Returns the buffers alive at an operator, largest first."""
        alive = [buffer for buffer in self.buffers if buffer.first <= op <= buffer.last]
        return tuple(sorted(alive, key=lambda buffer: -buffer.size_bytes))


def compute_liveness(graph: TrainingGraph) -> Liveness:
    """Returns the lifetimes of a step: from the operator that makes a value to the last one that reads it."""
    storage_of = [tensor.storage for tensor in graph.tensors]
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for index, op in enumerate(graph.ops):
        for touched in op.reads + op.writes:
            storage = storage_of[touched]
            last[storage] = index
            if storage not in first:
                first[storage] = index
    changes = [0] * (len(graph.ops) + 1)
    buffers = []
    for storage, start in first.items():
        tensor = graph.tensors[storage]
        size = align(tensor.size_bytes)
        buffers.append(Buffer(tensor.name, tensor.role, size, start, last[storage]))
        changes[start] += size
        changes[last[storage] + 1] -= size
    live = tuple(accumulate(changes))[:-1]
    return Liveness(tuple(buffers), live, graph.forward_ops)
