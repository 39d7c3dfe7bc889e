"""What this machine offers: a place for caches, and the memory that is free now."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from repnet_search.units import KIB

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def cache_folder() -> Path | None:
    """Returns where caches are kept: $REPNET_SEARCH_CACHE, or the platform's place for them; None without a home."""
    chosen = os.environ.get("REPNET_SEARCH_CACHE")
    if chosen:
        return Path(chosen)
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "repnet-search" / "cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "repnet-search"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "repnet-search"


def free_memory_bytes() -> int | None:
    """Returns how much memory can be taken without swapping, by the machine and by its container; None if unknown."""
    known = [size for size in (_free_in_machine(), _free_in_container()) if size is not None]
    return min(known, default=None)


def count_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _free_in_machine() -> int | None:
    try:
        for line in _MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * KIB
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return None


def _free_in_container() -> int | None:
    """Returns what the control group leaves; files that the kernel only keeps at hand do not count as used."""
    try:
        limit = int((_CGROUP / "memory.max").read_text(encoding="ascii"))
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        lines = (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
        files = sum(int(line.split()[1]) for line in lines if line.startswith(("active_file ", "inactive_file ")))
    except (OSError, ValueError):
        return None
    return max(0, limit - used + files)
