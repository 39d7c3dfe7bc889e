"""Designs with a name: the paper's, and the smallest that there is.

[Yang2022repnet] L. Yang, A. S. Rakin, D. Fan, Rep-Net: Efficient On-Device Learning via Feature Reprogramming, CVPR
2022: six modules on the merged feature in front of their block, two groups, k = 5 but 3 on the smallest maps.
"""

from __future__ import annotations

from collections.abc import Callable

from repnet_search.backbones import BlockTable
from repnet_search.errors import SpecError, suggest
from repnet_search.spec.design import Connector, Design, Exchange, ModuleInput, ModuleSpec
from repnet_search.spec.table import get_table

_SMALL_MAP = 7
_FIRST_MODULE_CHANNELS = 8


def list_presets() -> tuple[str, ...]:
    """Returns the names that `get_preset` knows."""
    return tuple(sorted(_PRESETS))


def get_preset(name: str, base: Design) -> Design:
    """Returns a preset on the backbone, resolution, activation bits and recipe of `base`.

    Raises:
        SpecError: there is no such preset.
    """
    if name not in _PRESETS:
        raise SpecError(
            f"A preset must be one of {', '.join(list_presets())}, but got {name!r}." + suggest(name, _PRESETS)
        )
    return _PRESETS[name](base, get_table(base.backbone))


def _smallest(base: Design, _: BlockTable) -> Design:
    """Returns the last layer alone."""
    return base.model_copy(
        update={"connectors": (), "module": ModuleSpec(), "module_input": ModuleInput.STREAM, "train_bias": False}
    )


def _paper(base: Design, table: BlockTable) -> Design:
    sizes = table.output_sizes(base.resolution)
    connectors = []
    for index, block in enumerate(table.paper_blocks):
        first = index == 0
        connectors.append(
            Connector(
                after_block=block,
                exchange=Exchange.BOTH,
                depth=1,
                width=_FIRST_MODULE_CHANNELS / table.blocks[block].channels if first else 1.0,
                kernel=3 if sizes[block] <= _SMALL_MAP else 5,
                groups=1 if first else 2,
                pool=4 if first else 2,
            )
        )
    return base.model_copy(
        update={
            "image_pool": 2,
            "connectors": tuple(connectors),
            "module": ModuleSpec(),
            "module_input": ModuleInput.BLOCK_INPUT,
            "train_bias": False,
        }
    )


_PRESETS: dict[str, Callable[[Design, BlockTable], Design]] = {"paper": _paper, "smallest": _smallest}
