"""Decoded images on disk, so that an image is decoded once per resolution: not per epoch, design, process or run.

One file per list of images and resolution (see array_files.py), named by the hash of their contents: uint8 of N 3 R R.
Its trailer notes the images that could not be decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from repnet_search.data.array_files import ArrayFiles, ArrayForm, ArrayWriter
from repnet_search.machine import cache_folder
from repnet_search.units import GIB

DEFAULT_LIMIT_BYTES = 2 * GIB
TRAILER = "repnet-search decoded images 2"
CHUNK_BYTES = 16 * 1024**2

Pixels = NDArray[np.uint8]
DecodeRows = Callable[[int, int], tuple[Pixels, Mapping[int, str]]]
"""Decodes rows start to stop: the pixels of those that are whole, in their order, and why the others are not."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Decoded images.

    Attributes:
        pixels: uint8 of M 3 R R: the rows that are whole, in their order.
        broken: why each of the other rows is not.
    """

    pixels: Pixels
    broken: Mapping[int, str]


class DecodedCache:
    """Decoded images by key, within a limit of bytes on disk."""

    def __init__(self, folder: Path | None, *, limit_bytes: int) -> None:
        """Opens the cache.

        Args:
            folder: where the files are; None keeps nothing.
            limit_bytes: of all files together; 0 keeps nothing.
        """
        self._files = ArrayFiles(folder, prefix="decoded", what=TRAILER, limit_bytes=limit_bytes)

    @property
    def folder(self) -> Path | None:
        """Returns where the files are; None keeps nothing."""
        return self._files.folder

    def takes(self, count: int, *, resolution: int) -> bool:
        """Returns whether so many images can be kept at all."""
        return self._files.takes(_form(count, resolution))

    def get(self, key: str, *, count: int, resolution: int, decode: DecodeRows) -> Decoded | None:
        """Returns `count` images, decoded where they are not kept; None where they cannot be kept.

        Raises:
            Whatever `decode` raises; nothing is kept then.
        """
        if not self.takes(count, resolution=resolution):
            return None
        name, form = f"{key[:40]}-{resolution}", _form(count, resolution)
        kept = self._open(name, form)
        if kept is not None:
            return kept
        try:
            with self._files.locked(name):
                # Another process may have written it while this one waited.
                kept = self._open(name, form)
                if kept is None:
                    self._files.make_room(form.size_bytes)
                    with self._files.create(name, form) as writer:
                        _write(writer, form, decode=decode)
                    kept = self._open(name, form)
        except OSError:  # a full disk, or a folder that cannot be written
            return None
        return kept

    def _open(self, name: str, form: ArrayForm) -> Decoded | None:
        mapped = self._files.open(name, form)
        broken = None if mapped is None else _read_broken(mapped.notes)
        if mapped is None or broken is None:
            return None
        return Decoded(mapped.values[: form.shape[0] - len(broken)], broken)


def create_cache(*, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> DecodedCache:
    """Returns the user's cache of decoded images."""
    return DecodedCache(cache_folder(), limit_bytes=limit_bytes)


def _form(count: int, resolution: int) -> ArrayForm:
    return ArrayForm((count, 3, resolution, resolution), "|u1")


def _read_broken(notes: Mapping[str, Any]) -> dict[int, str] | None:
    """Returns why rows are broken, as a trailer says; None where it says nothing of the kind."""
    try:
        return {int(row): str(reason) for row, reason in notes["broken"].items()}
    except (KeyError, ValueError, AttributeError):
        return None


def _write(writer: ArrayWriter, form: ArrayForm, *, decode: DecodeRows) -> None:
    """Writes an array chunk by chunk."""
    broken: dict[int, str] = {}
    image_bytes = int(np.prod(form.shape[1:]))
    rows = max(1, CHUNK_BYTES // image_bytes)
    for start in range(0, form.shape[0], rows):
        pixels, reasons = decode(start, min(start + rows, form.shape[0]))
        broken.update(reasons)
        writer.append(pixels)
    for _ in broken:  # the array keeps its shape
        writer.append(np.zeros((1, *form.shape[1:]), dtype=np.uint8))
    writer.finish({"broken": broken})
