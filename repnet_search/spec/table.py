"""The block table that a design's backbone means."""

from __future__ import annotations

from functools import lru_cache

from repnet_search.backbones import BlockTable, get_block_table
from repnet_search.spec.design import BackboneSpec
from repnet_search.spec.traced import create_traced_table


@lru_cache(maxsize=32)
def get_table(backbone: BackboneSpec) -> BlockTable:
    """Returns the block table of a backbone: from the registry, or of the user's own from what was traced.

    Raises:
        SpecError: there is no such backbone, not in this width or with a last convolution, or it was not traced.
    """
    if backbone.traced is not None:
        return create_traced_table(backbone.name, backbone.traced)
    return get_block_table(backbone.name, width_mult=backbone.width_mult, last_conv=backbone.last_conv)
