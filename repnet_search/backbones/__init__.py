"""Backbones as tables of blocks: shapes, kernels and strides; and the registry of their names."""

from repnet_search.backbones.registry import (
    default_width_mult,
    get_block_table,
    has_last_conv,
    has_widths,
    list_backbones,
)
from repnet_search.backbones.table import Activation, Block, BlockTable, Conv

__all__ = [
    "Activation",
    "Block",
    "BlockTable",
    "Conv",
    "default_width_mult",
    "get_block_table",
    "has_last_conv",
    "has_widths",
    "list_backbones",
]
