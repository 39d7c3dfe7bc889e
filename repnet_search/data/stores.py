"""Where pixels lie: in image files, or in arrays. A row number stands for an image."""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from repnet_search.data.decode import SKIP_HINT, ImageFacts, decode_image, resize_pixels
from repnet_search.data.file_index import FileIndex, UnreadableFileError
from repnet_search.errors import DataError

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


class PixelStore(Protocol):
    """Images by row number."""

    def decode(self, row: int, *, resolution: int) -> NDArray[np.uint8]:
        """Returns an image's centre square as 3 x resolution x resolution.

        Raises:
            BrokenImageError: it cannot be decoded.
        """
        ...

    def check(self, row: int) -> ImageFacts:
        """Returns an image's size and pixel format.

        Raises:
            BrokenImageError: its header cannot be read.
        """
        ...

    def digests(self, rows: Sequence[int]) -> list[str]:
        """Returns the sha256 of what is stored of each image, in hex.

        Raises:
            DataError: an image cannot be read.
        """
        ...

    def place(self, row: int) -> str:
        """Returns where an image lies, to name it in a sentence."""
        ...

    def short_place(self, row: int) -> str:
        """Returns the same, counted from where the images lie."""
        ...


class FileStore:
    """Image files; what is known of them is in an index."""

    def __init__(self, paths: Sequence[str], *, index: FileIndex) -> None:
        self._paths = paths
        self._index = index

    def decode(self, row: int, *, resolution: int) -> NDArray[np.uint8]:
        """Returns an image's centre square as 3 x resolution x resolution; see PixelStore."""
        return decode_image(self._paths[row], resolution=resolution)

    def check(self, row: int) -> ImageFacts:
        """Returns what the file's header says; see PixelStore."""
        return self._index.check(self._paths[row])

    def digests(self, rows: Sequence[int]) -> list[str]:
        """Returns the sha256 of each file; see PixelStore."""
        try:
            return self._index.digests([self._paths[row] for row in rows])
        except UnreadableFileError as error:
            raise unusable_error(error.path, reason=str(error)) from error

    def place(self, row: int) -> str:
        """Returns the file's path, with its odd bytes spelt out."""
        return printable(self._paths[row])

    def short_place(self, row: int) -> str:
        """Returns the file's path below the index's folder, with slashes."""
        return printable(self._index.relative(self._paths[row]).replace(os.sep, "/"))


class ArrayStore:
    """Arrays of uint8, N H W or N H W C, one behind the other; they may be mapped from a file."""

    def __init__(self, parts: Sequence[tuple[str, NDArray[np.uint8]]]) -> None:
        """Takes the arrays.

        Args:
            parts: named arrays; C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
        """
        self._names = [name for name, _ in parts]
        self._arrays = [array for _, array in parts]
        self._ends = list(accumulate(len(array) for array in self._arrays))

    def decode(self, row: int, *, resolution: int) -> NDArray[np.uint8]:
        """Returns an image's centre square as 3 x resolution x resolution; see PixelStore."""
        part, place = self._find(row)
        return resize_pixels(np.asarray(self._arrays[part][place]), resolution=resolution)

    def check(self, row: int) -> ImageFacts:
        """Returns an image's size and pixel format; see PixelStore."""
        height, width, *channels = self._arrays[self._find(row)[0]].shape[1:]
        return ImageFacts(width, height, _MODES[channels[0] if channels else 1])

    def digests(self, rows: Sequence[int]) -> list[str]:
        """Returns the sha256 of each image's shape and pixels; see PixelStore."""
        return [self._digest(*self._find(row)) for row in rows]

    def place(self, row: int) -> str:
        """Returns array and row."""
        part, place = self._find(row)
        return f"{self._names[part]}[{place}]"

    def short_place(self, row: int) -> str:
        """Returns array and row."""
        return self.place(row)

    def _find(self, row: int) -> tuple[int, int]:
        part = bisect_right(self._ends, row)
        return part, row - (self._ends[part - 1] if part else 0)

    def _digest(self, part: int, place: int) -> str:
        pixels = np.ascontiguousarray(self._arrays[part][place])
        return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def unusable_error(path: str, *, reason: str) -> DataError:
    """Returns the error that names one image."""
    return DataError(
        f"Every image must be readable, but '{printable(path)}' {reason}; repair it or move it away, {SKIP_HINT}."
    )


def printable(path: str | os.PathLike[str]) -> str:
    """Returns a path as text that every stream takes: bytes that are no UTF-8 are spelt out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
