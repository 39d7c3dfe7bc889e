"""Backbones as tables of blocks: shapes, kernels and strides; and the registry of their names."""

from repnet_search.backbones.registry import (
    default_width_mult,
    get_block_table,
    has_last_conv,
    has_widths,
    is_own,
    list_backbones,
)
from repnet_search.backbones.table import SMOOTH_PARTS, Activation, Block, BlockTable, Conv, SqueezeExcite

__all__ = [
    "SMOOTH_PARTS",
    "Activation",
    "Block",
    "BlockTable",
    "Conv",
    "SqueezeExcite",
    "default_width_mult",
    "get_block_table",
    "has_last_conv",
    "has_widths",
    "is_own",
    "list_backbones",
]
