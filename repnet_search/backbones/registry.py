"""The backbones by name."""

from __future__ import annotations

from functools import lru_cache

from repnet_search.backbones.mobilenet_v2 import create_mobilenet_v2
from repnet_search.backbones.table import BlockTable
from repnet_search.errors import SpecError, suggest

_BACKBONES = {"mobilenet_v2": create_mobilenet_v2}


def list_backbones() -> tuple[str, ...]:
    """Returns the names that `get_block_table` knows."""
    return tuple(sorted(_BACKBONES))


@lru_cache(maxsize=32)
def get_block_table(name: str, *, width_mult: float, last_conv: bool) -> BlockTable:
    """Returns the block table of a backbone.

    Raises:
        SpecError: there is no such backbone.
    """
    if name not in _BACKBONES:
        raise SpecError(
            f"The backbone must be one of {', '.join(list_backbones())}, but got {name!r}." + suggest(name, _BACKBONES)
        )
    return _BACKBONES[name](width_mult=width_mult, last_conv=last_conv)
