"""Autograd functions of the Rep-Net's own part of the lean runtime: standardised convolutions and writing connectors.

Everything else in a module keeps in stock PyTorch just what the arena account says: a convolution its input, a norm its
input and statistics, an in-place ReLU the output that the next convolution keeps anyway, resizing nothing.

[Qiao2019weightstandardization] S. Qiao et al., Micro-Batch Training with Batch-Channel Normalization and Weight
Standardization, 2019.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from repnet_search.backbones import Conv
from repnet_search.models.module import NORM_EPS, STANDARDISATION_EPS, OutputBatchNorm, OutputNorm
from repnet_search.spec.design import Norm

MOMENTUM = 0.1
"""Of running statistics, as in torch.nn.BatchNorm2d."""


class StandardisedConv(Function):
    """A convolution that standardises its weight in both passes and keeps its input alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, conv: Conv) -> Tensor:
        """Returns (N, C_out, H, W) of x (N, C_in, H, W)."""
        standardised = _standardise(weight)[0]  # the scale is of no use here, and dropped at once
        ctx.conv = conv
        ctx.save_for_backward(x, weight)
        return functional.conv2d(x, standardised, bias, 1, conv.kernel // 2, groups=conv.groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        standardised, scale = _standardise(weight)
        wanted = [ctx.needs_input_grad[0], True, ctx.needs_input_grad[2]]
        padding = 2 * [ctx.conv.kernel // 2]
        of_input, of_standardised, of_bias = torch.ops.aten.convolution_backward(
            gradient, x, standardised, [len(weight)], [1, 1], padding, [1, 1], False, [0, 0], ctx.conv.groups, wanted
        )
        flat, of_flat = standardised.flatten(1), of_standardised.flatten(1)
        projected = flat * (flat * of_flat).mean(1, keepdim=True)
        of_weight = (of_flat - of_flat.mean(1, keepdim=True) - projected) * scale
        return of_input, of_weight.view_as(weight), of_bias, None


def _standardise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the weight with mean 0 and variance 1 per output channel, and the scale (C_out, 1) that did it."""
    standardised = weight - weight.mean((1, 2, 3), keepdim=True)
    flat = standardised.flatten(1)
    scale = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    scale.square_().div_(flat.shape[1]).add_(STANDARDISATION_EPS).rsqrt_()
    flat.mul_(scale)
    return standardised, scale


class OutputNormValues(NamedTuple):
    """What the norm behind a module's 1×1 convolution reads and keeps; without a norm `raw` alone."""

    kind: Norm
    groups: int
    raw: Tensor
    mean: Tensor | None
    rstd: Tensor | None
    bias: Tensor | None


def output_norm(raw: Tensor, bias: Tensor, norm: OutputNorm | OutputBatchNorm) -> tuple[Tensor, OutputNormValues]:
    """Returns the normalised raw (N, C, S, S) plus bias, with no gradient, and what the exchange's backward needs."""
    samples, channels, height, width = raw.shape
    kind, groups = (Norm.BATCH, 0) if isinstance(norm, OutputBatchNorm) else (Norm.GROUP, norm.groups)
    with torch.no_grad():
        if isinstance(norm, OutputBatchNorm):
            running = norm.norm.running_mean, norm.norm.running_var
            normed, mean, rstd = torch.native_batch_norm(raw, None, None, *running, True, MOMENTUM, NORM_EPS)
        else:
            normed, mean, rstd = torch.native_group_norm(
                raw, None, None, samples, channels, height * width, groups, NORM_EPS
            )
        normed.add_(bias.view(-1, 1, 1))
    return normed, OutputNormValues(kind, groups, raw, mean, rstd, bias)


class WriteExchange(Function):
    """b ← b + γ⊙s in place, s = resize(norm(raw)): one function, because γ's gradient follows from raw.

    Resizing is linear and per channel, so ⟨g, R n⟩ = ⟨Rᵀg, n⟩: neither s nor the norm's output n is kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        feature: Tensor,
        raw: Tensor,
        bias: Tensor | None,
        gamma: Tensor,
        s: Tensor,
        values: OutputNormValues,
    ) -> tuple[Tensor, Tensor]:
        """Returns b and s (N, C, H, W); s is the norm's output, or raw itself, as a value of this function."""
        ctx.mark_dirty(feature)
        feature.addcmul_(gamma.view(-1, 1, 1), s)
        ctx.kind, ctx.groups = values.kind, values.groups
        kept = [raw, gamma]
        if values.mean is not None and values.rstd is not None and bias is not None:
            kept += [values.mean, values.rstd, bias]
        ctx.save_for_backward(*kept)
        ctx.set_materialize_grads(False)
        return feature, s.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_feature: Tensor, of_s: Tensor | None) -> tuple[Tensor | None, ...]:
        """Returns the gradients of b, raw, the norm's bias and γ."""
        raw, gamma, *statistics = ctx.saved_tensors
        pooled = _resize_back(of_feature, raw.shape)
        normed = _renormalise(raw, statistics, ctx.kind, ctx.groups)
        of_gamma = (pooled * normed).sum((0, 2, 3))
        of_normed = pooled * gamma.view(-1, 1, 1)
        if of_s is not None:
            of_normed += _resize_back(of_s, raw.shape)
        if not statistics:
            return of_feature, of_normed, None, of_gamma, None, None
        of_raw = _norm_backward(of_normed, raw, statistics, ctx.kind, ctx.groups)
        return of_feature, of_raw, of_normed.sum((0, 2, 3)), of_gamma, None, None


def _resize_back(gradient: Tensor, shape: torch.Size) -> Tensor:
    """Returns Rᵀ of a gradient, for maps of `shape`."""
    if gradient.shape[-1] == shape[-1]:
        return gradient
    size = gradient.shape[-2:]
    result: Tensor = torch.ops.aten.upsample_bilinear2d_backward(gradient, size, shape, False)
    return result


def _renormalise(raw: Tensor, statistics: list[Tensor], kind: Norm, groups: int) -> Tensor:
    """Returns the norm's output again."""
    if not statistics:
        return raw
    mean, rstd, bias = statistics
    if kind is Norm.BATCH:
        return (raw - mean.view(-1, 1, 1)) * rstd.view(-1, 1, 1) + bias.view(-1, 1, 1)
    grouped = raw.view(len(raw), groups, -1)
    normed = (grouped - mean.view(len(raw), groups, 1)) * rstd.view(len(raw), groups, 1)
    return normed.view_as(raw) + bias.view(-1, 1, 1)


def _norm_backward(gradient: Tensor, raw: Tensor, statistics: list[Tensor], kind: Norm, groups: int) -> Tensor:
    mean, rstd, _ = statistics
    mask = [True, False, False]
    if kind is Norm.BATCH:
        of_raw, *_ = torch.ops.aten.native_batch_norm_backward(
            gradient.contiguous(), raw, None, None, None, mean, rstd, True, NORM_EPS, mask
        )
    else:
        samples, channels, height, width = raw.shape
        of_raw, *_ = torch.ops.aten.native_group_norm_backward(
            gradient.contiguous(), raw, mean, rstd, None, samples, channels, height * width, groups, mask
        )
    result: Tensor = of_raw
    return result
