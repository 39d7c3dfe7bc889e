"""ResNet-18, -34 and -50 [He2016resnet], with torchvision's key names.

Block 0 is the stem with its max pool, then there is one block per residual unit; the stem is stage 0, torchvision's
`layer1` … `layer4` are stages 1 … 4. In bottlenecks the 3×3 convolution has the stride, as in torchvision's "v1.5".

[He2016resnet] K. He et al., Deep Residual Learning for Image Recognition, CVPR 2016.
[Yang2022repnet] L. Yang, A. S. Rakin, D. Fan, Rep-Net: Efficient On-Device Learning via Feature Reprogramming,
CVPR 2022; its placement for ResNet-50 is after the stem and after layer1[0], layer2[0], layer3[0], layer4[0] and
layer4[2]. It has none for the others: they get the last block of each stage.
"""

from __future__ import annotations

from repnet_search.backbones.table import Activation, Block, BlockTable, Conv

_STEM_CHANNELS = 64
_STAGE_CHANNELS = (64, 128, 256, 512)
_BOTTLENECK_EXPANSION = 4
_PAPER_BLOCKS_50 = (0, 1, 4, 8, 14, 16)


def create_resnet18() -> BlockTable:
    """Returns the block table of ResNet-18: the stem and 8 units of two 3×3 convolutions.

    >>> table = create_resnet18()
    >>> len(table.blocks), table.feature_channels, table.weight_count, table.bias_count
    (9, 512, 11166912, 4800)
    """
    return _create("resnet18", (2, 2, 2, 2), bottleneck=False)


def create_resnet34() -> BlockTable:
    """Returns the block table of ResNet-34: the stem and 16 units of two 3×3 convolutions."""
    return _create("resnet34", (3, 4, 6, 3), bottleneck=False)


def create_resnet50() -> BlockTable:
    """Returns the block table of ResNet-50: the stem and 16 bottlenecks (1×1, 3×3, 1×1 to four times the channels)."""
    return _create("resnet50", (3, 4, 6, 3), bottleneck=True, paper_blocks=_PAPER_BLOCKS_50)


def _create(
    name: str, units: tuple[int, ...], *, bottleneck: bool, paper_blocks: tuple[int, ...] | None = None
) -> BlockTable:
    """Returns the table for so many units per stage; without `paper_blocks`, the last block of each stage has them."""
    stem = _conv("conv1", "bn1", 3, _STEM_CHANNELS, 7, 2, Activation.RELU)
    blocks = [Block(convs=(stem,), residual=False, stage=0, channels=_STEM_CHANNELS, max_pool=True)]
    ends = [0]
    for stage, (channels, count) in enumerate(zip(_STAGE_CHANNELS, units, strict=True), start=1):
        for unit in range(count):
            stride = 2 if unit == 0 and stage > 1 else 1
            key = f"layer{stage}.{unit}"
            blocks.append(_unit(key, blocks[-1].channels, channels, stride, stage, bottleneck=bottleneck))
        ends.append(len(blocks) - 1)
    return BlockTable(name=name, blocks=tuple(blocks), paper_blocks=paper_blocks or tuple(ends))


def _unit(key: str, in_channels: int, channels: int, stride: int, stage: int, *, bottleneck: bool) -> Block:
    """Returns a residual unit; its shortcut has a convolution where the shape of the map changes."""
    shapes: tuple[tuple[int, int, int], ...]  # output channels, kernel, stride
    if bottleneck:
        shapes = ((channels, 1, 1), (channels, 3, stride), (channels * _BOTTLENECK_EXPANSION, 1, 1))
    else:
        shapes = ((channels, 3, stride), (channels, 3, 1))
    convs: list[Conv] = []
    previous = in_channels
    for position, (width, kernel, step) in enumerate(shapes, start=1):
        activation = Activation.NONE if position == len(shapes) else Activation.RELU
        convs.append(_conv(f"{key}.conv{position}", f"{key}.bn{position}", previous, width, kernel, step, activation))
        previous = width
    shortcut = None
    if stride > 1 or in_channels != previous:
        names = f"{key}.downsample.0", f"{key}.downsample.1"
        shortcut = _conv(*names, in_channels, previous, 1, stride, Activation.NONE)
    return Block(
        convs=tuple(convs),
        residual=True,
        stage=stage,
        channels=previous,
        shortcut=shortcut,
        activation=Activation.RELU,
    )


def _conv(
    key: str, norm_key: str, in_channels: int, out_channels: int, kernel: int, stride: int, activation: Activation
) -> Conv:
    return Conv(key, norm_key, in_channels, out_channels, kernel, stride, groups=1, activation=activation)
