"""The frozen backbone's operators: a convolution with its activation, and a whole block per hidden channel.

Frozen and folded, a convolution with its ReLU6 is one operator that keeps one bit per element and nothing else.
"""

from __future__ import annotations

from functools import partial

from repnet_search.backbones import Block, Conv
from repnet_search.graph.ops import Op, OpKind, Role
from repnet_search.graph.tape import FLOAT_BYTES, Tape


def emit_frozen_conv(
    tape: Tape, conv: Conv, source: int, *, place: str, name: str, key: str, train_bias: bool, overwrites: bool
) -> int:
    """Emits a frozen convolution, its norm folded in and its activation fused; returns its output.

    Args:
        tape: what is emitted to.
        conv: its geometry.
        source: what it reads.
        place: the block.
        name: of its output.
        key: of its parameters.
        train_bias: whether its bias trains.
        overwrites: whether a depthwise convolution overwrites its input, channel by channel.
    """
    size = conv.output_size(tape.tensors[source].shape[-1])
    shape = (conv.out_channels, size, size)
    if overwrites:
        output = tape.in_place(name, source, shape)
    else:
        output = tape.tensor(name, shape, Role.BACKBONE, element_bytes=tape.backbone_bytes)
    through = tape.needs_gradient(source)
    op = Op(
        OpKind.CONV,
        place,
        (source,),
        (output,),
        layer=conv,
        parameters=(
            tape.parameter(f"{key}.weight", conv.weight_count, trains=False),
            tape.parameter(f"{key}.bias", conv.out_channels, trains=train_bias),
        ),
        activation=conv.activation,
        input_needs_gradient=through,
        output_needs_gradient=through or train_bias,
        macs=tape.batch * conv.weight_count * size * size,
    )
    if op.output_needs_gradient:
        tape.track(output)
        if conv.activation.is_clamp or tape.quantised:
            op.writes += (tape.mask(f"{name} mask", shape),)
    if overwrites:
        op.writes += (_channel(tape, name, size, tape.backbone_bytes),)
    tape.emit(op, partial(_frozen_conv_backward, tape) if op.output_needs_gradient else None)
    return output


def _frozen_conv_backward(tape: Tape, op: Op) -> None:
    """The input's gradient from the output's, the weight and the mask (a gate's output); the bias from the same."""
    source, output = op.reads[0], op.writes[0]
    masks = tuple(value for value in op.writes[1:] if tape.tensors[value].role is Role.MASK)
    gradient = tape.gradient(output)
    written: tuple[int, ...] = ()
    read = (gradient, *masks)
    if op.activation.is_gate:
        read += (output,)
    if op.input_needs_gradient:
        in_place = tape.tensors[source].storage == tape.tensors[output].storage and op.conv.stride == 1
        if in_place and not tape.has_gradient(source):
            size = tape.tensors[source].shape[-1]
            name = f"gradient of {tape.tensors[source].name}"
            written = (tape.overwrite_gradient(output, source), _channel(tape, name, size, FLOAT_BYTES))
        else:
            target, also_read = tape.contribute(source)
            written, read = (target,), read + also_read
    macs = op.macs if op.input_needs_gradient else 0
    written += tape.weight_gradient(op)
    tape.emit(Op(OpKind.CONV_BACKWARD, op.place, read, written, layer=op.layer, parameters=op.parameters, macs=macs))


def _channel(tape: Tape, name: str, size: int, element_bytes: int) -> int:
    """Returns a workspace for one channel's map."""
    return tape.buffer(f"{name} channel", (size, size), Role.WORKSPACE, element_bytes=element_bytes)


def emit_streamed_block(tape: Tape, index: int, block: Block, source: int, *, train_bias: bool) -> int:
    """Emits a frozen inverted residual per hidden channel: expand, depthwise, add into the projection's accumulator.

    An int8 output needs accumulators of 4 bytes, for one image at a time; an fp32 output is its own.
    """
    expand, depthwise, project = block.convs
    size = tape.tensors[source].shape[-1]
    out_size = block.output_size(size)
    name = f"b{index}"
    shape = (project.out_channels, out_size, out_size)
    output = tape.tensor(f"{name}.2", shape, Role.BACKBONE, element_bytes=tape.backbone_bytes)
    through = tape.needs_gradient(source)
    parameters = []
    for position, conv in enumerate(block.convs):
        key = f"backbone.blocks.{index}.convs.{position}"
        parameters.append(tape.parameter(f"{key}.weight", conv.weight_count, trains=False))
        parameters.append(tape.parameter(f"{key}.bias", conv.out_channels, trains=train_bias))
    expanded = tape.batch * expand.weight_count * size * size
    rest = tape.batch * (depthwise.weight_count + project.weight_count) * out_size**2
    op = Op(
        OpKind.STREAMED_BLOCK,
        f"block {index}",
        (source,),
        (output,),
        layer=block,
        parameters=tuple(parameters),
        input_needs_gradient=through,
        output_needs_gradient=through or train_bias,
        macs=expanded + rest,
    )
    if op.output_needs_gradient:
        tape.track(output)
        op.writes += (tape.mask(f"{name}.0 mask", (expand.out_channels, size, size)),)
        op.writes += (tape.mask(f"{name}.1 mask", (depthwise.out_channels, out_size, out_size)),)
        if tape.quantised:
            op.writes += (tape.mask(f"{name}.2 mask", shape),)
    op.writes += (_channel(tape, f"{name}.0", size, tape.backbone_bytes),)
    op.writes += (_channel(tape, f"{name}.1", out_size, tape.backbone_bytes),)
    if tape.quantised:
        op.writes += (tape.buffer(f"{name}.2 accumulator", shape, Role.WORKSPACE),)
    tape.emit(op, partial(_streamed_backward, tape) if op.output_needs_gradient else None)
    return output


def _streamed_backward(tape: Tape, op: Op) -> None:
    """Per hidden channel, from weights and masks: the gradients of the two hidden maps, then the input's.

    The one pass sums up the gradients of both hidden biases, channel by channel.
    """
    source, output = op.reads[0], op.writes[0]
    masks = tuple(value for value in op.writes[1:] if tape.tensors[value].role is Role.MASK)
    target, also_read = tape.contribute(source)
    size, out_size = tape.tensors[source].shape[-1], tape.tensors[output].shape[-1]
    name = f"gradient of {tape.tensors[output].name}"
    channels = (_channel(tape, f"{name}.0", size, FLOAT_BYTES), _channel(tape, f"{name}.1", out_size, FLOAT_BYTES))
    tape.emit(
        Op(
            OpKind.STREAMED_BLOCK_BACKWARD,
            op.place,
            (tape.gradient(output), *masks, *also_read),
            (target, *channels, *tape.weight_gradient(op, at_once=2)),
            layer=op.layer,
            parameters=op.parameters,
            macs=op.macs,
        )
    )
