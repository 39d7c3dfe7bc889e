"""The rows of every module that a set of choices can mean, found by numbers instead of by design."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from repnet_search.memory.batch import Integers
from repnet_search.memory.families import ModuleKey, module_key
from repnet_search.memory.tables import MemoryTables
from repnet_search.spec.design import Exchange, ModuleSpec
from repnet_search.spec.shapes import IMAGE_CHANNELS, shape_module


@dataclass(frozen=True, slots=True)
class ModuleChoices:
    """What the modules of a set of designs may be.

    Args:
        modules: the choices of the module fields; a group count that does not divide is lowered.
        image_pools: the choices of r_0's pooling.
        blocks: where connectors may be, in ascending order.
        stream: whether modules may read the stream.
        block_input: whether modules may read their block's input.
    """

    modules: tuple[ModuleSpec, ...]
    image_pools: tuple[int, ...]
    blocks: tuple[int, ...]
    stream: bool
    block_input: bool


@dataclass(frozen=True, slots=True)
class ModuleIndex:
    """The tables' row of a module by what it reads, the block that it is behind, and its choice.

    Args:
        rows: axes of sources, of features and of choices; -1 where no design has such a module.
        features: of each block, the place of its map among the distinct ones.
        pools: how many sources are pooled images; the distinct maps come behind them.
    """

    rows: Integers
    features: Integers
    pools: int


def list_module_keys(tables: MemoryTables, choices: ModuleChoices) -> tuple[ModuleIndex, list[ModuleKey]]:
    """Returns the distinct modules of some choices, and the index whose rows count in that list."""
    maps = [(block.channels, size) for block, size in zip(tables.table.blocks, tables.sizes, strict=True)]
    distinct = list(dict.fromkeys(maps))
    features = np.array([distinct.index(entry) for entry in maps], dtype=np.int64)
    pools = len(choices.image_pools)
    images = [(IMAGE_CHANNELS, tables.resolution // pool) for pool in choices.image_pools]
    sources = [*images, *distinct]
    rows = np.full((len(sources), len(distinct), len(choices.modules)), -1, dtype=np.int64)
    keys: dict[ModuleKey, int] = {}
    for source, feature in sorted(set(_pairs(features, pools, choices))):
        for option, spec in enumerate(choices.modules):
            first = source < pools
            shape = shape_module(
                spec,
                index=0 if first else 1,
                source=sources[source],
                feature=distinct[feature],
                after_block=0,
                exchange=Exchange.BOTH,
                reads_block_input=False,
                clamp_groups=True,
            )
            rows[source, feature, option] = keys.setdefault(module_key(shape, first=first), len(keys))
    return ModuleIndex(rows, features, pools), list(keys)


def _pairs(features: Integers, pools: int, choices: ModuleChoices) -> Iterator[tuple[int, int]]:
    """Yields what modules may read, with the map that they are behind."""
    for position, block in enumerate(choices.blocks):
        feature = int(features[block])
        for pool in range(pools):
            yield pool, feature
        if choices.stream:
            for earlier in choices.blocks[:position]:
                yield pools + int(features[earlier]), feature
        if choices.block_input and block > 0:
            yield pools + int(features[block - 1]), feature


def index_modules(tables: MemoryTables, choices: ModuleChoices) -> ModuleIndex:
    """Returns the index of some choices, their modules measured where the tables do not have them.

    Raises:
        SpecError: a batch norm at micro-batch 1.
    """
    index, keys = list_module_keys(tables, choices)
    tables.add_modules(keys)
    return bound_to(tables, index, keys)


def bound_to(tables: MemoryTables, index: ModuleIndex, keys: Sequence[ModuleKey]) -> ModuleIndex:
    """Returns an index whose rows count in a list of modules as one whose rows are those of the tables."""
    rows = np.array([*(tables.keys[key] for key in keys), -1], dtype=np.int64)
    return ModuleIndex(rows[index.rows], index.features, index.pools)
