"""The `arena` account: what training a design needs in RAM on a lean runtime or a microcontroller's training engine.

RAM = placed arena + parameters + norm state + optimizer state + accumulated gradients. The reference kernels need no
scratch. Frozen weights and their folded biases stay in flash (flash.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from repnet_search.graph import Op, Schedule, Slopes, TrainingGraph, build_graph
from repnet_search.graph.tape import FLOAT_BYTES
from repnet_search.memory.arena import place_buffers
from repnet_search.memory.flash import FlashEstimate, estimate_flash
from repnet_search.memory.liveness import Liveness, compute_liveness
from repnet_search.memory.macs import count_int8_macs
from repnet_search.memory.parameters import gradient_bytes_per_parameter, optimizer_bytes_per_parameter
from repnet_search.spec.resolve import ResolvedDesign


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """The arena account of a design at one micro-batch, in bytes; `ram_bytes` is what a budget limits."""

    batch: int
    schedule: Schedule
    arena_bytes: int
    live_peak_bytes: int
    forward_peak_bytes: int
    backward_peak_bytes: int
    kept_bytes: int
    peak_place: str
    largest_buffer: str
    largest_buffer_bytes: int
    trainable_parameters: int
    parameter_bytes: int
    norm_state_bytes: int
    optimizer_bytes: int
    gradient_bytes: int
    flash: FlashEstimate
    forward_macs: int
    macs: int
    int8_macs: int
    slopes: Slopes = Slopes.EXACT

    @property
    def ram_bytes(self) -> int:
        """The training memory."""
        return sum(size for _, size in self.terms)

    @property
    def flash_bytes(self) -> int:
        """What a limit of flash holds for."""
        return self.flash.total_bytes

    @property
    def float_macs(self) -> int:
        """Multiply-accumulates in fp32 of the whole step."""
        return self.macs - self.int8_macs

    @property
    def terms(self) -> tuple[tuple[str, int], ...]:
        """The summands of the training memory with their names; those that are 0 are left out, but for the arena."""
        terms = (
            ("arena", self.arena_bytes),
            ("parameters", self.parameter_bytes),
            ("norm state", self.norm_state_bytes),
            ("optimizer state", self.optimizer_bytes),
            ("accumulated gradients", self.gradient_bytes),
        )
        return tuple((name, size) for name, size in terms if size or name == "arena")


def estimate_memory(
    resolved: ResolvedDesign,
    *,
    classes: int,
    batch: int = 1,
    schedule: Schedule = Schedule.LAYER,
    slopes: Slopes = Slopes.EXACT,
) -> MemoryEstimate:
    """Returns the arena account of a design.

    Args:
        resolved: the design in its explicit form.
        classes: outputs of the head.
        batch: images of a micro-batch; recipes train at 1.
        schedule: how the target runs the frozen backbone.
        slopes: how it keeps the slopes of smooth activations.

    Raises:
        SpecError: as `build_graph`.
    """
    graph = build_graph(resolved, classes=classes, batch=batch, schedule=schedule, slopes=slopes)
    liveness = compute_liveness(graph)
    return estimate_graph(resolved, graph, liveness, arena_bytes=place_buffers(liveness).size_bytes)


def estimate_lower_bound(resolved: ResolvedDesign, *, classes: int, schedule: Schedule = Schedule.LAYER) -> int:
    """Returns a bound that a design's training memory at micro-batch 1 cannot be below, in half the time."""
    graph = build_graph(resolved, classes=classes, schedule=schedule)
    liveness = compute_liveness(graph)
    return estimate_graph(resolved, graph, liveness, arena_bytes=liveness.peak_bytes).ram_bytes


def estimate_graph(
    resolved: ResolvedDesign, graph: TrainingGraph, liveness: Liveness, *, arena_bytes: int
) -> MemoryEstimate:
    """Returns the account of a step that is built already, with the arena as given."""
    recipe = resolved.design.recipe
    peak = liveness.peak_op
    alive = (buffer for buffer in liveness.buffers if buffer.first <= peak <= buffer.last)
    largest = max(alive, key=lambda buffer: buffer.size_bytes)
    parameters = graph.parameter_count
    return MemoryEstimate(
        batch=graph.batch,
        schedule=graph.schedule,
        arena_bytes=arena_bytes,
        live_peak_bytes=liveness.peak_bytes,
        forward_peak_bytes=liveness.forward_peak_bytes,
        backward_peak_bytes=liveness.backward_peak_bytes,
        kept_bytes=liveness.kept_bytes,
        peak_place=_describe(graph.ops[peak], forward=peak < graph.forward_ops),
        largest_buffer=largest.name,
        largest_buffer_bytes=largest.size_bytes,
        trainable_parameters=parameters,
        parameter_bytes=parameters * FLOAT_BYTES,
        norm_state_bytes=graph.norm_state_elements * FLOAT_BYTES,
        optimizer_bytes=parameters * optimizer_bytes_per_parameter(recipe),
        gradient_bytes=parameters * gradient_bytes_per_parameter(recipe),
        flash=estimate_flash(
            resolved.table,
            activation_bits=resolved.design.activation_bits,
            train_bias=resolved.design.train_bias,
            trained_elements=parameters + graph.norm_state_elements,
        ),
        forward_macs=graph.forward_macs,
        macs=graph.macs,
        int8_macs=count_int8_macs(graph),
        slopes=graph.slopes,
    )


def _describe(op: Op, *, forward: bool) -> str:
    if op.kind.value.endswith("backward"):
        return f"{op.place}, {op.kind.value}"
    return f"{op.place}, {op.kind.value}, {'forward' if forward else 'backward'}"
