"""Block tables: what a backbone is made of, as numbers.

A backbone is a stem and blocks B_0 … B_{L-1}; each is a chain of convolutions (their norms folded), with or without a
shortcut; a block without convolutions passes its input on, as some searched networks have it. The graph, the memory
account and the frozen torch model are all built from the same table, so they cannot drift apart. Maps are square and
paddings are kernel // 2, as in all backbones here.

[Hu2018squeeze] J. Hu et al., Squeeze-and-Excitation Networks, CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from repnet_search.errors import SpecError

SMOOTH_PARTS = "h-swish, SiLU, squeeze-and-excitation or a layer behind its pooling"
"""What int8 lacks, and training a whole network."""


class Activation(StrEnum):
    """What follows a convolution."""

    NONE = "none"
    RELU = "relu"
    RELU6 = "relu6"
    HARD_SWISH = "hardswish"
    SILU = "silu"
    HARD_SIGMOID = "hardsigmoid"
    SIGMOID = "sigmoid"

    @property
    def is_clamp(self) -> bool:
        """Whether its gradient needs one bit per element: where it lets the gradient through."""
        return self in (Activation.RELU, Activation.RELU6)

    @property
    def is_smooth(self) -> bool:
        """Whether its gradient needs its input: h-swish and SiLU, whose output two inputs may share."""
        return self in (Activation.HARD_SWISH, Activation.SILU)

    @property
    def is_gate(self) -> bool:
        """Whether its gradient follows from its output: (hard) sigmoids, which end a squeeze-and-excitation."""
        return self in (Activation.HARD_SIGMOID, Activation.SIGMOID)


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution with its folded batch norm, then an activation.

    `key` and `norm_key` are the state-dict prefixes of the convolution and its batch norm in the released weights; an
    empty `norm_key` is for one without a norm. `bias` is whether the convolution has a bias of its own there. A linear
    layer on a pooled map is a 1×1 convolution.
    """

    key: str
    norm_key: str
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    groups: int
    activation: Activation
    bias: bool = False

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel has a filter of its own."""
        return self.groups == self.in_channels == self.out_channels

    @property
    def weight_count(self) -> int:
        """Elements of the weight, the bias left out."""
        return self.out_channels * (self.in_channels // self.groups) * self.kernel**2

    def output_size(self, size: int) -> int:
        """Returns the side of the output map for an input map of side `size`."""
        return (size - 1) // self.stride + 1


@dataclass(frozen=True, slots=True)
class SqueezeExcite:
    """A squeeze-and-excitation behind convolution `after` of a chain [Hu2018squeeze].

    The map's means go through the 1×1 convolutions `reduce` and `expand`; the result, which ends in a (hard) sigmoid,
    scales the map's channels.
    """

    after: int
    reduce: Conv
    expand: Conv


@dataclass(frozen=True, slots=True)
class Block:
    """A stage's unit, after which a connector may sit.

    Convolutions in a chain, with `squeeze` a squeeze-and-excitation inside; with `residual`, plus the block's input,
    through the convolution `shortcut` where it has one, and then `activation`; with `max_pool`, a 3×3 max pool of
    stride 2 behind it; with `pools_first`, global average pooling in front: the rest works on a 1×1 map. `channels`
    are what it writes.
    """

    convs: tuple[Conv, ...]
    residual: bool
    stage: int
    channels: int
    shortcut: Conv | None = None
    activation: Activation = Activation.NONE
    max_pool: bool = False
    squeeze: SqueezeExcite | None = None
    pools_first: bool = False

    @property
    def is_identity(self) -> bool:
        """Whether the block passes its input on unchanged; a connector after it would be one after its predecessor."""
        return not self.convs

    @property
    def is_inverted_residual(self) -> bool:
        """Whether the block is a 1×1 expansion, a depthwise convolution and a linear 1×1 projection.

        Such a block can run per hidden channel. Its activations are clamps, and it has no squeeze-and-excitation, which
        needs the whole hidden map.
        """
        if len(self.convs) != 3 or self.shortcut is not None or self.max_pool:
            return False
        if self.squeeze is not None or self.pools_first or self.is_smooth:
            return False
        expand, depthwise, project = self.convs
        pointwise = all(conv.kernel == 1 and conv.stride == 1 and conv.groups == 1 for conv in (expand, project))
        linear = project.activation is Activation.NONE and self.activation is Activation.NONE
        return pointwise and linear and depthwise.is_depthwise

    @property
    def is_smooth(self) -> bool:
        """Whether any of its activations is smooth."""
        activations = (self.activation, *(conv.activation for conv in self.all_convs()))
        return any(activation.is_smooth for activation in activations)

    def all_convs(self) -> tuple[Conv, ...]:
        """Returns the chain, the squeeze-and-excitation's convolutions and the shortcut's."""
        squeeze = () if self.squeeze is None else (self.squeeze.reduce, self.squeeze.expand)
        shortcut = () if self.shortcut is None else (self.shortcut,)
        return (*self.convs, *squeeze, *shortcut)

    def count_macs(self, size: int) -> int:
        """Returns the multiply-accumulates of one image, for an input map of side `size`."""
        macs = 0 if self.shortcut is None else self.shortcut.weight_count * self.shortcut.output_size(size) ** 2
        if self.squeeze is not None:
            macs += self.squeeze.reduce.weight_count + self.squeeze.expand.weight_count
        size = 1 if self.pools_first else size
        for conv in self.convs:
            size = conv.output_size(size)
            macs += conv.weight_count * size**2
        return macs

    def output_size(self, size: int) -> int:
        """Returns the side of the output map for an input map of side `size`."""
        if self.pools_first:
            size = 1
        for conv in self.convs:
            size = conv.output_size(size)
        return (size - 1) // 2 + 1 if self.max_pool else size


@dataclass(frozen=True)
class BlockTable:
    """A backbone as numbers: its name, its blocks, where the paper's preset puts its connectors, its norms' ε."""

    name: str
    blocks: tuple[Block, ...]
    paper_blocks: tuple[int, ...]
    norm_eps: float = 1e-5

    @property
    def feature_channels(self) -> int:
        """Channels of the last block, which the head pools."""
        return self.blocks[-1].channels

    @property
    def last_block(self) -> int:
        """The index of the last block."""
        return len(self.blocks) - 1

    @cached_property
    def stages(self) -> tuple[tuple[int, ...], ...]:
        """The blocks of each stage, in order."""
        stages: dict[int, list[int]] = {}
        for index, block in enumerate(self.blocks):
            stages.setdefault(block.stage, []).append(index)
        return tuple(tuple(blocks) for blocks in stages.values())

    @cached_property
    def weight_count(self) -> int:
        """Elements of all frozen convolution weights, biases left out."""
        return sum(conv.weight_count for conv in self.convs())

    @cached_property
    def bias_count(self) -> int:
        """Elements of all folded biases."""
        return sum(conv.out_channels for conv in self.convs())

    @cached_property
    def has_smooth_parts(self) -> bool:
        """Whether there is more than convolutions, clamps, sums and max pools in it: one of `SMOOTH_PARTS`."""
        return any(block.squeeze is not None or block.pools_first or block.is_smooth for block in self.blocks)

    def check_int8(self) -> None:
        """Raises SpecError where there is a part that this version cannot run in int8."""
        if self.has_smooth_parts:
            raise SpecError(
                f"{self.name} has {SMOOTH_PARTS}, which this version has in float32 alone, but got activation_bits 8; "
                "use activation_bits 32."
            )

    def convs(self) -> Iterator[Conv]:
        """Yields every convolution in order."""
        for block in self.blocks:
            yield from block.all_convs()

    def count_macs(self, resolution: int) -> int:
        """Returns the multiply-accumulates of one image's way through all blocks; raises as `output_sizes` does."""
        macs = 0
        size = resolution
        for block, out_size in zip(self.blocks, self.output_sizes(resolution), strict=True):
            macs += block.count_macs(size)
            size = out_size
        return macs

    def output_sizes(self, resolution: int) -> tuple[int, ...]:
        """Returns the side of the map after each block, for square images of side `resolution`.

        Raises:
            SpecError: the resolution is not a positive number of pixels.
        """
        if resolution < 1:
            raise SpecError(f"A resolution must be at least 1 pixel, but got {resolution}.")
        sizes = []
        size = resolution
        for block in self.blocks:
            size = block.output_size(size)
            sizes.append(size)
        return tuple(sizes)
