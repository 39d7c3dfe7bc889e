"""Operators of a backbone whose norms are not folded, as reference methods train it: convolution, then batch norm."""

from __future__ import annotations

from functools import partial

from repnet_search.backbones import Activation, Conv
from repnet_search.graph.ops import NormLayer, Op, OpKind, Role
from repnet_search.graph.tape import Tape
from repnet_search.spec.design import Norm


def emit_bare_conv(tape: Tape, conv: Conv, source: int, *, place: str, name: str, key: str, trains: bool) -> int:
    """Emits a convolution whose norm is not folded; returns its output."""
    size = conv.output_size(tape.tensors[source].shape[-1])
    output = tape.tensor(f"{name} before norm", (conv.out_channels, size, size), Role.BACKBONE)
    through = tape.needs_gradient(source)
    op = Op(
        OpKind.CONV,
        place,
        (source,),
        (output,),
        layer=conv,
        parameters=(tape.parameter(f"{key}.weight", conv.weight_count, trains=trains),),
        input_needs_gradient=through,
        output_needs_gradient=through or trains,
        macs=tape.batch * conv.weight_count * size * size,
    )
    if op.output_needs_gradient:
        tape.track(output)
    tape.emit(op, partial(_bare_conv_backward, tape) if op.output_needs_gradient else None)
    return output


def _bare_conv_backward(tape: Tape, op: Op) -> None:
    source, output = op.reads[0], op.writes[0]
    written: tuple[int, ...] = ()
    read: tuple[int, ...] = (tape.gradient(output),)
    if op.weight_trains:
        read += (source,)
    if op.input_needs_gradient:
        target, also_read = tape.contribute(source)
        written, read = (target,), read + also_read
    written += tape.weight_gradient(op)
    macs = op.macs * (op.input_needs_gradient + op.weight_trains)
    tape.emit(Op(OpKind.CONV_BACKWARD, op.place, read, written, layer=op.layer, parameters=op.parameters, macs=macs))


def emit_backbone_norm(
    tape: Tape,
    conv: Conv,
    source: int,
    *,
    place: str,
    name: str,
    key: str,
    trains: bool,
    train_bias: bool,
    keeps_output: bool,
) -> int:
    """Emits the batch norm behind a convolution with its activation; returns its output.

    Frozen it is a scale and a shift in place; trained it keeps its input. The activation keeps one bit per element, or
    nothing where the next convolution keeps its output anyway (`keeps_output`).
    """
    shape = tape.tensors[source].shape[1:]
    output = tape.tensor(name, shape, Role.BACKBONE) if trains else tape.in_place(name, source)
    needs = tape.needs_gradient(source) or trains or train_bias
    op = Op(
        OpKind.BACKBONE_NORM,
        place,
        (source,),
        (output,),
        layer=NormLayer(Norm.BATCH, 0, conv.out_channels),
        parameters=(
            tape.parameter(f"{key}.norm.weight", conv.out_channels, trains=trains),
            tape.parameter(f"{key}.norm.bias", conv.out_channels, trains=trains or train_bias),
        ),
        activation=conv.activation,
        input_needs_gradient=tape.needs_gradient(source),
        output_needs_gradient=needs,
    )
    if trains:
        op.writes += (tape.buffer(f"{name} statistics", (2 * conv.out_channels,), Role.STATISTICS),)
        tape.norm_state_elements += 2 * conv.out_channels
    if needs:
        tape.track(output)
        if conv.activation is not Activation.NONE and not keeps_output:
            op.writes += (tape.mask(f"{name} mask", shape),)
    tape.emit(op, partial(_backbone_norm_backward, tape) if needs else None)
    return output


def _backbone_norm_backward(tape: Tape, op: Op) -> None:
    source, output = op.reads[0], op.writes[0]
    gradient = tape.gradient(output)
    read: tuple[int, ...] = (gradient, *op.writes[1:])
    if op.weight_trains:
        read += (source,)
        if op.activation is not Activation.NONE and len(op.writes) == 2:
            read += (output,)
    written: tuple[int, ...] = ()
    if op.input_needs_gradient:
        target, also_read = tape.contribute(source)
        written, read = (target,), read + also_read
    written += tape.weight_gradient(op)
    tape.emit(Op(OpKind.BACKBONE_NORM_BACKWARD, op.place, read, written, layer=op.layer, parameters=op.parameters))
