"""The frozen weights of a bundle: folded float32, or for an int8 backbone codes with a scale per output channel."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from repnet_search.models.quantisation import quantise_weight

_WEIGHT, _SCALE = ".weight", ".scale"


def dump_frozen(tensors: Mapping[str, Tensor], *, activation_bits: int) -> dict[str, Tensor]:
    """Returns folded weights as a bundle's file holds them.

    Args:
        tensors: `KEY.weight` and `KEY.bias` of every convolution.
        activation_bits: with 8, `KEY.weight` becomes int8 codes and `KEY.scale` (C_out,) what a step of them is worth;
            biases stay float32, because what a step of theirs is worth depends on the resolution's calibration.
    """
    if activation_bits == 32:
        return {name: value.contiguous() for name, value in tensors.items()}
    frozen: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name.endswith(_WEIGHT):
            codes, scale = quantise_weight(value)
            frozen[name], frozen[name.removesuffix(_WEIGHT) + _SCALE] = codes.to(torch.int8).contiguous(), scale
        else:
            frozen[name] = value.contiguous()
    return frozen


def restore_frozen(frozen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns folded float32 weights from what `dump_frozen` gave.

    Quantised again they give the same codes and scales, bit by bit: with s the float32 nearest to L / 127, the float32
    nearest to 127 · s, divided by 127, is s again for every mantissa of L (tests/export/test_frozen.py tries all).
    """
    weights: dict[str, Tensor] = {}
    for name, value in frozen.items():
        if value.dtype == torch.int8:
            scale = frozen[name.removesuffix(_WEIGHT) + _SCALE]
            weights[name] = value.float() * scale.view(-1, *[1] * (value.ndim - 1))
        elif not name.endswith(_SCALE):
            weights[name] = value
    return weights
