"""Reference kernels of the backward pass: explicit formulas and torch's backward operators, never autograd.

Every kernel makes the gradient of its input from the old parameters before it delivers the parameters' gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from repnet_search.backbones import Activation, Conv
from repnet_search.graph import Role
from repnet_search.measure.arena_memory import ArenaViolationError
from repnet_search.measure.kernel_run import KernelRun, passes
from repnet_search.measure.kernels_forward import standardise
from repnet_search.models.lean import gate_slope
from repnet_search.models.module import STANDARDISATION_EPS
from repnet_search.spec import Norm

_aten = torch.ops.aten


def loss_backward(run: KernelRun) -> None:
    """The mean cross-entropy's gradient: (softmax - target) / N."""
    target = run.write(run.op.writes[0])
    target.copy_(run.read(run.op.reads[0])).exp_()
    rows = torch.arange(len(run.labels))
    target[rows, run.labels] -= 1
    target.div_(len(run.labels))


def linear_backward(run: KernelRun) -> None:
    """The input's gradient where it is asked for, then weight and bias."""
    gradient, source = map(run.read, run.op.reads)
    if run.forward.input_needs_gradient:
        run.write(run.op.writes[0]).copy_(gradient @ run.parameter(0))
    run.train(0, gradient.T @ source)
    run.train(1, gradient.sum(0))


def global_pool_backward(run: KernelRun) -> None:
    """Every map's mean gives its gradient back evenly; of two sources the first may be off the gradient path."""
    sources = run.forward.reads
    parts = run.read(run.op.reads[0]).split([run.shape(source)[1] for source in sources], 1)
    for part, index in zip(parts[-len(run.op.writes) :], run.op.writes, strict=True):
        target = run.write(index)
        size = target.shape[-1] * target.shape[-2]
        target.copy_((part / size).view(*part.shape, 1, 1).expand_as(target))


def gradient_add(run: KernelRun) -> None:
    """A gradient, copied or added."""
    run.contribute(run.op.writes[0], run.read(run.op.reads[0]))


def residual_add_backward(run: KernelRun) -> None:
    """Clamps the sum's gradient in place, from the mask or the kept output."""
    kept = run.op.reads[1]
    gradient = run.write(run.op.writes[0])
    gradient.mul_(run.passing(kept, run.op.activation).view_as(gradient))


def exchange_backward(run: KernelRun) -> None:
    """The norm output's gradient γ ⊙ Rᵀ g_b, and γ's, Σ Rᵀ g_b ⊙ n with n recomputed from its kept input.

    An int8 sum's mask clamps g_b in place first.
    """
    op = run.op
    gradient, target = run.read(op.reads[0]), op.writes[0]
    mask = run.with_role(op.reads, Role.MASK)
    if mask is not None:
        gradient = run.write(op.reads[0])
        gradient.mul_(run.access.read_bits(mask).view_as(gradient))
    gamma = run.parameter(0)
    resized = _unresize(gradient, run.shape(target))
    sums = (resized * _norm_output(run)).sum((0, 2, 3))
    run.contribute(target, resized * gamma.view(-1, 1, 1))
    run.train(0, sums)


def _norm_output(run: KernelRun) -> Tensor:
    """Returns n, from the convolution's output in front of the norm and the norm's statistics."""
    _, *kept = (tensor for tensor in run.op.reads if run.role(tensor) is not Role.MASK)
    raw = run.read(kept[0])
    statistics = run.with_role(run.op.reads, Role.STATISTICS)
    if statistics is None:
        return raw
    norm = run.norm_of(statistics)
    mean, rstd = run.statistics(statistics, raw.shape[0])
    grouped = raw.view(raw.shape[0], mean.shape[1], -1)
    normed = ((grouped - mean.unsqueeze(-1)) * rstd.unsqueeze(-1)).view_as(raw)
    return normed + run.state[norm.parameters[-1].name].view(-1, 1, 1)


def resize_backward(run: KernelRun) -> None:
    """A resized map's gradient, brought back to the map's own size."""
    target = run.op.writes[0]
    run.contribute(target, _unresize(run.read(run.op.reads[0]), run.shape(target)))


