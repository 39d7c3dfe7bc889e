"""Autograd functions of smooth activations and squeeze-and-excitation: the lean runtime's part of MobileNetV3.

With exact slopes h-swish and SiLU keep in stock PyTorch just what the arena account says, their input.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from repnet_search.backbones import Activation
from repnet_search.models.backbone import activate as activated
from repnet_search.models.lean import activate
from repnet_search.models.slopes import decode_slope, encode_slope


class CoarseActivation(Function):
    """H-swish or SiLU in place; its slope is kept in one byte per element."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, activation: Activation) -> Tensor:
        """Returns the tensor itself, activated."""
        ctx.mark_dirty(x)
        ctx.save_for_backward(encode_slope(x, activation))
        return activate(x, activation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Returns the gradient of what was activated."""
        (codes,) = ctx.saved_tensors
        return gradient * decode_slope(codes, gradient.dtype), None


class ChannelScale(Function):
    """A map scaled per channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, kept: Tensor, activation: Activation) -> Tensor:
        """Returns x (N, C, H, W) times the gate (N, C, 1, 1).

        Keeps the gate and `kept`: x itself with no activation, or what the activation makes x of.
        """
        ctx.activation = activation
        ctx.save_for_backward(gate, kept)
        return x * gate

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Returns the gradients of x and of the gate."""
        gate, kept = ctx.saved_tensors
        x = activated(kept, ctx.activation)
        return gradient * gate, (gradient * x).sum((2, 3), keepdim=True), None, None
