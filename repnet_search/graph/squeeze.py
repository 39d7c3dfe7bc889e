"""Squeeze-and-excitation as operators: the map's means, two frozen 1×1 convolutions, and the scaled map.

With v = u ⊙ s, u the map and s the gate: the gradient of u is g ⊙ s and that of s the sum of g ⊙ u over each map, so
both are kept. s is kept as itself, and its gate's slope follows from it without a mask. u is kept as itself too, unless
it is the output of a smooth activation whose input is kept anyway: then it is made again from that, element by element.
"""

from __future__ import annotations

from functools import partial

from repnet_search.backbones import Activation
from repnet_search.graph.ops import Op, OpKind, Role
from repnet_search.graph.tape import Tape


def emit_squeeze(tape: Tape, source: int, *, place: str, name: str) -> int:
    """Emits the means of a map's channels, as a map of 1×1; returns it."""
    channels = tape.tensors[source].shape[1]
    output = tape.tensor(name, (channels, 1, 1), Role.BACKBONE, element_bytes=tape.backbone_bytes)
    needs = tape.needs_gradient(source)
    op = Op(OpKind.SQUEEZE, place, (source,), (output,), input_needs_gradient=needs, output_needs_gradient=needs)
    if needs:
        tape.track(output)
    tape.emit(op, partial(_squeeze_backward, tape) if needs else None)
    return output


def _squeeze_backward(tape: Tape, op: Op) -> None:
    target, also_read = tape.contribute(op.reads[0])
    tape.emit(Op(OpKind.SQUEEZE_BACKWARD, op.place, (tape.gradient(op.writes[0]), *also_read), (target,)))


def emit_channel_scale(
    tape: Tape, source: int, gate: int, *, place: str, name: str, remade: tuple[int, Activation] | None, shared: bool
) -> int:
    """Emits a map scaled per channel; returns it.

    Args:
        tape: what is emitted to.
        source: the map, which nobody reads behind this.
        gate: the scale of each channel, of 1×1.
        place: the block.
        name: of its output.
        remade: a kept value and the activation that makes the map of it again; None keeps the map.
        shared: whether the output's gradient is another value's too, so that nothing may overwrite it.
    """
    needs = tape.needs_gradient(source)
    if needs:
        shape = tape.tensors[source].shape[1:]
        output = tape.tensor(name, shape, Role.BACKBONE, element_bytes=tape.backbone_bytes)
        tape.track(output)
    else:
        output = tape.in_place(name, source)
    kept, activation = remade if remade is not None else (source, Activation.NONE)
    op = Op(
        OpKind.CHANNEL_SCALE,
        place,
        (source, gate) if kept == source else (source, gate, kept),
        (output,),
        activation=activation,
        input_needs_gradient=needs,
        output_needs_gradient=needs,
    )
    tape.emit(op, partial(_channel_scale_backward, tape, kept, shared) if needs else None)
    return output


def _channel_scale_backward(tape: Tape, kept: int, shared: bool, op: Op) -> None:
    """Channel by channel the gate's gradient, then the map's in place of the output's."""
    source, gate = op.reads[:2]
    gradient = tape.gradient(op.writes[0])
    target = tape.contribute(source)[0] if shared else tape.overwrite_gradient(op.writes[0], source)
    of_gate, _ = tape.contribute(gate)
    read = (gradient, gate, kept)
    tape.emit(Op(OpKind.CHANNEL_SCALE_BACKWARD, op.place, read, (target, of_gate), activation=op.activation))
