"""Where a design's training memory goes: what is alive at the peak, and what every block and module takes."""

from __future__ import annotations

from dataclasses import dataclass

from repnet_search.graph import OpKind, Role, Schedule, Slopes, TrainingGraph, build_graph
from repnet_search.memory.arena import Arena, place_buffers
from repnet_search.memory.estimate import MemoryEstimate, estimate_graph
from repnet_search.memory.liveness import Buffer, Liveness, compute_liveness
from repnet_search.spec.resolve import ResolvedDesign


@dataclass(frozen=True, slots=True)
class AliveBuffer:
    """A buffer at the peak: its name, role, shape and bytes, and the places of its first and its last operator."""

    name: str
    role: Role
    shape: tuple[int, ...]
    size_bytes: int
    first_place: str
    last_place: str


@dataclass(frozen=True, slots=True)
class Peak:
    """The operator at which most bytes are alive, and the buffers that are, largest first."""

    op: int
    place: str
    kind: OpKind
    is_forward: bool
    live_bytes: int
    alive: tuple[AliveBuffer, ...]


@dataclass(frozen=True, slots=True)
class PlaceMemory:
    """What one block or module takes in a step.

    Args:
        place: the block or module.
        shape: its output, (N, C, H, W) or (N, C).
        output_bytes: of that output.
        kept_bytes: of what it makes and the backward pass still needs, masks included.
        mask_bytes: the masks among them.
        forward_peak_bytes: the most bytes alive anywhere while it runs forward.
        backward_peak_bytes: the same while it runs backward; None where no gradient comes by.
        forward_macs: multiply-accumulates of the forward pass.
        macs: multiply-accumulates of the whole step.
        trainable_parameters: its own.
    """

    place: str
    shape: tuple[int, ...]
    output_bytes: int
    kept_bytes: int
    mask_bytes: int
    forward_peak_bytes: int
    backward_peak_bytes: int | None
    forward_macs: int
    macs: int
    trainable_parameters: int


@dataclass(frozen=True, slots=True)
class MemoryExplanation:
    """One training step with its account, its lifetimes and its placement."""

    resolved: ResolvedDesign
    estimate: MemoryEstimate
    graph: TrainingGraph
    liveness: Liveness
    arena: Arena

    @property
    def peak(self) -> Peak:
        """The first operator at which most bytes are alive."""
        index = self.liveness.peak_op
        op = self.graph.ops[index]
        alive = [position for position, buffer in enumerate(self.liveness.buffers) if _is_alive(buffer, index)]
        alive.sort(key=lambda position: -self.liveness.buffers[position].size_bytes)
        storages = list_storages(self.graph)
        return Peak(
            op=index,
            place=op.place,
            kind=op.kind,
            is_forward=index < self.graph.forward_ops,
            live_bytes=self.liveness.peak_bytes,
            alive=tuple(self._describe(position, storages[position]) for position in alive),
        )

    @property
    def places(self) -> tuple[PlaceMemory, ...]:
        """Every place of the forward pass in its order.

        Kept bytes, MACs and parameters add up to the step's; the largest of the peaks is the step's.
        """
        names = dict.fromkeys(op.place for op in self.graph.ops[: self.graph.forward_ops])
        return tuple(self._place(name) for name in names)

    def _describe(self, position: int, storage: int) -> AliveBuffer:
        buffer, ops = self.liveness.buffers[position], self.graph.ops
        shape = self.graph.tensors[storage].shape
        return AliveBuffer(
            buffer.name, buffer.role, shape, buffer.size_bytes, ops[buffer.first].place, ops[buffer.last].place
        )

    def _place(self, name: str) -> PlaceMemory:
        graph, live, turn = self.graph, self.liveness.live_bytes, self.graph.forward_ops
        own = [index for index, op in enumerate(graph.ops) if op.place == name]
        forward = [index for index in own if index < turn]
        backward = [index for index in own if index >= turn]
        output = graph.tensors[graph.ops[forward[-1]].writes[0]]
        made = [buffer for buffer in self.liveness.buffers if buffer.first < turn <= buffer.last]
        kept = [buffer for buffer in made if graph.ops[buffer.first].place == name]
        return PlaceMemory(
            place=name,
            shape=output.shape,
            output_bytes=output.size_bytes,
            kept_bytes=sum(buffer.size_bytes for buffer in kept),
            mask_bytes=sum(buffer.size_bytes for buffer in kept if buffer.role is Role.MASK),
            forward_peak_bytes=max(live[index] for index in forward),
            backward_peak_bytes=max((live[index] for index in backward), default=None),
            forward_macs=sum(graph.ops[index].macs for index in forward),
            macs=sum(graph.ops[index].macs for index in own),
            trainable_parameters=sum(
                parameter.elements for index in forward for parameter in graph.ops[index].parameters if parameter.trains
            ),
        )


def explain_memory(
    resolved: ResolvedDesign,
    *,
    classes: int,
    batch: int = 1,
    schedule: Schedule = Schedule.LAYER,
    slopes: Slopes = Slopes.EXACT,
) -> MemoryExplanation:
    """Returns a design's account (arena) with all that it comes from.

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
    arena = place_buffers(liveness)
    estimate = estimate_graph(resolved, graph, liveness, arena_bytes=arena.size_bytes)
    return MemoryExplanation(resolved, estimate, graph, liveness, arena)


def list_storages(graph: TrainingGraph) -> tuple[int, ...]:
    """Returns the storage (a tensor index) of every buffer of `compute_liveness`, in its order."""
    touched = (graph.tensors[index].storage for op in graph.ops for index in op.reads + op.writes)
    return tuple(dict.fromkeys(touched))


def _is_alive(buffer: Buffer, op: int) -> bool:
    return buffer.first <= op <= buffer.last
