"""Reference kernels of the forward pass: torch arithmetic on the arena's bytes.

A result may be made in a torch temporary before it is copied to its place; that is scratch of these reference kernels,
which a kernel that loops over elements does not have.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from repnet_search.graph import Role
from repnet_search.measure.kernel_run import KernelRun, activate_
from repnet_search.models.module import NORM_EPS, STANDARDISATION_EPS
from repnet_search.spec import Exchange, Norm

_MOMENTUM = 0.1  # of running statistics, torch's default


def average_pool(run: KernelRun) -> None:
    """Averages over windows: the normalised image, which gives r_0, or what a module reads."""
    assert isinstance(run.op.layer, int)
    run.write(run.op.writes[0]).copy_(functional.avg_pool2d(run.read(run.op.reads[0]), run.op.layer))


def conv(run: KernelRun) -> None:
    """A convolution with its activation; a depthwise one may overwrite its input."""
    op = run.op
    if run.in_place(op.reads[0], op.writes[0]):
        _conv_in_place(run)
    else:
        weight = run.parameter(0)
        if op.standardised:
            weight = _standardise(run, weight)
        layer = op.conv
        source, bias = run.read(op.reads[0]), run.bias()
        output = run.write(op.writes[0])
        output.copy_(functional.conv2d(source, weight, bias, layer.stride, layer.kernel // 2, groups=layer.groups))
        activate_(output, op.activation)
    run.keep_mask(run.access.read(op.writes[0]), op.activation)


def _standardise(run: KernelRun, weight: Tensor) -> Tensor:
    """Writes the standardised weight into its buffer, and returns it."""
    buffer = run.with_role(run.op.writes, Role.WEIGHT)
    assert buffer is not None
    held = run.write(buffer).view_as(weight)
    normalised, _, _ = standardise(weight)
    return held.copy_(normalised)


def standardise(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns a weight with mean 0 and variance 1 per output channel, and the mean and 1/σ (C_out,) of it."""
    rows = weight.flatten(1).unsqueeze(0)
    normed, mean, rstd = torch.native_batch_norm(rows, None, None, None, None, True, 0.0, STANDARDISATION_EPS)
    return normed.view_as(weight), mean, rstd


