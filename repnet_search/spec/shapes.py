"""The shape of a Rep-Net module: what its fields mean behind a block, every number effective."""

from __future__ import annotations

import math
from dataclasses import dataclass

from repnet_search.errors import SpecError
from repnet_search.spec.design import Exchange, ModuleSpec, Norm

IMAGE_CHANNELS = 3
CHANNELS_PER_GROUP = 8
"""Channels of a norm group, where they divide [Cai2020tinytl: group norm for batch size 1]."""


@dataclass(frozen=True, slots=True)
class ModuleShape:
    """A Rep-Net module as numbers: r or block input (C_in, S, S) → pooled → mid channels → (C_out, size, size)."""

    after_block: int
    exchange: Exchange
    in_channels: int
    in_size: int
    pool: int
    pooled_size: int
    depth: int
    mid_channels: int
    kernel: int
    groups: tuple[int, ...]
    norm: Norm
    mid_norm_groups: int
    out_norm_groups: int
    weight_standardisation: bool
    out_channels: int
    out_size: int
    reads_block_input: bool

    @property
    def resizes(self) -> bool:
        """Whether the output is resized to the connector's map."""
        return self.pooled_size != self.out_size


def shape_module(
    spec: ModuleSpec,
    *,
    index: int,
    source: tuple[int, int],
    feature: tuple[int, int],
    after_block: int,
    exchange: Exchange,
    reads_block_input: bool,
    clamp_groups: bool,
) -> ModuleShape:
    """Returns the shape of module `index`, which reads channels and map side `source`, behind a block of `feature`.

    Raises:
        SpecError: a group count that does not divide, unless `clamp_groups` lowers it.
    """
    in_channels, in_size = source
    out_channels, out_size = feature
    pool = min(spec.pool, in_size)
    pooled = in_size // pool
    mid = _mid_channels(spec, in_channels if index else out_channels) if spec.depth else 0
    norm = spec.norm
    mid_groups = _norm_groups(norm, mid)
    out_groups = _norm_groups(norm, out_channels)
    if norm is Norm.GROUP and mid_groups <= 1 and out_groups == 1:
        norm = Norm.LAYER
    return ModuleShape(
        after_block=after_block,
        exchange=exchange,
        in_channels=in_channels,
        in_size=in_size,
        pool=pool,
        pooled_size=pooled,
        depth=spec.depth,
        mid_channels=mid,
        kernel=_odd_at_most(min(spec.kernel, pooled)) if spec.depth else 1,
        groups=_conv_groups(spec, in_channels, mid, index, clamp=clamp_groups),
        norm=norm,
        mid_norm_groups=mid_groups,
        out_norm_groups=out_groups,
        weight_standardisation=spec.weight_standardisation,
        out_channels=out_channels,
        out_size=out_size,
        reads_block_input=reads_block_input,
    )


def _mid_channels(spec: ModuleSpec, channels: int) -> int:
    return max(8, int(spec.width * channels + 4) // 8 * 8)


def _odd_at_most(size: int) -> int:
    return size if size % 2 else max(1, size - 1)


def _norm_groups(norm: Norm, channels: int) -> int:
    """Returns the groups of a group or layer norm over `channels`; 0 where there is nothing to count."""
    if norm not in (Norm.GROUP, Norm.LAYER) or channels == 0:
        return 0
    divides = norm is Norm.GROUP and channels % CHANNELS_PER_GROUP == 0
    return channels // CHANNELS_PER_GROUP if divides else 1


def _conv_groups(spec: ModuleSpec, in_channels: int, mid: int, index: int, *, clamp: bool) -> tuple[int, ...]:
    """Returns the groups of each k×k convolution; module 1 reads 3 channels, which no useful count divides."""
    if spec.depth == 0:
        return ()
    common = math.gcd(in_channels, mid)
    if spec.groups == "depthwise":
        return (common,) + (mid,) * (spec.depth - 1)
    if common % spec.groups == 0:
        return (spec.groups,) * spec.depth
    if not clamp and index > 0:
        raise SpecError(
            f"The groups of connectors[{index}]'s module must divide its {in_channels} input and {mid} mid channels, "
            f"but got {spec.groups}; use a divisor of {common} or 'depthwise'."
        )
    groups = max(divisor for divisor in range(1, spec.groups + 1) if common % divisor == 0)
    return (groups,) * spec.depth
