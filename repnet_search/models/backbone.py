"""The frozen backbone as a torch module, built from its block table with the norms folded into the convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from repnet_search.backbones import Activation, Block, BlockTable, Conv, SqueezeExcite


class FrozenConv(nn.Module):
    """A convolution with its norm folded in, then its activation: (N, C_in, H, W) → (N, C_out, H', W')."""

    def __init__(self, conv: Conv) -> None:
        super().__init__()
        self.activation = conv.activation
        self.stride, self.groups, self.padding = conv.stride, conv.groups, conv.kernel // 2
        shape = (conv.out_channels, conv.in_channels // conv.groups, conv.kernel, conv.kernel)
        self.register_buffer("weight", torch.zeros(shape))
        self.bias = nn.Parameter(torch.zeros(conv.out_channels), requires_grad=False)
        self.weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Returns the activated convolution."""
        x = functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
        return activate(x, self.activation)


class FrozenSqueeze(nn.Module):
    """A squeeze-and-excitation: (N, C, H, W) → the same, each channel scaled by what all of their means say."""

    def __init__(self, squeeze: SqueezeExcite) -> None:
        super().__init__()
        self.reduce, self.expand = FrozenConv(squeeze.reduce), FrozenConv(squeeze.expand)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the scaled map."""
        scale: Tensor = self.expand(self.reduce(functional.adaptive_avg_pool2d(x, 1)))
        return x * scale


class FrozenBlock(nn.Module):
    """A block of the table: convolutions in a chain and, where it has them, the parts that `Block` names."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.convs = nn.ModuleList(FrozenConv(conv) for conv in block.convs)
        self.squeeze = FrozenSqueeze(block.squeeze) if block.squeeze is not None else None
        self.squeezed = block.squeeze.after if block.squeeze is not None else -1
        self.pools_first = block.pools_first
        self.shortcut = FrozenConv(block.shortcut) if block.shortcut is not None else None
        self.residual, self.activation, self.max_pool = block.residual, block.activation, block.max_pool

    def forward(self, x: Tensor) -> Tensor:
        """Returns the block's output (N, C_i, H_i, W_i); a block without convolutions returns `x` itself."""
        out = functional.adaptive_avg_pool2d(x, 1) if self.pools_first else x
        for position, conv in enumerate(self.convs):
            out = conv(out)
            if self.squeeze is not None and position == self.squeezed:
                out = self.squeeze(out)
        if self.residual:
            out = (x if self.shortcut is None else self.shortcut(x)) + out
        out = activate(out, self.activation)
        return functional.max_pool2d(out, 3, stride=2, padding=1) if self.max_pool else out


def activate(x: Tensor, activation: Activation) -> Tensor:
    """Returns an activated tensor; `x` itself is left alone."""
    return _ACTIVATIONS[activation](x)


_ACTIVATIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    Activation.NONE: lambda x: x,
    Activation.RELU: functional.relu,
    Activation.RELU6: functional.relu6,
    Activation.HARD_SWISH: functional.hardswish,
    Activation.SILU: functional.silu,
    Activation.HARD_SIGMOID: functional.hardsigmoid,
    Activation.SIGMOID: torch.sigmoid,
}


class FrozenBackbone(nn.Module):
    """All blocks in order; nothing trains unless the design trains the biases."""

    def __init__(self, table: BlockTable, weights: Mapping[str, Tensor], *, train_bias: bool = False) -> None:
        """Copies folded weights in.

        Args:
            table: what the backbone is made of.
            weights: `KEY.weight` and `KEY.bias` for every convolution key of the table (see models/weights.py).
            train_bias: whether all biases train.
        """
        super().__init__()
        self.blocks = nn.ModuleList(FrozenBlock(block) for block in table.blocks)
        convs = [module for module in self.modules() if isinstance(module, FrozenConv)]
        with torch.no_grad():
            for conv, spec in zip(convs, table.convs(), strict=True):
                conv.weight.copy_(weights[f"{spec.key}.weight"])
                conv.bias.copy_(weights[f"{spec.key}.bias"])
                conv.bias.requires_grad_(train_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the last block's output for a normalised image (N, 3, H, W)."""
        for block in self.blocks:
            x = block(x)
        return x
