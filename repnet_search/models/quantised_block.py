"""A frozen block in int8: whole numbers in floating point, exact (see models/quantisation.py), forward and backward.

Gradients pass by the straight-through rule: rounding is the identity, a clamp passes only where it did nothing
[Jacob2018quantization].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from repnet_search.backbones import Block, Conv
from repnet_search.models.calibration import Calibration
from repnet_search.models.lean import apply, conv_input_gradient
from repnet_search.models.quantisation import (
    QuantParams,
    common_shift,
    fixed_point,
    needs_float64,
    pass_unclamped,
    quantise_weight,
    requantise_scaled,
    requantise_sum,
)

_ALL = slice(None)


class QuantisedConv(nn.Module):
    """An int8 convolution with its activation fused into the output's grid; centred codes in, centred codes out."""

    def __init__(self, conv: Conv, weight: Tensor, bias: Tensor, source: QuantParams, output: QuantParams) -> None:
        super().__init__()
        self.conv, self.source, self.output = conv, source, output
        codes, scale = quantise_weight(weight)
        self.register_buffer("codes", codes.double() if needs_float64(codes[0].numel()) else codes)
        self.register_buffer("real_weight", codes * scale.view(-1, 1, 1, 1))
        self.register_buffer("bias_scale", scale.double() * source.scale)
        self.register_buffer("factor", fixed_point(scale.double() * source.scale / output.scale).value)
        self.bias = nn.Parameter(bias.clone(), requires_grad=False)
        self.codes: Tensor
        self.real_weight: Tensor
        self.bias_scale: Tensor
        self.factor: Tensor
        self.register_buffer("offset", self._offset_of(bias), persistent=False)
        self.offset: Tensor

    def compute(self, x: Tensor) -> Tensor:
        """Returns the output's centred codes (N, C_out, H', W')."""
        conv = self.conv
        sums = functional.conv2d(
            x.to(self.codes.dtype), self.codes, None, conv.stride, conv.kernel // 2, groups=conv.groups
        )
        offset = self._offset_of(self.bias.detach()) if self.bias.requires_grad else self.offset
        return requantise_scaled(sums, self.factor.view(-1, 1, 1), offset, self.output)

    def finish(self, sums: Tensor, bias: Tensor, *, channels: slice = _ALL) -> Tensor:
        """Returns the centred codes (N, C, H', W') of whole sums of products in some of the output's channels.

        Args:
            sums: (N, C, H', W') without bias.
            bias: of all output channels, real values.
            channels: those that the sums belong to.
        """
        factor = self.factor[channels].view(-1, 1, 1)
        return requantise_scaled(sums, factor, self._offset_of(bias)[channels], self.output)

    def _offset_of(self, bias: Tensor) -> Tensor:
        """Returns what is added to the scaled sums (C_out, 1, 1): the bias, and the half that rounding takes."""
        whole = torch.round(bias.double() / self.bias_scale)
        # Both products and their sum are whole multiples of 2^-shift below 2^53 of them, so this is exact.
        return (whole * self.factor + 0.5).view(-1, 1, 1)