def _unresize(gradient: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Returns Rᵀ g for maps of `shape`."""
    size = list(gradient.shape[-2:])
    if size == list(shape[-2:]):
        return gradient
    result: Tensor = _aten.upsample_bilinear2d_backward(gradient, size, list(shape), False)
    return result


def norm_backward(run: KernelRun) -> None:
    """A module's norm, its ReLU behind it: the input's gradient, then scale and bias."""
    op, layer = run.op, run.norm
    gradient, source = run.read(op.reads[0]), run.read(op.reads[1])
    if run.forward.activation is Activation.RELU:
        gradient = gradient * passes(run.read(op.reads[3]), Activation.RELU)
    scale = run.parameter(0) if len(op.parameters) > 1 else None
    mean, rstd = run.statistics(op.reads[2], source.shape[0])
    if layer.kind is Norm.BATCH:
        result, by_scale, _ = _aten.native_batch_norm_backward(
            gradient, source, scale, None, None, mean[0], rstd[0], True, 0.0, [True, scale is not None, False]
        )
    else:
        batch, channels, height, width = source.shape
        result, by_scale, _ = _aten.native_group_norm_backward(
            gradient,
            source,
            mean,
            rstd,
            scale,
            batch,
            channels,
            height * width,
            layer.groups,
            [True, scale is not None, False],
        )
    bias = gradient.sum((0, 2, 3))
    run.contribute(op.writes[0], result)
    if scale is not None:
        run.train(0, by_scale)
    run.train(len(op.parameters) - 1, bias)


def average_pool_backward(run: KernelRun) -> None:
    """The gradient, spread evenly over the windows; what the last window does not reach gets none."""
    window, target = run.op.layer, run.op.writes[0]
    assert isinstance(window, int)
    spread = run.read(run.op.reads[0]).repeat_interleave(window, -1).repeat_interleave(window, -2) / window**2
    height, width = run.shape(target)[-2:]
    padding = (0, width - spread.shape[-1], 0, height - spread.shape[-2])
    run.contribute(target, functional.pad(spread, padding))


def max_pool_backward(run: KernelRun) -> None:
    """The gradient, added where each window's winner was.

    Raises:
        ArenaViolationError: a winner lies outside its window or the map: something has overwritten it.
    """
    gradient, winners = run.read(run.op.reads[0]), run.access.read_bytes(run.op.reads[1]).long()
    target = run.op.writes[0]
    batch, channels, height, width = run.shape(target)
    first = torch.arange(gradient.shape[-1]) * 2 - 1
    row, column = first.view(-1, 1) + winners // 3, first + winners % 3
    if not ((winners <= 8) & (row >= 0) & (row < height) & (column >= 0) & (column < width)).all():
        raise ArenaViolationError(f"{run.op.place}, {run.op.kind.value}: what is kept of the winners is no winner.")
    spread = gradient.new_zeros(batch, channels, height * width)
    spread.scatter_add_(2, (row * width + column).flatten(2), gradient.flatten(2))
    run.contribute(target, spread.view(batch, channels, height, width))


def backbone_norm_backward(run: KernelRun) -> None:
    """The norm behind a convolution: frozen it scales the gradient; trained it needs its input and statistics."""
    op, forward = run.op, run.forward
    gradient = run.read(op.reads[0])
    mask = run.with_role(op.reads, Role.MASK)
    if forward.activation is not Activation.NONE:
        kept = forward.writes[0] if mask is None else mask
        gradient = gradient * run.passing(kept, forward.activation).view_as(gradient)
    scale = run.parameter(0)
    if forward.weight_trains:
        source = run.read(forward.reads[0])
        mean, rstd = run.statistics(forward.writes[1], len(source))
        result, by_scale, _ = _aten.native_batch_norm_backward(
            gradient, source, scale, None, None, mean[0], rstd[0], True, 0.0, [True, True, False]
        )
    else:
        result = by_scale = gradient * scale.view(-1, 1, 1)
    bias = gradient.sum((0, 2, 3))
    if forward.input_needs_gradient:
        run.contribute(op.writes[0], result)
    run.train(0, by_scale)
    run.train(1, bias)


def conv_backward(run: KernelRun) -> None:
    """A convolution: from its mask and weight where it is frozen; where it trains, from its kept input too."""
    if run.forward.weight_trains:
        _trained_conv_backward(run)
    elif run.op.writes and run.in_place(run.op.reads[0], run.op.writes[0]) and run.op.writes[0] != run.op.reads[0]:
        _conv_in_place_backward(run)
    else:
        _frozen_conv_backward(run)


def _frozen_conv_backward(run: KernelRun) -> None:
    """The mask, or the slope of a gate, is applied as the gradient is read."""
    op, forward = run.op, run.forward
    gradient = run.read(op.reads[0])
    mask = run.with_role(op.reads, Role.MASK)
    if mask is not None:
        gradient = gradient * run.access.read_bits(mask).view_as(gradient)
    elif forward.activation.is_gate:
        gradient = gradient * gate_slope(run.read(op.reads[1]), forward.activation)
    if forward.input_needs_gradient:
        size = run.shape(op.writes[0])[-2:]
        run.contribute(op.writes[0], conv_input_gradient(gradient, run.parameter(0), op.conv, size))
    if len(op.parameters) > 1:
        run.train(1, gradient.sum((0, 2, 3)))


def _conv_in_place_backward(run: KernelRun) -> None:
    """Depthwise of stride 1: channel by channel the masked gradient, through a workspace, over itself."""
    op = run.op
    gradient, target = run.read(op.reads[0]), run.write(op.writes[0])
    mask = run.with_role(op.reads, Role.MASK)
    buffer = run.with_role(op.writes, Role.WORKSPACE)
    assert buffer is not None
    workspace = run.write(buffer)
    weight = run.parameter(0)
    (bias,) = run.gradient_sums(op.conv.out_channels)
    for channel in range(gradient.shape[1]):
        own = slice(channel, channel + 1)
        for image in range(gradient.shape[0]):
            one = target[image, channel]
            if mask is not None:
                run.mask_channel(one, mask, place=image * gradient.shape[1] + channel)
            bias[channel] += one.sum()
            size = tuple(one.shape)
            workspace.copy_(conv_input_gradient(one.view(1, 1, *size), weight[own], op.conv, size, groups=1)[0, 0])
            one.copy_(workspace)
    run.train(1, bias)


def _trained_conv_backward(run: KernelRun) -> None:
    """The standardised weight and the gradient with respect to it take turns in one buffer."""
    op, forward = run.op, run.forward
    layer = op.conv
    gradient, source = run.read(op.reads[0]), run.read(op.reads[1])
    if forward.activation is Activation.RELU:
        gradient = gradient * passes(run.read(op.reads[2]), Activation.RELU)
    own = run.parameter(0)
    weight = own
    if forward.standardised:
        weight = run.write(_buffer(run))[: own.numel()].view_as(own)
        weight.copy_(standardise(own)[0])
    if forward.input_needs_gradient:
        run.contribute(op.writes[0], conv_input_gradient(gradient, weight, layer, run.shape(op.writes[0])[-2:]))
    stride, padding = [layer.stride] * 2, [layer.kernel // 2] * 2
    _, by_weight, _ = _aten.convolution_backward(
        gradient, source, weight, None, stride, padding, [1, 1], False, [0, 0], layer.groups, [False, True, False]
    )
    run.train(0, _unstandardise(run, own, by_weight) if forward.standardised else by_weight)
    if len(op.parameters) > 1:
        run.train(1, gradient.sum((0, 2, 3)))


def _buffer(run: KernelRun) -> int:
    buffer = run.with_role(run.op.writes, Role.WEIGHT_GRADIENT)
    assert buffer is not None
    return buffer


def _unstandardise(run: KernelRun, weight: Tensor, gradient: Tensor) -> Tensor:
    """Returns the weight's gradient from that of its standardised form, row by row in the buffer."""
    held = run.write(_buffer(run))[: weight.numel()].view(1, len(weight), -1)
    held.copy_(gradient.view_as(held))
    _, mean, rstd = standardise(weight)
    rows = weight.flatten(1).unsqueeze(0)
    result, _, _ = _aten.native_batch_norm_backward(
        held, rows, None, None, None, mean, rstd, True, STANDARDISATION_EPS, [True, False, False]
    )
    return held.copy_(result)


def conv_input_gradient(
    gradient: Tensor, weight: Tensor, conv: Conv, size: tuple[int, ...], *, groups: int | None = None
) -> Tensor:
    """Returns a convolution's input gradient (N, C_in, *size), from the output's gradient and the weight alone."""
    padding = conv.kernel // 2
    reached = (gradient.shape[-1] - 1) * conv.stride - 2 * padding + conv.kernel
    return functional.conv_transpose2d(
        gradient,
        weight,
        stride=conv.stride,
        padding=padding,
        output_padding=size[-1] - reached,
        groups=conv.groups if groups is None else groups,
    )
