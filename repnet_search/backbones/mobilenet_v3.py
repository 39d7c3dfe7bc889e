"""MobileNetV3, small and large, in any width [Howard2019mobilenetv3], with torchvision's block indices and key names.

With `last_conv` the table ends as the network does: a 1×1 convolution, then on the pooled map the hidden linear layer
of its classifier, as a frozen block of its own.

[Howard2019mobilenetv3] A. Howard et al., Searching for MobileNetV3, ICCV 2019.
"""

from __future__ import annotations

from typing import NamedTuple

from repnet_search.backbones.mobilenet_v2 import divisible_by_8
from repnet_search.backbones.table import Activation, Block, BlockTable, Conv, SqueezeExcite

_NORM_EPS = 1e-3
_STEM_CHANNELS = 16
_LAST_CONV_EXPANSION = 6
_SQUEEZE = 4


class _Setting(NamedTuple):
    """An inverted residual at width 1."""

    kernel: int
    expanded: int
    channels: int
    squeezes: bool
    activation: Activation
    stride: int


_RE, _HS = Activation.RELU, Activation.HARD_SWISH

# [Howard2019mobilenetv3, tables 1 and 2]
_LARGE = (
    _Setting(3, 16, 16, False, _RE, 1),
    _Setting(3, 64, 24, False, _RE, 2),
    _Setting(3, 72, 24, False, _RE, 1),
    _Setting(5, 72, 40, True, _RE, 2),
    _Setting(5, 120, 40, True, _RE, 1),
    _Setting(5, 120, 40, True, _RE, 1),
    _Setting(3, 240, 80, False, _HS, 2),
    _Setting(3, 200, 80, False, _HS, 1),
    _Setting(3, 184, 80, False, _HS, 1),
    _Setting(3, 184, 80, False, _HS, 1),
    _Setting(3, 480, 112, True, _HS, 1),
    _Setting(3, 672, 112, True, _HS, 1),
    _Setting(5, 672, 160, True, _HS, 2),
    _Setting(5, 960, 160, True, _HS, 1),
    _Setting(5, 960, 160, True, _HS, 1),
)
_SMALL = (
    _Setting(3, 16, 16, True, _RE, 2),
    _Setting(3, 72, 24, False, _RE, 2),
    _Setting(3, 88, 24, False, _RE, 1),
    _Setting(5, 96, 40, True, _HS, 2),
    _Setting(5, 240, 40, True, _HS, 1),
    _Setting(5, 240, 40, True, _HS, 1),
    _Setting(5, 120, 48, True, _HS, 1),
    _Setting(5, 144, 48, True, _HS, 1),
    _Setting(5, 288, 96, True, _HS, 2),
    _Setting(5, 576, 96, True, _HS, 1),
    _Setting(5, 576, 96, True, _HS, 1),
)


def create_mobilenet_v3_large(*, width_mult: float, last_conv: bool) -> BlockTable:
    """Returns the block table: the stem, 15 inverted residuals and, with `last_conv`, the last two layers.

    >>> table = create_mobilenet_v3_large(width_mult=1.0, last_conv=True)
    >>> len(table.blocks), table.feature_channels, table.weight_count, table.bias_count
    (18, 1280, 4171272, 18560)
    """
    return _create("mobilenet_v3_large", _LARGE, 1280, width_mult=width_mult, last_conv=last_conv)


def create_mobilenet_v3_small(*, width_mult: float, last_conv: bool) -> BlockTable:
    """Returns the block table: the stem, 11 inverted residuals and, with `last_conv`, the last two layers."""
    return _create("mobilenet_v3_small", _SMALL, 1024, width_mult=width_mult, last_conv=last_conv)


def _create(
    name: str, settings: tuple[_Setting, ...], hidden: int, *, width_mult: float, last_conv: bool
) -> BlockTable:
    channels = divisible_by_8(_STEM_CHANNELS * width_mult)
    stem = _conv("features.0", 3, channels, 3, stride=2, activation=_HS)
    blocks = [Block(convs=(stem,), residual=False, stage=0, channels=channels)]
    ends: list[int] = []
    for index, setting in enumerate(settings, start=1):
        block = _inverted_residual(f"features.{index}.block", blocks[-1], setting, width_mult)
        if block.stage == blocks[-1].stage:
            ends.pop()
        ends.append(index)
        blocks.append(block)
    if last_conv:
        blocks += _last_blocks(blocks[-1], len(blocks), divisible_by_8(hidden * width_mult))
    full_name = f"{name}_w{round(width_mult * 100):03d}{'_last_conv' if last_conv else ''}"
    return BlockTable(name=full_name, blocks=tuple(blocks), paper_blocks=tuple(ends), norm_eps=_NORM_EPS)


def _inverted_residual(key: str, previous: Block, setting: _Setting, width_mult: float) -> Block:
    """Returns a block; a stage is a run of blocks of the same width and map."""
    in_channels = previous.channels
    expanded, channels = divisible_by_8(setting.expanded * width_mult), divisible_by_8(setting.channels * width_mult)
    activation, stride = setting.activation, setting.stride
    convs: list[Conv] = []
    if expanded != in_channels:
        convs.append(_conv(f"{key}.0", in_channels, expanded, 1, activation=activation))
    depthwise = f"{key}.{len(convs)}"
    convs.append(
        _conv(depthwise, expanded, expanded, setting.kernel, stride=stride, groups=expanded, activation=activation)
    )
    squeeze = _squeeze(f"{key}.{len(convs)}", expanded, after=len(convs) - 1) if setting.squeezes else None
    position = len(convs) + (squeeze is not None)
    convs.append(_conv(f"{key}.{position}", expanded, channels, 1, activation=Activation.NONE))
    residual = stride == 1 and in_channels == channels
    opens_stage = previous.stage == 0 or stride > 1 or in_channels != channels
    return Block(
        convs=tuple(convs), residual=residual, stage=previous.stage + opens_stage, channels=channels, squeeze=squeeze
    )


def _squeeze(key: str, channels: int, *, after: int) -> SqueezeExcite:
    squeezed = divisible_by_8(channels // _SQUEEZE)
    return SqueezeExcite(
        after=after,
        reduce=Conv(f"{key}.fc1", "", channels, squeezed, 1, 1, groups=1, activation=Activation.RELU, bias=True),
        expand=Conv(
            f"{key}.fc2", "", squeezed, channels, 1, 1, groups=1, activation=Activation.HARD_SIGMOID, bias=True
        ),
    )


def _last_blocks(previous: Block, index: int, hidden: int) -> list[Block]:
    """Returns the 1×1 convolution, and the classifier's hidden linear layer on its means."""
    channels = _LAST_CONV_EXPANSION * previous.channels
    conv = _conv(f"features.{index}", previous.channels, channels, 1, activation=_HS)
    linear = Conv("classifier.0", "", channels, hidden, 1, 1, groups=1, activation=_HS, bias=True)
    stage = previous.stage + 1
    return [
        Block(convs=(conv,), residual=False, stage=stage, channels=channels),
        Block(convs=(linear,), residual=False, stage=stage + 1, channels=hidden, pools_first=True),
    ]


def _conv(
    key: str,
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    activation: Activation,
    stride: int = 1,
    groups: int = 1,
) -> Conv:
    """Returns a convolution and its norm, the first two layers of a Sequential, and an activation."""
    return Conv(f"{key}.0", f"{key}.1", in_channels, out_channels, kernel, stride, groups, activation)
