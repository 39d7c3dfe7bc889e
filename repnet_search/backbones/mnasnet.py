"""MNASNet-B1 in any width [Tan2019mnasnet], with torchvision's key names.

Block 0 is the stem, block 1 the separable convolution behind it; then there is one block per inverted residual.

[Tan2019mnasnet] M. Tan et al., MnasNet: Platform-Aware Neural Architecture Search for Mobile, CVPR 2019.
"""

from __future__ import annotations

from repnet_search.backbones.mobilenet_v2 import divisible_by_8
from repnet_search.backbones.table import Activation, Block, BlockTable, Conv

_STEM_CHANNELS = 32
_SEPARABLE_CHANNELS = 16
_LAST_CHANNELS = 1280

# output channels at width 1, kernel, stride of the first block, expansion, blocks [Tan2019mnasnet, figure 7]
_SETTINGS = (
    (24, 3, 2, 3, 3),
    (40, 5, 2, 3, 3),
    (80, 5, 2, 6, 3),
    (96, 3, 1, 6, 2),
    (192, 5, 2, 6, 4),
    (320, 3, 1, 6, 1),
)
_FIRST_STACK = 8
"""The index of the first stack of inverted residuals in torchvision's `layers`, behind the stem's single layers."""


def create_mnasnet(*, width_mult: float, last_conv: bool) -> BlockTable:
    """Returns the block table: stem, separable convolution, 16 inverted residuals and, with `last_conv`, the 1×1 one.

    >>> table = create_mnasnet(width_mult=0.5, last_conv=True)
    >>> len(table.blocks), table.feature_channels, table.weight_count, table.bias_count
    (19, 1280, 916888, 10312)
    """
    channels = divisible_by_8(_STEM_CHANNELS * width_mult)
    blocks = [Block(convs=(_conv("layers.0", 3, channels, 3, stride=2),), residual=False, stage=0, channels=channels)]
    separated = divisible_by_8(_SEPARABLE_CHANNELS * width_mult)
    depthwise = _conv("layers.3", channels, channels, 3, groups=channels)
    pointwise = _conv("layers.6", channels, separated, 1, activation=Activation.NONE)
    blocks.append(Block(convs=(depthwise, pointwise), residual=False, stage=1, channels=separated))
    ends = []
    for stage, (base, kernel, first_stride, expansion, count) in enumerate(_SETTINGS, start=2):
        out_channels = divisible_by_8(base * width_mult)
        for repeat in range(count):
            key = f"layers.{_FIRST_STACK + stage - 2}.{repeat}.layers"
            stride = first_stride if repeat == 0 else 1
            in_channels = blocks[-1].channels
            convs = _inverted_residual(key, in_channels, out_channels, kernel, stride=stride, expansion=expansion)
            residual = stride == 1 and in_channels == out_channels
            blocks.append(Block(convs=convs, residual=residual, stage=stage, channels=out_channels))
        ends.append(len(blocks) - 1)
    if last_conv:
        conv = _conv(f"layers.{_FIRST_STACK + len(_SETTINGS)}", blocks[-1].channels, _LAST_CHANNELS, 1)
        blocks.append(Block(convs=(conv,), residual=False, stage=len(_SETTINGS) + 2, channels=_LAST_CHANNELS))
    name = f"mnasnet_w{round(width_mult * 100):03d}{'_last_conv' if last_conv else ''}"
    return BlockTable(name=name, blocks=tuple(blocks), paper_blocks=tuple(ends))


def _inverted_residual(
    key: str, in_channels: int, out_channels: int, kernel: int, *, stride: int, expansion: int
) -> tuple[Conv, ...]:
    hidden = in_channels * expansion
    return (
        _conv(f"{key}.0", in_channels, hidden, 1),
        _conv(f"{key}.3", hidden, hidden, kernel, stride=stride, groups=hidden),
        _conv(f"{key}.6", hidden, out_channels, 1, activation=Activation.NONE),
    )


def _conv(
    key: str,
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: Activation = Activation.RELU,
) -> Conv:
    """Returns a convolution, its norm behind it in the same Sequential, and ReLU."""
    parent, _, number = key.rpartition(".")
    return Conv(key, f"{parent}.{int(number) + 1}", in_channels, out_channels, kernel, stride, groups, activation)
