"""Whether another run is alive on a study: each holds a shared lock on a file in the study's folder while it runs.

The lock goes with the process, however it ends. It is known on one machine; where the platform has no such locks, a run
takes itself to be alone.
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


@contextmanager
def hold_study(folder: Path) -> Iterator[bool]:
    """Yields whether this is the only run on the study, and holds its lock meanwhile."""
    with (folder / _LOCK_NAME).open("w") as file:
        alone = True
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                alone = False
            fcntl.flock(file, fcntl.LOCK_SH)
        yield alone
