"""ProxylessNAS-Mobile [Cai2019proxylessnas], the main backbone of the Rep-Net paper, with the released key names.

Block 0 of the table is the stem, as in all tables here. Publications count the blocks behind the stem from 0: their
block k, whose released keys begin with `blocks.k`, is block k + 1 here. So the released Rep-Net design, after blocks 1,
5, 9, 13, 17 and 21 [Yang2022repnet], is after blocks 2, 6, 10, 14, 18 and 22. The search that made the network left two
blocks without a convolution, 4 and 5 here: they pass their input on.

[Cai2019proxylessnas] H. Cai, L. Zhu, S. Han, ProxylessNAS: Direct Neural Architecture Search on Target Task and
Hardware, ICLR 2019.
[Yang2022repnet] L. Yang, A. S. Rakin, D. Fan, Rep-Net: Efficient On-Device Learning via Feature Reprogramming,
CVPR 2022.
"""

from __future__ import annotations

from repnet_search.backbones.table import Activation, Block, BlockTable, Conv

_STEM_CHANNELS = 32
_LAST_CHANNELS = 1280
_NORM_EPS = 1e-3
_PAPER_BLOCKS = (2, 6, 10, 14, 18, 22)

# output channels, kernel, stride, expansion of each block behind the stem; None passes its input on
_SETTINGS = (
    (16, 3, 1, 1),
    *((32, 5, 2, 3), (32, 3, 1, 3), None, None),
    *((40, 7, 2, 3), (40, 3, 1, 3), (40, 5, 1, 3), (40, 5, 1, 3)),
    *((80, 7, 2, 6), (80, 5, 1, 3), (80, 5, 1, 3), (80, 5, 1, 3)),
    *((96, 5, 1, 6), (96, 5, 1, 3), (96, 5, 1, 3), (96, 5, 1, 3)),
    *((192, 7, 2, 6), (192, 7, 1, 6), (192, 7, 1, 3), (192, 7, 1, 3)),
    (320, 7, 1, 6),
)


def create_proxylessnas_mobile(*, last_conv: bool) -> BlockTable:
    """Returns the block table: the stem, 22 blocks and, with `last_conv`, the 1×1 convolution to 1280 channels.

    >>> table = create_proxylessnas_mobile(last_conv=True)
    >>> len(table.blocks), table.weight_count, table.bias_count
    (24, 2765016, 17248)
    """
    stem = _conv("first_conv", 3, _STEM_CHANNELS, 3, stride=2)
    blocks = [Block(convs=(stem,), residual=False, stage=0, channels=_STEM_CHANNELS)]
    stage = 0
    for index, setting in enumerate(_SETTINGS):
        in_channels = blocks[-1].channels
        if setting is None:
            blocks.append(Block(convs=(), residual=False, stage=stage, channels=in_channels))
            continue
        out_channels, kernel, stride, expansion = setting
        stage += in_channels != out_channels  # every stride of 2 comes with other channels here
        key = f"blocks.{index}.mobile_inverted_conv"
        convs = _inverted_residual(key, in_channels, out_channels, kernel, stride=stride, expansion=expansion)
        residual = stride == 1 and in_channels == out_channels
        blocks.append(Block(convs=convs, residual=residual, stage=stage, channels=out_channels))
    if last_conv:
        conv = _conv("feature_mix_layer", blocks[-1].channels, _LAST_CHANNELS, 1)
        blocks.append(Block(convs=(conv,), residual=False, stage=stage + 1, channels=_LAST_CHANNELS))
    name = f"proxylessnas_mobile{'_last_conv' if last_conv else ''}"
    return BlockTable(name=name, blocks=tuple(blocks), paper_blocks=_PAPER_BLOCKS, norm_eps=_NORM_EPS)


def _inverted_residual(
    key: str, in_channels: int, out_channels: int, kernel: int, *, stride: int, expansion: int
) -> tuple[Conv, ...]:
    hidden = in_channels * expansion
    expand = (_conv(f"{key}.inverted_bottleneck", in_channels, hidden, 1),) if expansion > 1 else ()
    depthwise = _conv(f"{key}.depth_conv", hidden, hidden, kernel, stride=stride, groups=hidden)
    project = _conv(f"{key}.point_linear", hidden, out_channels, 1, activation=Activation.NONE)
    return (*expand, depthwise, project)


def _conv(
    key: str,
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: Activation = Activation.RELU6,
) -> Conv:
    """Returns a convolution, its norm next to it in the same layer, and ReLU6."""
    return Conv(f"{key}.conv", f"{key}.bn", in_channels, out_channels, kernel, stride, groups, activation)