def _conv_in_place(run: KernelRun) -> None:
    """Depthwise: image by image, channel by channel, through a workspace of one channel.

    A smaller output fills the beginning of the storage: it never reaches what is still to be read.
    """
    op, layer = run.op, run.op.conv
    weight, bias = run.parameter(0), run.bias()
    source, output = run.read(op.reads[0]), run.write(op.writes[0])
    buffer = run.with_role(op.writes, Role.WORKSPACE)
    assert buffer is not None
    workspace = run.write(buffer)
    for image in range(source.shape[0]):
        for channel in range(source.shape[1]):
            own = slice(channel, channel + 1)
            one = source[image, own].unsqueeze(0)
            own_bias = None if bias is None else bias[own]
            workspace.copy_(functional.conv2d(one, weight[own], own_bias, layer.stride, layer.kernel // 2)[0, 0])
            output[image, channel].copy_(activate_(workspace, op.activation))


def backbone_norm(run: KernelRun) -> None:
    """The norm behind a convolution: a scale and a shift in place where it is frozen, else of the batch."""
    op = run.op
    source, output = run.read(op.reads[0]), run.write(op.writes[0])
    if op.weight_trains:
        normed = _batch_norm(run, source, eps=run.norm_eps, weight=run.parameter(0), bias=run.parameter(1))
        output.copy_(normed)
    else:
        output.mul_(run.parameter(0).view(-1, 1, 1)).add_(run.parameter(1).view(-1, 1, 1))
    activate_(output, op.activation)
    run.keep_mask(output, op.activation)


def residual_add(run: KernelRun) -> None:
    """Adds the shortcut into the branch, then activates."""
    shortcut, _ = run.op.reads
    output = run.write(run.op.writes[0])
    activate_(output.add_(run.read(shortcut)), run.op.activation)
    run.keep_mask(output, run.op.activation)


def max_pool(run: KernelRun) -> None:
    """A 3×3 max pool of stride 2, and in one byte which of the 9 values won."""
    run.write(run.op.writes[0]).copy_(take_maxima(run, run.read(run.op.reads[0])))


def take_maxima(run: KernelRun, source: Tensor) -> Tensor:
    """Returns the maxima of a max pool's windows; writes the winners where the operator keeps them."""
    values, flat = functional.max_pool2d(source, 3, stride=2, padding=1, return_indices=True)
    if len(run.op.writes) > 1:
        side, out_side = source.shape[-1], values.shape[-1]
        first = torch.arange(out_side) * 2 - 1
        row = flat // side - first.view(-1, 1)
        column = flat % side - first
        run.access.write_bytes(run.op.writes[1]).copy_(3 * row + column)
    return values


def norm(run: KernelRun) -> None:
    """A module's norm; an inner one has scale, bias and ReLU, the last one a bias alone."""
    op, layer = run.op, run.norm
    source, output = run.read(op.reads[0]), run.write(op.writes[0])
    scale = run.parameter(0) if len(op.parameters) > 1 else None
    bias = run.parameter(len(op.parameters) - 1)
    if layer.kind is Norm.BATCH:
        output.copy_(_batch_norm(run, source, eps=NORM_EPS, weight=scale, bias=bias))
    else:
        batch, channels, height, width = source.shape
        groups = layer.groups
        size = height * width
        inner = None if scale is None else bias  # without a scale, torch adds no bias
        normed, mean, rstd = torch.native_group_norm(source, scale, inner, batch, channels, size, groups, NORM_EPS)
        output.copy_(normed)
        if scale is None:
            output.add_(bias.view(-1, 1, 1))
        statistics = run.write(op.writes[1])
        statistics[:, :groups], statistics[:, groups:] = mean, rstd
    activate_(output, op.activation)


def _batch_norm(run: KernelRun, source: Tensor, *, eps: float, weight: Tensor | None, bias: Tensor) -> Tensor:
    """Returns the batch-normalised source; writes mean and 1/σ, and the running statistics where there are any."""
    inner = None if weight is None else bias
    normed, mean, rstd = torch.native_batch_norm(source, weight, inner, None, None, True, 0.0, eps)
    statistics = run.write(run.op.writes[1]).view(2, -1)
    statistics[0], statistics[1] = mean, rstd
    key = run.op.parameters[0].name.rpartition(".")[0]
    for name, value in (("running_mean", mean), ("running_var", source.var((0, 2, 3)))):
        for running in (f"{key}.{name}", f"{key}.norm.{name}"):
            if running in run.state:
                run.state[running].lerp_(value, _MOMENTUM)
    return normed if weight is not None else normed + bias.view(-1, 1, 1)


def resize(run: KernelRun) -> None:
    """Bilinear, align_corners False."""
    output = run.write(run.op.writes[0])
    size = tuple(output.shape[-2:])
    output.copy_(functional.interpolate(run.read(run.op.reads[0]), size=size, mode="bilinear", align_corners=False))


def exchange(run: KernelRun) -> None:
    """The write b ← b + γ⊙s in place in b, or the read r ← s + b in place in s."""
    feature, stream = run.op.reads
    assert isinstance(run.op.layer, Exchange)
    output = run.write(run.op.writes[0])
    if run.op.layer.writes:
        output.add_(run.parameter(0).view(-1, 1, 1) * run.read(stream))
    else:
        output.add_(run.read(feature))


def global_pool(run: KernelRun) -> None:
    """The means of b's maps, and of the stream's behind them."""
    means = [run.read(source).mean((2, 3)) for source in run.op.reads]
    run.write(run.op.writes[0]).copy_(torch.cat(means, 1))


def linear(run: KernelRun) -> None:
    """The logits."""
    run.write(run.op.writes[0]).copy_(functional.linear(run.read(run.op.reads[0]), run.parameter(0), run.bias()))


def loss(run: KernelRun) -> None:
    """Log-softmax, and the mean cross-entropy."""
    log_softmax = run.write(run.op.writes[0])
    log_softmax.copy_(functional.log_softmax(run.read(run.op.reads[0]), 1))
    run.write(run.op.writes[1]).copy_(functional.nll_loss(log_softmax, run.labels))
