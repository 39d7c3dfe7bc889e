"""Networks for the bring-your-own route: `--backbone studies/own_backbones.py:FUNCTION`.

torchvision's own, and small ones by hand that have what a block can hold: strides, groups, shortcuts with and without
a convolution, squeeze-and-excitation, smooth activations, single layers and functions in a forward.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from repnet_search.models.vision import torchvision

_models = torchvision.models


def mobilenet_v3_small() -> nn.Module:
    """Returns torchvision's network."""
    return _network("mobilenet_v3_small")


def resnet18() -> nn.Module:
    """Returns torchvision's network."""
    return _network("resnet18")


def mnasnet() -> nn.Module:
    """Returns torchvision's network, at width 0.5."""
    return _network("mnasnet0_5")


def regnet_y_400mf() -> nn.Module:
    """Returns torchvision's network: grouped convolutions, squeeze-and-excitation with ReLU and sigmoid."""
    return _network("regnet_y_400mf")


def efficientnet_b0() -> nn.Module:
    """Returns torchvision's network: SiLU everywhere, stochastic depth."""
    return _network("efficientnet_b0")


def resnext50() -> nn.Module:
    """Returns torchvision's network."""
    return _network("resnext50_32x4d")


def shufflenet() -> nn.Module:
    """Returns torchvision's network, which no blocks can hold: it splits, concatenates and shuffles channels."""
    return _network("shufflenet_v2_x0_5")


def densenet() -> nn.Module:
    """Returns torchvision's network, which no blocks can hold: it concatenates."""
    return _network("densenet121")


def squeezenet() -> nn.Module:
    """Returns torchvision's network, which no blocks can hold: it concatenates."""
    return _network("squeezenet1_1")


def tiny() -> nn.Module:
    """Returns a small network of residual units with squeeze-and-excitation, written with functions."""
    return _Tiny()


def plain() -> nn.Module:
    """Returns a Sequential of single layers, with a norm behind a convolution that has a bias, and a hidden layer."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16, eps=1e-3),
        nn.ReLU6(),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(16, 32, 5, stride=2, padding=2, groups=4, bias=False),
        nn.BatchNorm2d(32, eps=1e-3),
        nn.SiLU(),
        nn.Conv2d(32, 48, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(48, 64),
        nn.Hardswish(),
        nn.Dropout(),
        nn.Linear(64, 10),
    )


class _Squeeze(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the scaled map."""
        means = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.up(functional.silu(self.down(means))))


class _Unit(nn.Module):
    """Depthwise, squeeze-and-excitation at the very end of the branch, h-swish behind the sum."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, out_channels, 1)
        self.squeeze = _Squeeze(out_channels)
        self.shortcut = (
            nn.Identity() if stride == 1 and channels == out_channels else nn.Conv2d(channels, out_channels, 1, stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns the unit's output."""
        out = functional.hardswish(self.first_norm(self.first(x)))
        out = self.squeeze(functional.hardswish(self.second(out)))
        return functional.hardswish(self.shortcut(x) + out)


class _Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.units = nn.Sequential(_Unit(16, 16, 1), _Unit(16, 32, 2), _Unit(32, 32, 1), _Unit(32, 48, 2))
        self.head = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits (N, 10)."""
        x = self.units(self.stem(x))
        return self.head(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]


def _network(name: str) -> nn.Module:
    """Returns a network of torchvision's with the weights that it is made with."""
    return _models.get_model(name)  # type: ignore[no-any-return]
