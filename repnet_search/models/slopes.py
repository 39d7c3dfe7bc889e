"""The slopes of h-swish and SiLU in one byte per element, as a target with `slopes: 8bit` keeps them.

Both slopes lie within -0.5 … 1.5. Code 0 … 252 stands for -0.5 + code / 126, so that 0 and 1, the slopes on the two
straight ends of h-swish, are exact, and no other slope is off by more than 1/252. On the CPU numpy does it: its
temporaries are not torch storages. NaN is code 255, and stays NaN.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from repnet_search.backbones import Activation

_LOWEST = -0.5
_STEPS_PER_UNIT = 126
_NAN = 255


def slope(x: Tensor, activation: Activation) -> Tensor:
    """Returns the slope of h-swish or SiLU at every element, exactly; at ±3 that of the straight ends."""
    if activation is Activation.SILU:
        gate = torch.sigmoid(x)
        return gate * (1 + x * (1 - gate))
    inner = (2 * x + 3) / 6
    return torch.where(x <= -3, torch.zeros_like(x), torch.where(x >= 3, torch.ones_like(x), inner))


def encode_slope(x: Tensor, activation: Activation) -> Tensor:
    """Returns the codes (uint8, of x's shape) of the slopes at every element of x."""
    codes = torch.empty(x.shape, dtype=torch.uint8, device=x.device)
    if x.device.type == "cpu":
        values = _slope_in_numpy(x.detach().numpy(), activation)
        scaled = np.rint((values - _LOWEST) * _STEPS_PER_UNIT)
        codes.numpy()[...] = np.where(np.isnan(scaled), _NAN, scaled)
        return codes
    scaled_on_device = ((slope(x.detach(), activation) - _LOWEST) * _STEPS_PER_UNIT).round_()
    return codes.copy_(scaled_on_device.nan_to_num_(nan=_NAN))


def decode_slope(codes: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns the slopes that codes stand for."""
    values = codes.to(dtype) / _STEPS_PER_UNIT + _LOWEST
    return values.masked_fill_(codes == _NAN, float("nan"))


def _slope_in_numpy(x: NDArray[np.floating], activation: Activation) -> NDArray[np.floating]:
    slopes: NDArray[np.floating]
    if activation is Activation.SILU:
        gate = 1 / (1 + np.exp(-np.clip(x, -80, 80)))
        slopes = gate * (1 + x * (1 - gate))
    else:
        slopes = np.where(x <= -3, 0, np.where(x >= 3, 1, (2 * x + 3) / 6))
    return slopes
