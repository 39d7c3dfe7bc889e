"""Multiply-accumulates by data type, and the time that a training step takes on a board by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repnet_search.boards import Board
from repnet_search.graph import TrainingGraph

if TYPE_CHECKING:
    from repnet_search.memory.estimate import MemoryEstimate


def count_int8_macs(graph: TrainingGraph) -> int:
    """Returns the multiply-accumulates in int8: those of frozen forward operators that write int8.

    Everything else runs in fp32: modules, head, and the whole backward pass, also through an int8 backbone.
    """
    forward = graph.ops[: graph.forward_ops]
    frozen = (op for op in forward if op.parameters and not op.weight_trains)
    outputs = ((op, graph.tensors[op.writes[0]]) for op in frozen)
    return sum(op.macs for op, output in outputs if output.size_bytes == output.elements)


def estimate_step_seconds(memory: MemoryEstimate, board: Board) -> float:
    """Returns how long a training step takes on a board, as an order of magnitude.

    Of one micro-batch, by its MACs and the core's cycles per MAC (boards.py). Norms, resizing, masks and the update of
    the parameters are not counted: they are small beside it.
    """
    core = board.core
    cycles = memory.int8_macs * core.int8_mac_cycles + memory.float_macs * core.float_mac_cycles
    return cycles / board.clock_hz
