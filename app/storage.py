"""What the browser reads, without holding up a search that writes: the studies of a storage.

A journal is read without a lock, and only what was added since it was last read. Of an SQLite file a copy is read: one
that many read can make a running search fail.
"""

from __future__ import annotations

import atexit
import shutil
import sqlite3
import tempfile
import time
import zlib
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import streamlit as st

import repnet_search
from repnet_search import Outcome, RepnetSearchError, StudyView

FRESH_SECONDS: Final = 5
"""How often a page that is open looks whether something was written."""
QUIET_SECONDS: Final = 900
"""Whoever has begun a design and written nothing for so long was perhaps killed."""

_SQLITE: Final = "sqlite:///"
_JOURNAL: Final = Path("repnet-studies") / "journal.log"

Stamp = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """The studies of a storage at one moment.

    Args:
        views: those that could be read, in the order in which they were made.
        unreadable: a sentence about each of the others.
        stamp: changes when the storage is written to.
        written_seconds: when it was written to last, in seconds since 1970; None where it is no file.
    """

    views: tuple[StudyView, ...]
    unreadable: tuple[str, ...]
    stamp: Stamp
    written_seconds: float | None

    def describe_run(self, view: StudyView) -> str | None:
        """Returns what a search is doing to a study now, as far as the storage tells; None where nothing is begun."""
        begun = view.count(Outcome.RUNNING)
        if not begun:
            return None
        designs = "1 design" if begun == 1 else f"{begun} designs"
        if self.written_seconds is None:
            return f"running: {designs} in training"
        quiet = max(0.0, time.time() - self.written_seconds)
        if quiet > QUIET_SECONDS:
            return f"perhaps stopped: {designs} begun, nothing written for {_format_duration(quiet)}"
        return f"running: {designs} in training, last written {_format_duration(quiet)} ago"


def read_studies(storage: str | None) -> Reading:
    """Returns the studies of a storage (None: the journal in ./repnet-studies) as they are now.

    Raises:
        RepnetSearchError: the storage is missing or cannot be read, or holds no study of repnet-search.
    """
    return _read_studies(storage, stamp=find_stamp(storage))


def open_whole(storage: str | None) -> Any:
    """Returns a storage with all that its trials hold, which takes seconds of a large journal: no page waits for it."""
    if storage is not None and storage.startswith(_SQLITE):
        return _open_storage(storage, identity=find_stamp(storage))
    return repnet_search.open_storage(storage)


def find_stamp(storage: str | None) -> Stamp:
    """Returns numbers that change when a storage is written to; of a database server they change with the time."""
    path = find_file(storage)
    if path is None:
        return (int(time.time() // FRESH_SECONDS),)
    stamp: list[int] = []
    for part in (path, path.with_name(path.name + "-wal")):
        try:
            status = part.stat()
        except OSError:
            continue
        stamp += [status.st_ino, status.st_size, status.st_mtime_ns]
    return tuple(stamp)


def find_file(storage: str | None) -> Path | None:
    """Returns the file of a storage, None of a database server's."""
    if storage is None:
        return _JOURNAL
    if storage.startswith(_SQLITE):
        return Path(storage.removeprefix(_SQLITE))
    return None if "://" in storage else Path(storage)


@st.cache_resource(max_entries=2, show_spinner="Reading the studies …")
def _read_studies(storage: str | None, *, stamp: Stamp) -> Reading:
    unreadable: list[str] = []
    views = _read_views(storage, on_unreadable=lambda error: unreadable.append(str(error)), stamp=stamp)
    if not views:
        none = "This storage holds no study of repnet-search; 'repnet-search run' makes one."
        raise RepnetSearchError(unreadable[0] if unreadable else none)
    path = find_file(storage)
    written = path.stat().st_mtime if path is not None else None
    return Reading(views, tuple(unreadable), stamp, written)


def _read_views(
    storage: str | None, *, on_unreadable: Callable[[RepnetSearchError], None], stamp: Stamp
) -> tuple[StudyView, ...]:
    """Returns the studies; opens the storage anew where it no longer fits what was read of it before."""
    for is_last in (False, True):
        try:
            backend = _open_storage(storage, identity=_find_identity(storage, stamp))
            return tuple(repnet_search.list_studies(backend, on_unreadable=on_unreadable))
        except Exception as error:  # a damaged storage decides what Optuna, pydantic or a driver makes of it
            _open_storage.clear()
            if is_last:
                raise explain(error) from error
    raise AssertionError("not reached")


@st.cache_resource(max_entries=2, show_spinner=False)
def _open_storage(storage: str | None, *, identity: Stamp) -> Any:
    """Returns the open storage; a journal that is the same file goes on where it was read to."""
    if storage is not None and storage.startswith(_SQLITE):
        source = Path(storage.removeprefix(_SQLITE))
        if source.is_file():
            return repnet_search.open_storage(f"{_SQLITE}{_copy_sqlite(source, stamp=identity)}", params=False)
    return repnet_search.open_storage(storage, params=False)


def _find_identity(storage: str | None, stamp: Stamp) -> Stamp:
    """Returns what stays the same as long as an open storage can be read on: of a journal its inode and its start."""
    if storage is not None and "://" in storage:
        return stamp
    try:
        with (find_file(storage) or _JOURNAL).open("rb") as file:
            start = file.readline(1000)  # names the process that wrote it, so that another journal differs
    except OSError:
        return stamp
    return (*stamp[:1], zlib.crc32(start))


def _copy_sqlite(source: Path, *, stamp: Stamp) -> Path:
    """Returns a copy of a database, taken within its own transactions, so that a writer is not in its way."""
    folder = _copies_folder()
    copy = folder / f"{zlib.crc32(repr((source, stamp)).encode())}.db"
    for older in folder.iterdir():
        with suppress(OSError):  # Windows keeps what is still open
            older.unlink()
    try:
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as origin,
            closing(sqlite3.connect(copy)) as target,
        ):
            origin.backup(target)
    except sqlite3.Error:
        return source  # `open_storage` says what is wrong with it
    return copy


@st.cache_resource(show_spinner=False)
def _copies_folder() -> Path:
    """Returns the folder of the copies, which goes with the process."""
    folder = Path(tempfile.mkdtemp(prefix="repnet-search-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def explain(error: Exception) -> RepnetSearchError:
    """Returns why a storage cannot be read, in a sentence."""
    if isinstance(error, RepnetSearchError):
        return error
    lines = str(error).splitlines()
    first = f"{type(error).__name__}: {lines[0].rstrip('.:')}" if lines else type(error).__name__
    return RepnetSearchError(
        f"A study in this storage cannot be read ({first}); it is damaged or from another version. "
        "Name another with --storage."
    )


def _format_duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"
