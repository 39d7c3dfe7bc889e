"""The frozen backbone as a torch module, built from its block table with the norms folded into the convolutions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from repnet_search.backbones import Activation, Block, BlockTable, Conv


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
        return _activate(x, self.activation)


class FrozenBlock(nn.Module):
    """A block of the table: convolutions in a chain and, where it has them, shortcut, activation and max pool."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.convs = nn.ModuleList(FrozenConv(conv) for conv in block.convs)
        self.shortcut = FrozenConv(block.shortcut) if block.shortcut is not None else None
        self.residual, self.activation, self.max_pool = block.residual, block.activation, block.max_pool

    def forward(self, x: Tensor) -> Tensor:
        """Returns the block's output (N, C_i, H_i, W_i); a block without convolutions returns `x` itself."""
        out = x
        for conv in self.convs:
            out = conv(out)
        if self.residual:
            out = (x if self.shortcut is None else self.shortcut(x)) + out
        out = _activate(out, self.activation)
        return functional.max_pool2d(out, 3, stride=2, padding=1) if self.max_pool else out


def _activate(x: Tensor, activation: Activation) -> Tensor:
    if activation is Activation.RELU6:
        return functional.relu6(x)
    return functional.relu(x) if activation is Activation.RELU else x


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
