"""int8 arithmetic as a microcontroller does it: codes, fixed-point multipliers, requantisation.

A real value is scale · (code − zero_point), code in −128..127. Activations have one scale per tensor, weights one per
output channel and no zero point [Jacob2018quantization]. A sum of products is brought to the output's scale by an
integer multiplier and a right shift with rounding. Everything here is exact: torch computes on whole numbers in
float32 while these are below 2²⁴ and in float64 below 2⁵³, so the results are those of integers, bit by bit.

[Jacob2018quantization] B. Jacob et al., Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference, CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

LOWEST, HIGHEST = -128, 127
WEIGHT_LIMIT = 127
MULTIPLIER_BITS = 23
"""With sums below 2²⁹ the product with a multiplier stays below 2⁵², which a float64 holds exactly."""

FLOAT32_LIMIT = 1 << 24
CACHED_ELEMENTS = 1 << 17


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
        return (x / self.scale).round_()


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


def requantise_scaled(values: Tensor, factor: Tensor, offset: Tensor, params: QuantParams) -> Tensor:
    """Returns what `requantise` does of whole `values` (N, C, H, W) times `factor` plus `offset`.

    Args:
        values: float32 or float64.
        factor: float64, of fixed-point numbers, to be multiplied with (N, C, H, W).
        offset: float64, whole multiples of what `factor` is one of, with the half that rounding adds.
        params: the output's grid.
    """
    codes = torch.empty_like(values, dtype=torch.float32)
    for part, target in _cached_parts(values, codes):
        target.copy_(torch.addcmul(offset, part.double(), factor).floor_())
    return codes.clamp_(LOWEST - params.zero_point, HIGHEST - params.zero_point)


def requantise_sum(first: Tensor, second: Tensor, *, of_first: float, of_second: float, params: QuantParams) -> Tensor:
    """Returns what `requantise` does of two tensors of whole numbers, each times its factor, added up."""
    codes = torch.empty_like(first, dtype=torch.float32)
    for one, other, target in _cached_parts(first, second, codes):
        scaled = one.double().mul_(of_first).add_(other.double(), alpha=of_second)
        target.copy_(scaled.add_(0.5).floor_())
    return codes.clamp_(LOWEST - params.zero_point, HIGHEST - params.zero_point)


def _cached_parts(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yields tensors in parts along N whose float64 values stay in a core's cache: half the time of large ones."""
    first = tensors[0]
    if first.is_cuda or first.numel() <= CACHED_ELEMENTS:
        yield tensors
        return
    rows = max(1, CACHED_ELEMENTS // first[0].numel())
    yield from zip(*(tensor.split(rows) for tensor in tensors), strict=True)


def pass_unclamped(gradient: Tensor, codes: Tensor, params: QuantParams) -> Tensor:
    """Returns a gradient where `unclamped` is true of its codes, and 0 elsewhere.

    One operator for two comparisons, their conjunction and a product: a fifth of the time.
    """
    low, high = LOWEST - params.zero_point, HIGHEST - params.zero_point
    passed: Tensor = torch.ops.aten.hardtanh_backward(gradient, codes.to(gradient.dtype), low, high)
    return passed


def unclamped(codes: Tensor, params: QuantParams) -> Tensor:
    """Returns where centred codes are inside their range (bool); what lies on its ends counts as clamped."""
    return (codes > LOWEST - params.zero_point) & (codes < HIGHEST - params.zero_point)
