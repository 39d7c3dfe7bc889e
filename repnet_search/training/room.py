"""Whether images and their features fit into this machine's memory, asked before they are made."""

from __future__ import annotations

from repnet_search.errors import DataError
from repnet_search.machine import free_memory_bytes
from repnet_search.units import format_size


def check_room(needed_bytes: int, *, what: str) -> None:
    """Does nothing where so much memory is free, or where that is unknown.

    Args:
        needed_bytes: what will be taken.
        what: it is, as the beginning of a sentence.

    Raises:
        DataError: it does not fit.
    """
    free_bytes = free_memory_bytes()
    if free_bytes is not None and needed_bytes > free_bytes:
        raise DataError(
            f"{what} must fit into memory, but need {format_size(needed_bytes)}, of which {format_size(free_bytes)} "
            f"are free; use a larger --feature-cache on disk, fewer images with --proxy-images, fewer --views, or a "
            f"smaller --resolution."
        )