class QuantisedSum(nn.Module):
    """A residual sum of two int8 tensors on their own grids, its activation fused."""

    def __init__(self, branch: QuantParams, shortcut: QuantParams, output: QuantParams) -> None:
        super().__init__()
        self.output = output
        of_branch, of_shortcut = common_shift(branch.scale / output.scale, shortcut.scale / output.scale)
        self.of_branch, self.of_shortcut = float(of_branch.value), float(of_shortcut.value)

    def compute(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        """Returns the sum's centred codes."""
        return requantise_sum(branch, shortcut, of_first=self.of_branch, of_second=self.of_shortcut, params=self.output)


class QuantisedBlock(nn.Module):
    """A block of the table in int8: real values on a grid in, real values on a grid out."""

    def __init__(
        self, block: Block, index: int, weights: Mapping[str, Tensor], calibration: Calibration, source: QuantParams
    ) -> None:
        super().__init__()
        self.block, self.source = block, source
        self.convs = nn.ModuleList()
        params = source
        for position, conv in enumerate(block.convs):
            params = self._append(conv, weights, params, calibration.params(f"b{index}.{position}"))
        self.shortcut: QuantisedConv | None = None
        if block.shortcut is not None:
            output = calibration.params(f"b{index}.shortcut")
            self.shortcut = _create_conv(block.shortcut, weights, source, output)
        self.sum: QuantisedSum | None = None
        if block.residual:
            shortcut = source if self.shortcut is None else self.shortcut.output
            self.sum = QuantisedSum(params, shortcut, calibration.params(f"b{index}"))
            params = self.sum.output
        self.output = params

    def _append(
        self, conv: Conv, weights: Mapping[str, Tensor], source: QuantParams, output: QuantParams
    ) -> QuantParams:
        self.convs.append(_create_conv(conv, weights, source, output))
        return output

    def forward(self, x: Tensor) -> Tensor:
        """Returns the block's output (N, C_i, H_i, W_i)."""
        if self.block.is_identity:
            return x
        shortcut = [] if self.shortcut is None else [self.shortcut]
        output: Tensor = apply(_RunBlock, x, self, *(conv.bias for conv in self.chain() + shortcut))
        return functional.max_pool2d(output, 3, stride=2, padding=1) if self.block.max_pool else output

    def chain(self) -> list[QuantisedConv]:
        """Returns the convolutions in a chain."""
        return [conv for conv in self.convs if isinstance(conv, QuantisedConv)]

    def run(self, x: Tensor) -> tuple[Tensor, list[tuple[Tensor, QuantParams]]]:
        """Returns the real output, and each requantising operator's codes and grid in the order of execution."""
        source = self.source.centred(x)
        made: list[tuple[Tensor, QuantParams]] = []
        codes = source
        for conv in self.chain():
            codes = conv.compute(codes)
            made.append((codes, conv.output))
        shortcut = source
        if self.shortcut is not None:
            shortcut = self.shortcut.compute(source)
            made.append((shortcut, self.shortcut.output))
        if self.sum is not None:
            codes = self.sum.compute(codes, shortcut)
            made.append((codes, self.sum.output))
        return codes * self.output.scale, made


def _create_conv(conv: Conv, weights: Mapping[str, Tensor], source: QuantParams, output: QuantParams) -> QuantisedConv:
    return QuantisedConv(conv, weights[f"{conv.key}.weight"], weights[f"{conv.key}.bias"], source, output)


class _RunBlock(Function):
    """A block forward in integers and backward by the straight-through rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, block: QuantisedBlock, *biases: Tensor) -> Tensor:
        output, made = block.run(x)
        ctx.block, ctx.shape = block, x.shape
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(*(codes for codes, _ in made))
        return output.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        block: QuantisedBlock = ctx.block
        needs_bias = any(ctx.needs_input_grad[2:])
        made = list(ctx.saved_tensors)
        if block.sum is not None:
            gradient = pass_unclamped(gradient, made.pop(), block.sum.output)
        of_input, of_shortcut_bias = gradient, []
        if block.shortcut is not None:
            of_input, bias = _conv_backward(block.shortcut, gradient, made.pop(), ctx.shape, needs_bias=needs_bias)
            of_shortcut_bias = [bias]
        of_biases: list[Tensor | None] = []
        value = gradient
        for conv in reversed(block.chain()):
            codes = made.pop()
            shape = made[-1].shape if made else ctx.shape
            value, bias = _conv_backward(conv, value, codes, shape, needs_bias=needs_bias)
            of_biases.insert(0, bias)
        total = value + of_input if block.sum is not None else value
        return total if ctx.needs_input_grad[0] else None, None, *of_biases, *of_shortcut_bias


def _conv_backward(
    conv: QuantisedConv, gradient: Tensor, codes: Tensor, shape: torch.Size, *, needs_bias: bool
) -> tuple[Tensor, Tensor | None]:
    """Returns the gradients of a convolution's input of `shape`, and of its bias where that is needed."""
    gradient = pass_unclamped(gradient, codes, conv.output)
    of_bias = gradient.sum((0, 2, 3)) if needs_bias else None
    return conv_input_gradient(gradient, conv.real_weight, conv.conv, shape), of_bias
