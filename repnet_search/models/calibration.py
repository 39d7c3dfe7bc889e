"""The ranges of a frozen backbone's activations, taken from training images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repnet_search.backbones import BlockTable
from repnet_search.models.backbone import FrozenBackbone
from repnet_search.models.quantisation import QuantParams, choose_params

CALIBRATION_IMAGES = 64
SAMPLED_VALUES = 1 << 16
CLIPPED = tuple(1.0 - 0.05 * step for step in range(13))
"""Shares of the full range that are tried; the one with the least squared error is taken."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The range (low, high) of each tensor of a backbone.

    `image`; `bI.K` behind convolution K of block I, `bI.shortcut`, and `bI` behind the whole block.
    """

    ranges: Mapping[str, tuple[float, float]]

    def params(self, name: str, *, headroom: float = 1.0) -> QuantParams:
        """Returns the grid of a tensor, its range widened by a factor."""
        low, high = self.ranges[name]
        return choose_params(low * headroom, high * headroom)


def calibrate(table: BlockTable, weights: Mapping[str, Tensor], images: Tensor) -> Calibration:
    """Returns the ranges that normalised images (N, 3, H, W) give in fp32.

    Args:
        table: the backbone.
        weights: its folded weights.
        images: at the resolution that the design has; some tens are enough.
    """
    backbone = FrozenBackbone(table, weights).to(images.device).eval()
    ranges = {"image": _clip(images)}

    def watch(module: nn.Module, name: str) -> None:
        module.register_forward_hook(lambda _, __, output: ranges.update({name: _clip(output)}))

    for name, module in backbone.named_modules():
        parts = name.split(".")[1:]  # blocks.I, blocks.I.convs.K, blocks.I.shortcut
        if parts and not isinstance(module, nn.ModuleList):
            watch(module, ".".join([f"b{parts[0]}", *(part for part in parts[1:] if part != "convs")]))
    with torch.inference_mode():
        backbone(images)
    return Calibration(ranges)


def _clip(values: Tensor) -> tuple[float, float]:
    """Returns the range that costs the least squared error, rounding and clamping together."""
    flat = values.flatten()
    sample = flat[:: max(1, flat.numel() // SAMPLED_VALUES)].double()
    low, high = min(float(flat.min()), 0.0), max(float(flat.max()), 0.0)
    return min(((low * share, high * share) for share in CLIPPED), key=lambda ends: _error(sample, *ends))


def _error(sample: Tensor, low: float, high: float) -> float:
    params = choose_params(low, high)
    return float((params.quantise(sample) * params.scale - sample).square().mean())
