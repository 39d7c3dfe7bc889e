"""Segments of a training step: a block, a module with its exchange, or the head, each on a tape of its own.

The step of a design is a chain of such segments, and its backward pass goes through them in the exact reverse order. So
the live bytes at an operator are what the segments in front of it keep, plus what is alive inside its own segment. The
emitters are those of `build_graph`, the live sum is that of `compute_liveness`: nothing is counted by a second rule.
Markers, which are no operators of the step, hold alive what the neighbours hand over at a segment's ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from repnet_search.backbones import BlockTable
from repnet_search.graph import Op, OpKind, Role, Schedule, Slopes, TrainingGraph
from repnet_search.graph.backbone import BackboneEmitter
from repnet_search.graph.head import emit_head
from repnet_search.graph.module import emit_module
from repnet_search.graph.tape import FLOAT_BYTES, Tape
from repnet_search.memory.liveness import align, compute_liveness
from repnet_search.spec.shapes import IMAGE_CHANNELS, ModuleShape

NO_OPERATOR = -(1 << 50)
"""The peak of a segment that has no operator: below everything, also after additions."""

Bytes: TypeAlias = int | NDArray[np.int64]
"""One size, or those of a family of modules."""


@dataclass(frozen=True, slots=True)
class Target:
    """What decides the bytes of a step beside its design: micro-batch, bits of the backbone, schedule, kept slopes."""

    batch: int
    activation_bits: int
    schedule: Schedule
    slopes: Slopes = Slopes.EXACT

    @property
    def backbone_bytes(self) -> int:
        """Bytes of an activation of the frozen backbone."""
        return 1 if self.activation_bits == 8 else FLOAT_BYTES


@dataclass(frozen=True, slots=True)
class Segment:
    """The bytes of a segment, without those of the stream that it reads, which come from elsewhere.

    Args:
        reading_peak: the largest live sum of the forward operators up to the last one that reads the stream.
        forward_peak: that of the forward operators behind it; all of them in a segment that reads no stream.
        backward_peak: that of the backward operators.
        kept: what the backward pass needs.
        keeps_source: whether the stream is kept too.
        stream: what the segment hands on as its stream beyond what it keeps itself; 0 where b is the stream.
        stream_gradient: the gradient of that stream.
        feature: the block's output b.
        parameters: trainable elements.
        norm_state: running statistics, in elements.
    """

    reading_peak: Bytes
    forward_peak: Bytes
    backward_peak: Bytes
    kept: Bytes
    keeps_source: bool = False
    stream: Bytes = 0
    stream_gradient: Bytes = 0
    feature: int = 0
    parameters: Bytes = 0
    norm_state: Bytes = 0


def measure_block(
    table: BlockTable,
    index: int,
    *,
    input_size: int,
    target: Target,
    tracked: bool,
    train_bias: bool,
    whole_gradients: bool,
    held: bool,
) -> Segment:
    """Returns the segment of a block that is no identity.

    Args:
        table: the backbone.
        index: the block.
        input_size: the side of the map that it reads.
        target: batch, bits and schedule.
        tracked: whether its input is on the gradient path.
        train_bias: whether its biases train.
        whole_gradients: whether an update needs a tensor's whole gradient.
        held: whether a later module reads its input too; that module's gradient is then there already.
    """
    segment = _SegmentTape(target, whole_gradients=whole_gradients)
    tape = segment.tape
    channels = table.blocks[index - 1].channels if index else IMAGE_CHANNELS
    element_bytes = target.backbone_bytes if index else 1
    shape = (channels, input_size, input_size)
    source = tape.tensor("input", shape, Role.BACKBONE if index else Role.IMAGE, element_bytes=element_bytes)
    if tracked:
        tape.track(source)
    segment.mark(source)
    emitter = BackboneEmitter(tape, table, train_bias=train_bias, schedule=target.schedule, slopes=target.slopes)
    output = emitter.emit(index, source, held=held)
    held_source = (source,) if held else ()
    with_gradient = tuple(value for value in (output, *held_source) if tape.needs_gradient(value))
    segment.turn(hands_on=(output, *held_source), gradients_of=with_gradient)
    return segment.finish(gradients_of=(source,) if tracked else (), feature=output)


def measure_module(
    shape: ModuleShape, *, target: Target, first: bool, feature_tracked: bool, whole_gradients: bool
) -> Segment:
    """Returns the segment of a module and its exchange; the sizes in `shape` may be arrays over a family.

    Args:
        shape: the module.
        target: batch, bits and schedule.
        first: whether it is module 1, whose input r_0 needs no gradient.
        feature_tracked: whether b is on the gradient path in front of the exchange.
        whole_gradients: whether an update needs a tensor's whole gradient.
    """
    segment = _SegmentTape(target, whole_gradients=whole_gradients)
    tape = segment.tape
    source = tape.tensor("source", (shape.in_channels, shape.in_size, shape.in_size), Role.REPNET, element_bytes=0)
    feature_shape = (shape.out_channels, shape.out_size, shape.out_size)
    feature = tape.tensor("feature", feature_shape, Role.BACKBONE, element_bytes=target.backbone_bytes)
    if not first:
        tape.track(source)
    if feature_tracked:
        tape.track(feature)
    segment.mark(source, feature)
    merged, stream = emit_module(tape, shape, index=0 if first else 1, source=source, feature=feature)
    streams = (stream,) if stream != merged else ()
    segment.turn(
        hands_on=(merged, *streams),
        gradients_of=((merged,) if tape.needs_gradient(merged) else ()) + streams,
    )
    tracked = ((feature,) if feature_tracked else ()) + (() if first else (source,))
    return segment.finish(gradients_of=tracked, source=source, streams=streams)


def measure_head(
    feature: tuple[int, int],
    *,
    stream: tuple[int, int] | None,
    classes: int,
    target: Target,
    feature_tracked: bool,
    whole_gradients: bool,
) -> Segment:
    """Returns the segment of the head and the loss.

    Args:
        feature: channels and map side of b.
        stream: those of r_n, where the head reads it.
        classes: outputs of the head.
        target: batch, bits and schedule.
        feature_tracked: whether b is on the gradient path.
        whole_gradients: whether an update needs a tensor's whole gradient.
    """
    segment = _SegmentTape(target, whole_gradients=whole_gradients)
    tape = segment.tape
    channels, size = feature
    pooled = tape.tensor("feature", (channels, size, size), Role.BACKBONE, element_bytes=target.backbone_bytes)
    if feature_tracked:
        tape.track(pooled)
    streams: tuple[int, ...] = ()
    if stream is not None:
        channels, size = stream
        streams = (tape.tensor("stream", (channels, size, size), Role.REPNET, element_bytes=0),)
        tape.track(streams[0])
    segment.mark(pooled, *streams)
    emit_head(tape, (pooled, *streams), classes=classes)
    segment.turn(hands_on=(), gradients_of=())
    tracked = ((pooled,) if feature_tracked else ()) + streams
    return segment.finish(gradients_of=tracked, source=streams[0] if streams else None)


class _SegmentTape:
    """A tape with markers: what comes in, [forward], what goes on, nothing, gradients in, [backward], gradients out."""

    def __init__(self, target: Target, *, whole_gradients: bool) -> None:
        self.tape = Tape(batch=target.batch, backbone_bytes=target.backbone_bytes, whole_gradients=whole_gradients)
        self.turned = 0
        self.backward_start = 0

    def mark(self, *values: int) -> None:
        """Holds values alive at this point; the marker's kind is of no account."""
        self.tape.emit(Op(OpKind.GRADIENT_ADD, "marker", values, ()))

    def turn(self, *, hands_on: tuple[int, ...], gradients_of: tuple[int, ...]) -> None:
        """Ends the forward pass and runs the backward pass, given the gradients that the neighbours contribute."""
        self.turned = len(self.tape.ops)
        self.mark(*hands_on)
        self.mark()
        self.mark(*(self.tape.contribute(value)[0] for value in gradients_of))
        self.backward_start = len(self.tape.ops)
        self.tape.run_backward()

    def finish(
        self,
        *,
        gradients_of: tuple[int, ...],
        source: int | None = None,
        streams: tuple[int, ...] = (),
        feature: int | None = None,
    ) -> Segment:
        """Hands out the gradients, and returns the segment."""
        tape = self.tape
        backward_end = len(tape.ops)
        self.mark(*(tape.gradient(value) for value in gradients_of))
        graph = TrainingGraph(tape.tensors, tape.ops, self.turned, tape.batch, (), 0)
        live = compute_liveness(graph).live_bytes
        reads = self._touches(source) if source is not None else []
        keeps_source = any(index > self.turned for index in reads)
        last_read = self.turned if keeps_source else max(reads, default=0)
        loose = [stream for stream in streams if not any(index > self.turned for index in self._touches(stream))]
        return Segment(
            reading_peak=_peak(live[1 : last_read + 1 if not keeps_source else self.turned]),
            forward_peak=_peak(live[last_read + 1 : self.turned]),
            backward_peak=_peak(live[self.backward_start : backward_end]),
            kept=live[self.turned + 1],
            keeps_source=keeps_source,
            stream=sum(align(tape.tensors[stream].size_bytes) for stream in loose),
            stream_gradient=sum(tape.tensors[tape.gradient(stream)].size_bytes for stream in streams),
            feature=align(tape.tensors[feature].size_bytes) if feature is not None else 0,
            parameters=sum(parameter.elements for parameter in tape.parameters if parameter.trains),
            norm_state=tape.norm_state_elements,
        )

    def _touches(self, value: int) -> list[int]:
        """Returns the operators that touch a value's storage."""
        tensors = self.tape.tensors
        storage = tensors[value].storage
        return [
            index
            for index, op in enumerate(self.tape.ops)
            if any(tensors[touched].storage == storage for touched in op.reads + op.writes)
        ]


def _peak(live: tuple[Bytes, ...]) -> Bytes:
    peak: Bytes = NO_OPERATOR
    for size in live:
        peak = cast(Bytes, np.maximum(peak, size))
    return peak
