"""A Rep-Net module: average pool → [conv, norm, ReLU] × depth → 1×1 conv → norm without scale → bilinear resize."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from repnet_search.spec.design import Norm
from repnet_search.spec.shapes import ModuleShape

NORM_EPS = 1e-5
STANDARDISATION_EPS = 1e-6


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose weight has mean 0 and variance 1 per output channel [Qiao2019weightstandardization]."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns the convolution with the standardised weight."""
        flat = self.weight.reshape(1, self.out_channels, -1)
        # batch_norm over one "sample" standardises each output channel and keeps only mean and 1/σ (timm does the same)
        weight = functional.batch_norm(flat, None, None, training=True, momentum=0.0, eps=STANDARDISATION_EPS)
        output: Tensor = self._conv_forward(x, weight.reshape_as(self.weight), self.bias)
        return output


class OutputNorm(nn.Module):
    """A group norm without scale, with bias; its scale γ sits on the connector's write path."""

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__()
        self.groups = groups
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the normalised (N, C, H, W)."""
        # group_norm's backward cannot take a bias without a weight (torch 2.13); the addition keeps nothing.
        return functional.group_norm(x, self.groups, eps=NORM_EPS).add_(self.bias.view(-1, 1, 1))


class OutputBatchNorm(nn.Module):
    """A batch norm without scale, with bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=NORM_EPS, affine=False)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the normalised (N, C, H, W)."""
        normed: Tensor = self.norm(x)
        return normed.add_(self.bias.view(-1, 1, 1))


class RepNetModule(nn.Module):
    """s_j from the stream or the block's input: (N, C_in, S, S) → (N, C_out, H, W)."""

    def __init__(self, shape: ModuleShape) -> None:
        super().__init__()
        self.pool = shape.pool
        self.out_size = shape.out_size if shape.resizes else None
        layers: list[nn.Module] = []
        channels = shape.in_channels
        for groups in shape.groups:
            layers.append(_create_conv(shape, channels, shape.mid_channels, kernel=shape.kernel, groups=groups))
            if shape.norm is not Norm.NONE:
                layers.append(_create_inner_norm(shape))
            layers.append(nn.ReLU())
            channels = shape.mid_channels
        layers.append(_create_conv(shape, channels, shape.out_channels, kernel=1, groups=1))
        if shape.norm is Norm.BATCH:
            layers.append(OutputBatchNorm(shape.out_channels))
        elif shape.norm is not Norm.NONE:
            layers.append(OutputNorm(shape.out_norm_groups, shape.out_channels))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Returns s_j at the connector's map."""
        if self.pool > 1:
            x = functional.avg_pool2d(x, self.pool)
        x = self.layers(x)
        if self.out_size is None:
            return x
        return functional.interpolate(x, size=(self.out_size, self.out_size), mode="bilinear", align_corners=False)


def _create_conv(shape: ModuleShape, channels: int, out_channels: int, *, kernel: int, groups: int) -> nn.Conv2d:
    # A single weight per output channel has no variance: it is left as it is (the graph counts it so too).
    standardises = shape.weight_standardisation and channels // groups * kernel**2 > 1
    kind = StandardisedConv2d if standardises else nn.Conv2d
    conv = kind(channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=shape.norm is Norm.NONE)
    nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def _create_inner_norm(shape: ModuleShape) -> nn.Module:
    if shape.norm is Norm.BATCH:
        return nn.BatchNorm2d(shape.mid_channels, eps=NORM_EPS)
    return nn.GroupNorm(shape.mid_norm_groups, shape.mid_channels, eps=NORM_EPS)
