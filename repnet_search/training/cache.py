"""Frozen features computed once: what lies in front of the gradient path is the same at every step and in many trials.

Kept in memory, least recently used first out, up to a limit of bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

from repnet_search.models.repnet import Prefix

DEFAULT_LIMIT_BYTES = 1024**3


class PrefixCache:
    """Prefixes by key, within a limit of bytes; what is larger than the whole limit is not kept."""

    def __init__(self, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._kept: OrderedDict[Hashable, Prefix] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable, compute: Callable[[], Prefix]) -> Prefix:
        """Returns the prefix of a key, computed where it is not kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        prefix = compute()
        size = prefix_bytes(prefix)
        if size <= self.limit_bytes:
            self._kept[key] = prefix
            self._bytes += size
            while self._bytes > self.limit_bytes:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= prefix_bytes(dropped)
        return prefix


def prefix_bytes(prefix: Prefix) -> int:
    """Returns the bytes of a prefix's tensors."""
    return prefix.stream.nbytes + prefix.feature.nbytes + sum(feature.nbytes for feature in prefix.features)
