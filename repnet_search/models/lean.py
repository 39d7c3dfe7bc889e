"""Autograd functions that keep only what the arena account says: the frozen backbone's part of the lean runtime.

Stock PyTorch keeps the whole input of a frozen convolution and of a pool although the backward pass needs neither
(pytorch/pytorch#133566), and clones what an in-place ReLU6 reads (#95432). Here a frozen convolution keeps nothing, its
activation one bit per element (a gate its output), average pooling its shape, max pooling one byte per output. What is
kept goes through `save_for_backward`, so that autograd's hooks see all of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from repnet_search.backbones import Activation, Conv
from repnet_search.models.masks import apply_mask, pack_mask
from repnet_search.models.winners import max_pool, scatter_to_winners

Gradient = Tensor | None

# PyTorch's slope of the hard sigmoid: 1.0f / 6.0f, in float64 too, which is 3e-8 beside a sixth (torch 2.13).
_SIXTH = 0.1666666716337204


def apply(function: type[Function], *arguments: object) -> Any:
    """Returns what an autograd function gives; `Function.apply` has no types of its own."""
    return function.apply(*arguments)


def activate(x: Tensor, activation: Activation) -> Tensor:
    """Returns a tensor activated in place."""
    match activation:
        case Activation.NONE:
            return x
        case Activation.RELU:
            return x.clamp_(min=0)
        case Activation.RELU6:
            return x.clamp_(0, 6)
        case Activation.HARD_SWISH:
            return functional.hardswish(x, inplace=True)
        case Activation.SILU:
            return functional.silu(x, inplace=True)
        case Activation.HARD_SIGMOID:
            return functional.hardsigmoid(x, inplace=True)
        case Activation.SIGMOID:
            return x.sigmoid_()


def gate_slope(output: Tensor, activation: Activation) -> Tensor:
    """Returns the slope of a (hard) sigmoid where it gave `output`."""
    if activation is Activation.SIGMOID:
        return output * (1 - output)
    return ((output > 0) & (output < 1)).to(output.dtype) * _SIXTH


def frozen_conv(x: Tensor, weight: Tensor, bias: Tensor, conv: Conv) -> Tensor:
    """Returns the activated convolution (N, C_out, H', W') of x (N, C_in, H, W), with no gradient."""
    x = functional.conv2d(x, weight, bias, conv.stride, conv.kernel // 2, groups=conv.groups)
    return activate(x, conv.activation)


def conv_input_gradient(gradient: Tensor, weight: Tensor, conv: Conv, shape: torch.Size) -> Tensor:
    """Returns a convolution's gradient with respect to its input of `shape`, from its weight alone."""
    if conv.kernel == 1 and conv.stride == 1 and conv.groups == 1:
        return functional.conv2d(gradient, weight.transpose(0, 1))
    padding = conv.kernel // 2
    reached = (gradient.shape[-1] - 1) * conv.stride - 2 * padding + conv.kernel
    return functional.conv_transpose2d(
        gradient, weight, None, conv.stride, padding, output_padding=shape[-1] - reached, groups=conv.groups
    )


class FrozenConv(Function):
    """A frozen convolution with its activation; its bias may train."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, conv: Conv) -> Tensor:
        """Returns (N, C_out, H', W'); keeps the mask, or a gate's output.

        Smooth activations are operators of their own on the gradient path (see lean_smooth.py).
        """
        assert not conv.activation.is_smooth
        output = frozen_conv(x, weight, bias, conv)
        ctx.conv, ctx.shape = conv, x.shape
        kept = []
        if conv.activation.is_clamp:
            kept = [pack_mask(output, conv.activation)]
        elif conv.activation.is_gate:
            kept = [output]
        ctx.save_for_backward(weight, *kept)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Gradient, None, Gradient, None]:
        """Returns the gradients of x and of the bias."""
        weight, *kept = ctx.saved_tensors
        if ctx.conv.activation.is_gate:
            gradient = gradient * gate_slope(kept[0], ctx.conv.activation)
        elif kept:
            gradient = apply_mask(gradient, kept[0])
        of_bias = gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        of_input = conv_input_gradient(gradient, weight, ctx.conv, ctx.shape) if ctx.needs_input_grad[0] else None
        return of_input, None, of_bias, None


class ActivatedSum(Function):
    """A residual sum with its ReLU, in place in the branch."""

    @staticmethod
    def forward(ctx: Any, branch: Tensor, shortcut: Tensor, activation: Activation) -> Tensor:
        """Returns the branch's tensor; keeps the mask."""
        ctx.mark_dirty(branch)
        activate(branch.add_(shortcut), activation)
        ctx.save_for_backward(pack_mask(branch, activation))
        return branch

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """Returns the gradient of both summands."""
        masked = apply_mask(gradient, *ctx.saved_tensors)
        return masked, masked, None


class AveragePool(Function):
    """Average pooling over windows that do not overlap; what does not fill one is left out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: int) -> Tensor:
        """Returns (N, C, H // window, W // window); keeps nothing."""
        ctx.window, ctx.shape = window, x.shape
        return functional.avg_pool2d(x, window)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Returns the gradient spread over the windows."""
        window, size = ctx.window, gradient.shape[-1]
        spread = (gradient / window**2)[:, :, :, None, :, None]
        spread = spread.expand(-1, -1, -1, window, -1, window).reshape(*gradient.shape[:2], *(2 * [size * window]))
        rest = ctx.shape[-1] - size * window
        return functional.pad(spread, (0, rest, 0, rest)) if rest else spread, None


class MaxPool(Function):
    """A 3×3 max pool of stride 2."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Returns (N, C, H', W'); keeps one byte per element: which of the 9 values it took."""
        output, winners = max_pool(x, with_winners=True)
        ctx.shape = x.shape
        ctx.save_for_backward(winners)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Returns the gradient at the winners."""
        (winners,) = ctx.saved_tensors
        return scatter_to_winners(gradient, winners, ctx.shape)


class GlobalPool(Function):
    """The means of b, and of r_n where the head reads it, side by side."""

    @staticmethod
    def forward(ctx: Any, *sources: Tensor) -> Tensor:
        """Returns (N, C) from maps (N, C_i, H, W); keeps nothing."""
        channels = [source.shape[1] for source in sources]
        pooled = sources[0].new_empty(len(sources[0]), sum(channels))
        for source, part in zip(sources, pooled.split(channels, 1), strict=True):
            torch.mean(source, (2, 3), out=part)
        ctx.shapes = [source.shape for source in sources]
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """Returns the gradient spread over the maps."""
        parts = gradient.split([shape[1] for shape in ctx.shapes], 1)
        return tuple(
            (part / (shape[2] * shape[3]))[:, :, None, None].expand(shape)
            for part, shape in zip(parts, ctx.shapes, strict=True)
        )


class CrossEntropy(Function):
    """The mean cross-entropy of a batch, which keeps the log-softmax alone; labels are the caller's."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, total_weight: Tensor) -> Tensor:
        """Returns the loss of logits (N, K) and int64 labels (N,); `total_weight` is a scalar of scratch."""
        loss = logits.new_empty(())
        log_softmax = functional.log_softmax(logits, 1)
        torch.ops.aten.nll_loss_forward.output(
            log_softmax, labels, None, 1, -100, output=loss, total_weight=total_weight
        )
        ctx.save_for_backward(log_softmax, labels)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Returns (softmax − one-hot) / N."""
        log_softmax, labels = ctx.saved_tensors
        of_logits = log_softmax.exp()
        of_logits[torch.arange(len(labels), device=labels.device), labels] -= 1
        return of_logits.mul_(gradient / len(labels)), None, None
