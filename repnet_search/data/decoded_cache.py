"""Decoded images on disk, so that an image is decoded once per resolution: not per epoch, design, process or run.

One file per list of images and resolution, named by the hash of their contents: a .npy of uint8 N 3 R R that is mapped
into memory, never read whole, followed by a trailer with its checksum and the images that could not be decoded. What is
damaged, or was written by something else, is made again. The files least recently used go when a limit is reached.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from repnet_search.machine import cache_folder
from repnet_search.units import GIB

try:
    import fcntl
except ImportError:  # Windows: two processes may then decode the same images at the same time
    fcntl = None  # type: ignore[assignment]

DEFAULT_LIMIT_BYTES = 2 * GIB
TRAILER = "repnet-search decoded images 1"
CHUNK_BYTES = 16 * 1024**2
_ABANDONED_SECONDS = 24 * 3600.0

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
        self.folder = folder if limit_bytes > 0 else None
        self.limit_bytes = limit_bytes

    def takes(self, count: int, *, resolution: int) -> bool:
        """Returns whether so many images can be kept at all."""
        return self.folder is not None and 0 < count * 3 * resolution**2 <= self.limit_bytes

    def get(self, key: str, *, count: int, resolution: int, decode: DecodeRows) -> Decoded | None:
        """Returns `count` images, decoded where they are not kept; None where they cannot be kept.

        Raises:
            Whatever `decode` raises; nothing is kept then.
        """
        if self.folder is None or not self.takes(count, resolution=resolution):
            return None
        path = self.folder / f"decoded-{key[:40]}-{resolution}.npy"
        shape = (count, 3, resolution, resolution)
        kept = _open(path, shape=shape)
        if kept is not None:
            return kept
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _locked(path.with_suffix(".lock")):
                # Another process may have written it while this one waited.
                kept = _open(path, shape=shape)
                if kept is None:
                    _make_room(self.folder, count * 3 * resolution**2, limit_bytes=self.limit_bytes)
                    _write(path, shape=shape, decode=decode)
                    kept = _open(path, shape=shape)
        except OSError:  # a full disk, or a folder that cannot be written
            return None
        return kept


def create_cache(*, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> DecodedCache:
    """Returns the user's cache of decoded images."""
    return DecodedCache(cache_folder(), limit_bytes=limit_bytes)


def _make_room(folder: Path, size_bytes: int, *, limit_bytes: int) -> None:
    """Deletes the files least recently used until `size_bytes` fit; what another process has open stays open to it."""
    for path, age_seconds, _ in _by_age(folder, ".decoded-*"):
        if age_seconds > _ABANDONED_SECONDS:
            path.unlink(missing_ok=True)
    files = _by_age(folder, "decoded-*.npy")
    total = sum(size for _, _, size in files)
    for path, _, size in files:
        if total + size_bytes <= limit_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size


def _by_age(folder: Path, pattern: str) -> list[tuple[Path, float, int]]:
    """Returns the files of a pattern with their age in seconds and size in bytes, the oldest first."""
    found, now = [], time.time()
    for path in folder.glob(pattern):
        with suppress(FileNotFoundError):  # another process may make room too
            status = path.stat()
            found.append((path, now - status.st_mtime, status.st_size))
    return sorted(found, key=lambda entry: -entry[1])


def _open(path: Path, *, shape: tuple[int, ...]) -> Decoded | None:
    """Returns what a file holds, mapped; None where there is none, or none that is whole and has this shape."""
    try:
        with path.open("rb") as file:
            header = _header(shape)
            if file.read(len(header)) != header:
                return None
            checksum = 0
            left = int(np.prod(shape))
            while left and (block := file.read(min(CHUNK_BYTES, left))):
                checksum = zlib.crc32(block, checksum)
                left -= len(block)
            trailer = json.loads(file.read())
        if left or trailer["what"] != TRAILER or trailer["crc32"] != checksum:
            return None
        broken = {int(row): str(reason) for row, reason in trailer["broken"].items()}
        # Copy on write: torch warns of arrays that cannot be written; nobody writes, so nothing is ever copied.
        pixels: Pixels = np.memmap(path, dtype=np.uint8, mode="c", offset=len(header), shape=shape)
        os.utime(path)  # the least recently used go first
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Decoded(pixels[: shape[0] - len(broken)], broken)


def _header(shape: tuple[int, ...]) -> bytes:
    """Returns what a .npy file of bytes in this shape begins with."""
    buffer = io.BytesIO()
    npy.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _write(path: Path, *, shape: tuple[int, ...], decode: DecodeRows) -> None:
    """Writes a file chunk by chunk; it has its name only once it is complete."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            _write_content(file, shape=shape, decode=decode)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _write_content(file: BinaryIO, *, shape: tuple[int, ...], decode: DecodeRows) -> None:
    file.write(_header(shape))
    checksum = 0
    broken: dict[int, str] = {}
    image_bytes = int(np.prod(shape[1:]))
    rows = max(1, CHUNK_BYTES // image_bytes)
    for start in range(0, shape[0], rows):
        pixels, reasons = decode(start, min(start + rows, shape[0]))
        broken.update(reasons)
        checksum = _append(file, pixels.tobytes(), checksum)
    for _ in broken:  # the array keeps its shape
        checksum = _append(file, bytes(image_bytes), checksum)
    file.write(json.dumps({"what": TRAILER, "crc32": checksum, "broken": broken}).encode())


def _append(file: BinaryIO, block: bytes, checksum: int) -> int:
    file.write(block)
    return zlib.crc32(block, checksum)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Waits until no other process writes the same file."""
    with path.open("w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with suppress(OSError):  # Windows deletes no open file
                path.unlink(missing_ok=True)
