"""The journal file of studies: Optuna's, with locks that go with their process and a torn last line mended.

Optuna's own lock is a symbolic link beside the journal. One of a killed process blocks its successors for 30 s, and for
ever where the journal's path is relative, as ours is: the link then leads nowhere, so that its age is never known
(Optuna 5.0). And what is written behind a torn line is glued to it, which no reader understands any more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from repnet_search.errors import StudyError

_PARAMETER = b'{"op_code":5,'

try:
    import fcntl
except ImportError:  # Windows, where Optuna's own way is kept
    fcntl = None  # type: ignore[assignment]


class Journal(JournalFileBackend):
    """A journal file that a killed writer or a full disk does not make unreadable."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), JournalFileOpenLock(str(path)))
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Adds entries, behind a last line that has an end.

        Raises:
            OSError: the disk is full, or the file has gone.
        """
        if os.name != "posix":
            super().append_logs(logs)
            return
        entries = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        with _open_locked(self._path) as file:
            _mend_end(file)
            written = 0
            while written < len(entries):
                written += file.write(entries[written:])
            os.fsync(file.fileno())

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Yields the entries from a number on; a last line without an end is not one yet.

        Raises:
            StudyError: a line between others is damaged.
        """
        try:
            yield from super().read_logs(log_number_from)
        except ValueError as error:
            raise StudyError(describe_damage(self._path, error)) from error


class RecordsJournal(Journal):
    """A journal for who reads records alone: parameters, four of five entries, are passed over unparsed.

    Entries are numbered without them.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._starts = {0: 0}

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Yields the entries from a number on, as `Journal` does."""
        number, start = log_number_from, self._starts[log_number_from]
        damage: ValueError | None = None
        with self._path.open("rb") as file:
            file.seek(start)
            for line in file:
                if damage is not None:
                    raise StudyError(describe_damage(self._path, damage)) from damage
                if not line.endswith(b"\n"):
                    return
                start += len(line)
                if line.startswith(_PARAMETER) and line.endswith(b"}\n"):
                    continue
                try:
                    entry = json.loads(line)
                except ValueError as error:
                    damage = error
                    continue
                number += 1
                self._starts[number] = start
                yield entry


def mend_journal(path: Path) -> None:
    """Ends a last line that has no end, as a kill, a full disk or a power cut leaves it.

    What is cut off was never a whole entry, so that no copy of it is kept.
    """
    if os.name == "posix":
        with _open_locked(path) as file:
            _mend_end(file)


def describe_damage(path: Path, error: Exception) -> str:
    """Returns a sentence about the first damaged line of a journal; `error` is told where all lines look well."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not _is_entry(line):
                return (
                    f"Line {number} of the study storage {path} is damaged; put a copy of the file back, or keep the "
                    f"{number - 1} lines before it alone, which loses what was recorded later (head -n {number - 1})."
                )
    return (
        f"The entries of the study storage {path} contradict one another ({type(error).__name__}: {error}); put a "
        "copy of the file back, or name another file with --storage."
    )


def _open_locked(path: Path) -> FileIO:
    """Returns the file for adding to it, for us alone until it is closed; one that has gone is not made anew."""
    file = FileIO(path, "a+", opener=lambda name, flags: os.open(name, flags & ~os.O_CREAT))
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except BaseException:
        file.close()
        raise
    return file


def _mend_end(file: FileIO) -> None:
    """Gives a last line without an end its end where it is a whole entry, and cuts it off where it is not."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    if file.read() in (b"", b"\n"):
        return
    file.seek(0)
    content = file.read()
    start = content.rfind(b"\n") + 1
    if _is_entry(content[start:]):
        file.write(b"\n")
    else:
        file.truncate(start)


def _is_entry(line: bytes) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return isinstance(entry, dict) and "op_code" in entry
