"""The arena as real bytes: every tensor of a step is a view into one byte array of the planned size.

Whatever no operator has written is poison, again before a buffer's first and after its last use: NaN in float32, every
other bit of a mask, large codes in int8. So a value that is read too early or too late cannot pass for a number, or it
shows as codes and gradients that the model does not have. An operator gets at the bytes through `OpAccess` alone, which
refuses what the op list does not name.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from torch import Tensor

from repnet_search.errors import RepnetSearchError
from repnet_search.graph import TrainingGraph
from repnet_search.memory import Arena, compute_liveness
from repnet_search.memory.liveness import align

POISON = 0xFFA5A5A5 - (1 << 32)
"""As an int32; buffers begin and end at multiples of 4 bytes."""


class ArenaViolationError(RepnetSearchError):
    """A kernel touched what its operator does not name, or found kept bytes overwritten: op list or plan is wrong."""


class ArenaMemory:
    """One byte array of exactly the planned size."""

    def __init__(self, graph: TrainingGraph, arena: Arena, *, forgets: bool) -> None:
        """Fills the arena with poison.

        Args:
            graph: the step.
            arena: a placement of its buffers.
            forgets: whether a buffer is poisoned right after its last use, not only before its first.
        """
        self.graph = graph
        self.bytes = torch.full((arena.size_bytes // 4,), POISON, dtype=torch.int32).view(torch.uint8)
        self.touched_bytes = 0
        buffers = compute_liveness(graph).buffers
        # The liveness lists buffers in the order of their first use.
        used = (graph.tensors[index].storage for op in graph.ops for index in op.reads + op.writes)
        storages = list(dict.fromkeys(used))
        self._spans = {
            storage: (offset, offset + buffer.size_bytes)
            for storage, buffer, offset in zip(storages, buffers, arena.offsets, strict=True)
        }
        self._fresh: defaultdict[int, list[int]] = defaultdict(list)
        self._ended: defaultdict[int, list[int]] = defaultdict(list)
        for storage, buffer in zip(storages, buffers, strict=True):
            self._fresh[buffer.first].append(storage)
            if forgets:
                self._ended[buffer.last].append(storage)

    def load_image(self, images: Tensor) -> None:
        """Puts uint8 images (N, 3, H, W) where the step expects them, and poison everywhere else."""
        self.bytes.view(torch.int32).fill_(POISON)
        self.raw(0).copy_(images.flatten())

    def begin(self, op: int) -> None:
        """Poisons the buffers that an operator is the first to use; the image is there already."""
        for storage in self._fresh[op]:
            if storage:
                self._poison(storage)

    def end(self, op: int) -> None:
        """Poisons the buffers that an operator was the last to use."""
        for storage in self._ended[op]:
            self._poison(storage)

    def _poison(self, storage: int) -> None:
        start, end = self._spans[storage]
        self.bytes[start:end].view(torch.int32).fill_(POISON)

    def raw(self, tensor: int) -> Tensor:
        """Returns a tensor's bytes, uint8."""
        value = self.graph.tensors[tensor]
        start, _ = self._spans[value.storage]
        self.touched_bytes = max(self.touched_bytes, start + align(value.size_bytes))
        return self.bytes[start : start + value.size_bytes]

    def span(self, tensor: int) -> tuple[int, int]:
        """Returns where the storage of a tensor begins and ends in the arena."""
        return self._spans[self.graph.tensors[tensor].storage]


class OpAccess:
    """What one operator may touch: it reads what it names as read or written, and writes what it names as written."""

    def __init__(self, memory: ArenaMemory, op: int) -> None:
        """Begins the operator: what it is the first to use is poison."""
        self._memory = memory
        self._index = op
        self._op = memory.graph.ops[op]
        memory.begin(op)
        self._before = memory.bytes.clone()

    def finish(self) -> None:
        """Ends the operator.

        Raises:
            ArenaViolationError: a byte outside what the operator names as written has changed.
        """
        memory = self._memory
        for tensor in self._op.writes:
            start, end = memory.span(tensor)
            self._before[start:end] = memory.bytes[start:end]
        if not torch.equal(self._before, memory.bytes):
            raise ArenaViolationError(f"{self._place()} changed bytes of a tensor that it does not name as written.")
        memory.end(self._index)

    def read(self, tensor: int) -> Tensor:
        """Returns a float32 tensor in its shape, not to be changed."""
        return self._floats(tensor, self._readable(tensor))

    def write(self, tensor: int) -> Tensor:
        """Returns a float32 tensor in its shape, to be changed in place."""
        return self._floats(tensor, self._writable(tensor))

    def read_bytes(self, tensor: int) -> Tensor:
        """Returns a uint8 tensor in its shape, not to be changed."""
        return self._readable(tensor).view(self._memory.graph.tensors[tensor].shape)

    def write_bytes(self, tensor: int) -> Tensor:
        """Returns a uint8 tensor in its shape, to be changed in place."""
        return self._writable(tensor).view(self._memory.graph.tensors[tensor].shape)

    def read_codes(self, tensor: int) -> Tensor:
        """Returns an int8 tensor in its shape, not to be changed."""
        return self.read_bytes(tensor).view(torch.int8)

    def write_codes(self, tensor: int) -> Tensor:
        """Returns an int8 tensor in its shape, to be changed in place."""
        return self.write_bytes(tensor).view(torch.int8)

    def write_sums(self, tensor: int) -> Tensor:
        """Returns an int32 tensor in its shape, to be changed in place."""
        return self._writable(tensor).view(torch.int32).view(self._memory.graph.tensors[tensor].shape)

    def read_bits(self, tensor: int, *, start: int = 0, count: int | None = None) -> Tensor:
        """Returns `count` bits of a mask from element `start` on (all of them without a count), bool and flat."""
        packed = self._readable(tensor)
        count = self._memory.graph.tensors[tensor].elements if count is None else count
        first, last = start // 8, (start + count + 7) // 8
        bits = np.unpackbits(packed[first:last].numpy())
        return torch.from_numpy(bits[start - 8 * first :][:count].astype(np.bool_))

    def write_bits(self, tensor: int, values: Tensor, *, start: int = 0) -> None:
        """Sets the bits of a mask from element `start` on to flat bool values; their neighbours stay."""
        packed = self._writable(tensor)
        first, last = start // 8, (start + len(values) + 7) // 8
        bits = np.unpackbits(packed[first:last].numpy())
        begin = start - 8 * first
        bits[begin : begin + len(values)] = values.numpy()
        packed[first:last] = torch.from_numpy(np.packbits(bits))

    def _floats(self, tensor: int, raw: Tensor) -> Tensor:
        return raw.view(torch.float32).view(self._memory.graph.tensors[tensor].shape)

    def _readable(self, tensor: int) -> Tensor:
        if tensor not in self._op.reads and tensor not in self._op.writes:
            raise ArenaViolationError(f"{self._place()} does not name {self._name(tensor)} as read.")
        return self._memory.raw(tensor)

    def _writable(self, tensor: int) -> Tensor:
        if tensor not in self._op.writes:
            raise ArenaViolationError(f"{self._place()} does not name {self._name(tensor)} as written.")
        return self._memory.raw(tensor)

    def _place(self) -> str:
        return f"Operator {self._index} ({self._op.place}, {self._op.kind.value})"

    def _name(self, tensor: int) -> str:
        return f"tensor {tensor} ({self._memory.graph.tensors[tensor].name!r})"
