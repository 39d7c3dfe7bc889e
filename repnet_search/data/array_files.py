"""Arrays kept on disk: mapped into memory, never read whole, shared by processes, the least recently used going first.

One .npy file per array, followed by a trailer with its checksum and notes. A file has its name only once it is
complete; what is damaged, or was written by something else, counts as not there. A lock is the kernel's and goes with
the process that holds it, so a killed one blocks nobody.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

try:
    import fcntl
except ImportError:  # Windows: two processes may then make the same array at the same time
    fcntl = None  # type: ignore[assignment]

_READ_BYTES = 16 * 1024**2
_ABANDONED_SECONDS = 24 * 3600.0
_SETTLED_SECONDS = 120.0  # a younger file may not have its lock yet


@dataclass(frozen=True, slots=True)
class ArrayForm:
    """What an array looks like: its rows lie along the first axis."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size_bytes(self) -> int:
        """All of it."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    @property
    def header(self) -> bytes:
        """What a .npy file of such an array begins with."""
        buffer = io.BytesIO()
        descr = npy.dtype_to_descr(np.dtype(self.dtype))
        npy.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": self.shape})
        return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class MappedArray:
    """An array on disk: its values, and what was noted with it."""

    values: NDArray[Any]
    notes: Mapping[str, Any]


class ArrayFiles:
    """The files of one cache, within a limit of bytes."""

    def __init__(self, folder: Path | None, *, prefix: str, what: str, limit_bytes: int) -> None:
        """Touches nothing.

        Args:
            folder: where the files are; None keeps nothing.
            prefix: of the files' names, which tells the caches in a folder apart.
            what: is kept, in words with the version of their form; in every trailer.
            limit_bytes: of all files together; 0 keeps nothing.
        """
        self.folder = folder if limit_bytes > 0 else None
        self.limit_bytes = limit_bytes
        self._prefix, self._what = prefix, what

    def takes(self, form: ArrayForm) -> bool:
        """Returns whether such an array can be kept at all."""
        return self.folder is not None and 0 < form.size_bytes <= self.limit_bytes

    def open(self, name: str, form: ArrayForm) -> MappedArray | None:
        """Returns an array that is kept; None where there is none, or none that is whole and has this form."""
        if self.folder is None:
            return None
        path = self._path(name)
        try:
            notes = _read_notes(path, form, what=self._what)
            # Copy on write: torch warns of arrays that cannot be written; nobody writes, so nothing is ever copied.
            values = np.memmap(path, dtype=form.dtype, mode="c", offset=len(form.header), shape=form.shape)
            self.touch(name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return MappedArray(values, notes)

    def touch(self, name: str) -> None:
        """Notes that an array was used just now."""
        if self.folder is not None:
            with suppress(OSError):
                os.utime(self._path(name))

    @contextmanager
    def create(self, name: str, form: ArrayForm) -> Iterator[ArrayWriter]:
        """Yields what writes an array; leaving the context without `finish`, or by an exception, keeps nothing.

        Raises:
            OSError: it cannot be written.
        """
        assert self.folder is not None
        path = self._path(name)
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX)  # tells that its writer lives
                writer = ArrayWriter(file, form, path=path, what=self._what)
                yield writer
            if writer.finished:
                Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Waits until no other process holds the lock of this name.

        Raises:
            OSError: the folder cannot be written.
        """
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self._prefix}-{name}.lock"
        with _open_lock(path):
            try:
                yield
            finally:
                with suppress(OSError):  # Windows deletes no open file
                    path.unlink(missing_ok=True)

    def make_room(self, size_bytes: int) -> None:
        """Deletes the files least recently used until `size_bytes` fit; what a process has open stays open to it."""
        assert self.folder is not None
        for path, age_seconds, _ in _by_age(self.folder, f".{self._prefix}-*"):
            if age_seconds > _ABANDONED_SECONDS or (age_seconds > _SETTLED_SECONDS and _is_unlocked(path)):
                path.unlink(missing_ok=True)
        files = _by_age(self.folder, f"{self._prefix}-*.npy")
        total = sum(size for _, _, size in files)
        for path, _, size in files:
            if total + size_bytes <= self.limit_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{self._prefix}-{name}.npy"


class ArrayWriter:
    """Writes the rows of an array from the first to the last."""

    def __init__(self, file: io.BufferedWriter, form: ArrayForm, *, path: Path, what: str) -> None:
        self.finished = False
        self._file, self._form, self._what = file, form, what
        self._left_bytes, self._checksum = form.size_bytes, 0
        file.write(form.header)

    def append(self, rows: NDArray[Any]) -> None:
        """Writes the next rows.

        Raises:
            OSError: they cannot be written.
        """
        block = np.ascontiguousarray(rows, dtype=self._form.dtype).data.cast("B")
        self._file.write(block)
        self._checksum = zlib.crc32(block, self._checksum)
        self._left_bytes -= len(block)

    def finish(self, notes: Mapping[str, Any]) -> None:
        """Writes the trailer; the file gets its name when the context is left.

        Raises:
            OSError: it cannot be written.
        """
        assert not self._left_bytes
        trailer = {"what": self._what, "crc32": self._checksum, "notes_crc32": _checksum_of(notes), **notes}
        self._file.write(json.dumps(trailer).encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self.finished = True


def _read_notes(path: Path, form: ArrayForm, *, what: str) -> dict[str, Any]:
    """Returns the trailer of a file that was read to its end.

    Raises:
        OSError, ValueError, KeyError, TypeError: there is no such file, or it is not whole.
    """
    with path.open("rb") as file:
        header = form.header
        if file.read(len(header)) != header:
            raise ValueError
        checksum, left = 0, form.size_bytes
        while left and (block := file.read(min(_READ_BYTES, left))):
            checksum = zlib.crc32(block, checksum)
            left -= len(block)
        trailer: dict[str, Any] = json.loads(file.read())
    if left or trailer.pop("what") != what or trailer.pop("crc32") != checksum:
        raise ValueError
    if trailer.pop("notes_crc32") != _checksum_of(trailer):
        raise ValueError
    return trailer


def _checksum_of(notes: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(notes).encode())


def _by_age(folder: Path, pattern: str) -> list[tuple[Path, float, int]]:
    """Returns the files of a pattern with their age in seconds and size in bytes, the oldest first."""
    found, now = [], time.time()
    for path in folder.glob(pattern):
        with suppress(FileNotFoundError):  # another process may make room too
            status = path.stat()
            found.append((path, now - status.st_mtime, status.st_size))
    return sorted(found, key=lambda entry: -entry[1])


@contextmanager
def _open_lock(path: Path) -> Iterator[None]:
    """Holds a lock on the file that has this name now: its last holder may have deleted the one that was waited for."""
    while True:
        with path.open("w") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not _is_at(file, path):
                    continue
            yield
            return


def _is_unlocked(path: Path) -> bool:
    """Returns whether no process holds a lock on a file; False where that cannot be told."""
    try:
        with path.open("rb") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fcntl is not None
    except OSError:
        return False


def _is_at(file: io.TextIOWrapper, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
