"""The arrays of an .npz file, mapped from the disk where they lie in it uncompressed; pickles are never opened."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from repnet_search.errors import DataError
from repnet_search.machine import free_memory_bytes
from repnet_search.units import format_size

_LOCAL_HEADER_BYTES = 30  # of a zip member, before its name and extra field, whose lengths are its last two numbers
_MOST_OF_FREE_MEMORY = 0.5
# What zipfile and NumPy's parsers raise where the bytes are not what they should be.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)


@dataclass(frozen=True, slots=True)
class Member:
    """One array of the file: what its header says."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    header_bytes: int

    @property
    def size_bytes(self) -> int:
        """The bytes of the array in memory."""
        return math.prod(self.shape) * self.dtype.itemsize


def list_members(path: Path) -> Mapping[str, Member]:
    """Returns the arrays of a file by name; reads their headers alone.

    Raises:
        DataError: it is no .npz file, is damaged, or holds Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            members = {}
            for info in infos:
                with archive.open(info) as file:
                    member = _read_header(info.filename.removesuffix(".npy"), file)
                members[member.name] = member
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    except OSError as error:
        raise DataError(f"The images in '{path}' cannot be read ({error.strerror}); check the path.") from error
    for member in members.values():
        if member.dtype.hasobject:
            raise DataError(
                f"The arrays must hold numbers, but '{member.name}' in '{path}' holds Python objects, which are never "
                f"unpickled; save images of one size as one uint8 array, or images of many sizes as files in folders."
            )
    return members


def load_member(path: Path, member: Member) -> NDArray[Any]:
    """Returns an array: mapped where it is stored uncompressed (np.savez), else read whole (np.savez_compressed).

    Raises:
        DataError: it is damaged, or would not fit into memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{member.name}.npy")
            if info.compress_type == zipfile.ZIP_STORED:
                return _map(path, info, member)
            free_bytes = free_memory_bytes()
            if free_bytes is not None and member.size_bytes > _MOST_OF_FREE_MEMORY * free_bytes:
                raise DataError(
                    f"Compressed arrays must fit into half of the free memory, but '{member.name}' in '{path}' has "
                    f"{format_size(member.size_bytes)} and {format_size(free_bytes)} are free; save it with np.savez, "
                    f"uncompressed, so that it can be read piece by piece."
                )
            with archive.open(info) as file:
                array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
                return array
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _read_header(name: str, file: IO[bytes]) -> Member:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = read(file)
    return Member(name, shape, dtype, fortran_order, file.tell())


def _map(path: Path, info: zipfile.ZipInfo, member: Member) -> NDArray[Any]:
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER_BYTES)
        lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        start = info.header_offset + _LOCAL_HEADER_BYTES + lengths + member.header_bytes
        file.seek(0, 2)
        if start + member.size_bytes > file.tell():
            raise ValueError("it ends too early")
    if not member.size_bytes:
        return np.empty(member.shape, dtype=member.dtype)
    order: Literal["C", "F"] = "F" if member.fortran_order else "C"
    mapped: NDArray[Any] = np.memmap(path, member.dtype, "r", offset=start, shape=member.shape, order=order)
    return mapped


def _damaged(path: Path, error: Exception) -> DataError:
    reason = str(error).strip().rstrip(".").splitlines()
    return DataError(
        f"An .npz file must be a whole archive of NumPy arrays, but '{path}' is not "
        f"({reason[0] if reason else type(error).__name__}); write it again with np.savez."
    )
