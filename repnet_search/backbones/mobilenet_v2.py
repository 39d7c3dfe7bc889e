"""MobileNetV2 in any width [Sandler2018mobilenetv2], with torchvision's block indices and key names.

[Sandler2018mobilenetv2] M. Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018.
[Yang2022repnet] L. Yang, A. S. Rakin, D. Fan, Rep-Net: Efficient On-Device Learning via Feature Reprogramming,
CVPR 2022; its released placement for this family is after blocks 2, 4, 7, 11, 14, 17.
"""

from __future__ import annotations

from repnet_search.backbones.table import Activation, Block, BlockTable, Conv

# expansion, output channels at width 1, blocks, stride of the first block [Sandler2018mobilenetv2, table 2]
_SETTINGS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_PAPER_BLOCKS = (2, 4, 7, 11, 14, 17)


def create_mobilenet_v2(*, width_mult: float, last_conv: bool) -> BlockTable:
    """Returns the block table: the stem, 17 inverted residuals and, with `last_conv`, the last 1×1 convolution.

    >>> table = create_mobilenet_v2(width_mult=0.35, last_conv=False)
    >>> len(table.blocks), table.feature_channels, table.weight_count + table.bias_count
    (18, 112, 244448)
    """
    channels = divisible_by_8(32 * width_mult)
    blocks = [Block(convs=(_conv("features.0", 0, 3, channels, 3, 2),), residual=False, stage=0, channels=channels)]
    for stage, (expansion, base, count, first_stride) in enumerate(_SETTINGS, start=1):
        out_channels = divisible_by_8(base * width_mult)
        for repeat in range(count):
            stride = first_stride if repeat == 0 else 1
            key = f"features.{len(blocks)}.conv"
            blocks.append(_inverted_residual(key, channels, out_channels, stride, expansion, stage))
            channels = out_channels
    if last_conv:
        out_channels = divisible_by_8(1280 * max(1.0, width_mult))
        conv = _conv(f"features.{len(blocks)}", 0, channels, out_channels, 1, 1)
        blocks.append(Block(convs=(conv,), residual=False, stage=len(_SETTINGS) + 1, channels=out_channels))
    name = f"mobilenet_v2_w{round(width_mult * 100):03d}{'_last_conv' if last_conv else ''}"
    return BlockTable(name=name, blocks=tuple(blocks), paper_blocks=_PAPER_BLOCKS)


def _inverted_residual(key: str, in_channels: int, out_channels: int, stride: int, expansion: int, stage: int) -> Block:
    hidden = round(in_channels * expansion)
    convs: list[Conv] = []
    if expansion != 1:
        convs.append(_conv(f"{key}.{len(convs)}", 0, in_channels, hidden, 1, 1))
    convs.append(_conv(f"{key}.{len(convs)}", 0, hidden, hidden, 3, stride, groups=hidden))
    index = len(convs)
    projection = Conv(
        f"{key}.{index}", f"{key}.{index + 1}", hidden, out_channels, 1, 1, groups=1, activation=Activation.NONE
    )
    residual = stride == 1 and in_channels == out_channels
    return Block(convs=(*convs, projection), residual=residual, stage=stage, channels=out_channels)


def _conv(
    key: str, index: int, in_channels: int, out_channels: int, kernel: int, stride: int, *, groups: int = 1
) -> Conv:
    """Returns a convolution, its norm next to it in the same Sequential, and ReLU6."""
    return Conv(
        f"{key}.{index}", f"{key}.{index + 1}", in_channels, out_channels, kernel, stride, groups, Activation.RELU6
    )


def divisible_by_8(channels: float) -> int:
    """Returns torchvision's rounding: to the nearest multiple of 8, never below 90 % of the request."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8
