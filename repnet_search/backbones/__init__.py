"""Backbones as tables of blocks: shapes, kernels and strides; and the registry of their names."""

from repnet_search.backbones.registry import get_block_table, list_backbones
from repnet_search.backbones.table import Activation, Block, BlockTable, Conv

__all__ = ["Activation", "Block", "BlockTable", "Conv", "get_block_table", "list_backbones"]
