"""Whether another run is alive on a study, and whether a process is just taking a trial, told by locks on files.

Each run and each of its workers holds a shared lock on a file in the study's folder while it runs. Locks go with their
process, however it ends. They are known on one machine; where the platform has no such locks, a run takes itself to be
alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LOCK_NAME = ".running"
_TAKING_NAME = ".taking"


@contextmanager
def hold_study(folder: Path) -> Iterator[bool]:
    """Yields whether this is the only process that runs the study, and holds its lock meanwhile."""
    with (folder / _LOCK_NAME).open("w") as file:
        alone = True
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                alone = False
            fcntl.flock(file, fcntl.LOCK_SH)
        yield alone


@contextmanager
def hold_taking(folder: Path, *, alone: bool) -> Iterator[None]:
    """Holds a lock while a trial is taken and marked as ours; `alone`: once nobody does so, and nobody begins to."""
    with (folder / _TAKING_NAME).open("w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
