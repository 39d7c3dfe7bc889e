"""int8 arithmetic as a microcontroller does it: codes, fixed-point multipliers, requantisation.

A real value is scale · (code − zero_point), code in −128..127. Activations have one scale per tensor, weights one per
output channel and no zero point [Jacob2018quantization]. A sum of products is brought to the output's scale by an
integer multiplier and a right shift with rounding. Everything here is exact: torch computes on whole numbers in
float32 while these are below 2²⁴ and in float64 below 2⁵³, so the results are those of integers, bit by bit.

[Jacob2018quantization] B. Jacob et al., Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference, CVPR 2018.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LOWEST, HIGHEST = -128, 127
WEIGHT_LIMIT = 127
MULTIPLIER_BITS = 23
"""With sums below 2²⁹ the product with a multiplier stays below 2⁵², which a float64 holds exactly."""

FLOAT32_LIMIT = 1 << 24


class QuantParams(NamedTuple):
    """The grid of an int8 tensor."""

    scale: float
    zero_point: int

    def quantise(self, x: Tensor) -> Tensor:
        """Returns the nearest codes of real values, centred (code − zero point) and as whole float32 numbers."""
        codes = torch.round(x / self.scale)
        return codes.clamp_(LOWEST - self.zero_point, HIGHEST - self.zero_point)

    def centred(self, x: Tensor) -> Tensor:
        """Returns the centred codes of real values that lie on this grid."""
        return torch.round(x / self.scale)


class Multiplier(NamedTuple):
    """Real factors as `mantissa` · 2^−`shift`, mantissas of 23 bits; whole numbers in tensors of one shape."""

    mantissa: Tensor
    shift: Tensor

    @property
    def value(self) -> Tensor:
        """The factors that the fixed-point numbers stand for, exactly, in float64."""
        return torch.ldexp(self.mantissa.double(), -self.shift)


def choose_params(low: float, high: float) -> QuantParams:
    """Returns the grid for a range, widened to hold 0, which padding needs.

    >>> choose_params(0.0, 5.1)
    QuantParams(scale=0.02, zero_point=-128)
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (HIGHEST - LOWEST) or 1.0
    zero_point = round(LOWEST - low / scale)
    return QuantParams(scale, min(max(zero_point, LOWEST), HIGHEST))


def quantise_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Returns codes (whole float32 numbers, −127..127) and scales (C_out,) of a weight (C_out, …)."""
    largest = weight.flatten(1).abs().amax(1)
    scale = torch.where(largest > 0, largest / WEIGHT_LIMIT, torch.ones_like(largest))
    codes = torch.round(weight / scale.view(-1, *[1] * (weight.ndim - 1)))
    return codes.clamp_(-WEIGHT_LIMIT, WEIGHT_LIMIT), scale


def fixed_point(factors: Tensor) -> Multiplier:
    """Returns positive real factors as fixed-point numbers.

    >>> [int(part) for part in fixed_point(torch.tensor(0.75))]
    [6291456, 23]
    """
    fraction, exponent = torch.frexp(factors.double())
    mantissa = torch.round(fraction * (1 << MULTIPLIER_BITS)).long()
    return Multiplier(mantissa, (MULTIPLIER_BITS - exponent).long())


def common_shift(first: float, second: float) -> tuple[Multiplier, Multiplier]:
    """Returns two factors with one shift, as a sum of two tensors on different grids needs them."""
    shift = int(fixed_point(torch.tensor(max(first, second), dtype=torch.float64)).shift)
    mantissas = [torch.tensor(round(factor * 2.0**shift)) for factor in (first, second)]
    return Multiplier(mantissas[0], torch.tensor(shift)), Multiplier(mantissas[1], torch.tensor(shift))


def needs_float64(products: int) -> bool:
    """Whether a sum of so many products of an activation and a weight may leave the whole numbers of a float32."""
    return products * (HIGHEST - LOWEST) * WEIGHT_LIMIT >= FLOAT32_LIMIT


def requantise(scaled: Tensor, params: QuantParams) -> Tensor:
    """Returns centred codes (float32), clamped, of sums that are scaled already (float64, changed in place).

    Rounds halves up, as adding half and shifting right does.
    """
    codes = scaled.add_(0.5).floor_().float()
    return codes.clamp_(LOWEST - params.zero_point, HIGHEST - params.zero_point)


def unclamped(codes: Tensor, params: QuantParams) -> Tensor:
    """Returns where centred codes are inside their range (bool); what lies on its ends counts as clamped."""
    return (codes > LOWEST - params.zero_point) & (codes < HIGHEST - params.zero_point)
