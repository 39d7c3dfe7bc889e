"""Sizes in bytes: reading what people write, printing what people read.

KB and KiB are both 1024 bytes, MB and MiB 1024**2, GB and GiB 1024**3, as memory datasheets mean them; kB is 1000.
"""

from __future__ import annotations

import re

from repnet_search.errors import UsageError

KIB = 1024
MIB = 1024**2
GIB = 1024**3

_UNIT_BYTES = {"": 1, "B": 1, "kB": 1000, "KB": KIB, "KiB": KIB, "MB": MIB, "MiB": MIB, "GB": GIB, "GiB": GIB}
_SIZE = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*")
_LARGEST_BYTES = 1024 * GIB


def parse_size(text: str, *, zero: bool = False) -> int:
    """Returns the bytes that a text such as "256KB", "1.5 MiB" or "262144" means.

    Args:
        text: what was written.
        zero: whether less than a KiB is a size too, down to nothing at all. Else that is a number without its unit.

    Raises:
        UsageError: the text is not a size in this range with a known unit.

    >>> parse_size("256KB"), parse_size("1.5MB"), parse_size("100kB")
    (262144, 1572864, 100000)
    """
    match = _SIZE.fullmatch(text)
    if match is None or match[2] not in _UNIT_BYTES:
        raise UsageError(
            f"A size is a number with one of B, KB (1024 bytes), kB (1000), MB, GB, such as 256KB, but got {text!r}."
        )
    size = float(match[1]) * _UNIT_BYTES[match[2]]
    least_bytes = 0 if zero else KIB
    if not least_bytes <= size <= _LARGEST_BYTES:
        least = "0" if zero else "1 KB"
        unit = ", which is in bytes; write the unit, such as 256KB" if 0 < size < least_bytes and not match[2] else ""
        raise UsageError(f"A size must be between {least} and 1024 GB here, but got {text!r}{unit}.")
    return round(size)


def format_number(number: int) -> str:
    """Returns a number with its thousands apart.

    >>> format_number(16450)
    '16 450'
    """
    return f"{number:,}".replace(",", " ")


def format_count(count: int, noun: str) -> str:
    """Returns a number of things.

    >>> format_count(1, "epoch"), format_count(1200, "design")
    ('1 epoch', '1 200 designs')
    """
    return f"{format_number(count)} {noun}{'' if count == 1 else 's'}"


def format_size(size_bytes: int) -> str:
    """Returns a size for people: bytes below 1 KiB, then KiB and MiB with one decimal.

    >>> format_size(262144), format_size(1000), format_size(1572864)
    ('256.0 KiB', '1000 bytes', '1.5 MiB')
    """
    if size_bytes < KIB:
        return f"{size_bytes} bytes"
    if size_bytes < MIB:
        return f"{size_bytes / KIB:.1f} KiB"
    return f"{size_bytes / MIB:.1f} MiB"
