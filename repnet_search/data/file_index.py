"""What is known of image files: header and content hash, read again only where a file has changed.

Kept per folder of images in the cache. A file counts as unchanged while its size, times and inode are what they were;
one that was written within two seconds before it was read is never noted, as a later write may leave the same time.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from repnet_search.data.decode import ImageFacts, check_image
from repnet_search.machine import count_cores
from repnet_search.spec.files import save_bytes

INDEX_FORMAT = 1
KEPT_FILES = 64
_SETTLED_NS = 2 * 10**9
_CHUNK_BYTES = 1024**2

Stamp = tuple[int, int, int, int]
"""Size, time of the content, time of the entry, inode."""


class UnreadableFileError(Exception):
    """A file cannot be read; the text continues the sentence "The file ..."."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(reason)
        self.path = path


class FileIndex:
    """Headers and content hashes of the files below one folder."""

    def __init__(self, root: Path, *, folder: Path | None) -> None:
        """Reads what is known.

        Args:
            root: the folder of images.
            folder: where indices are kept; None keeps none.
        """
        self._prefix = os.path.join(os.fspath(root), "")
        name = hashlib.sha256(os.path.abspath(root).encode("utf-8", "surrogateescape")).hexdigest()[:40]
        self._path = None if folder is None else folder / f"files-{name}.json"
        self._known: dict[str, dict[str, Any]] = _read(self._path)
        self._changed = False

    def relative(self, path: str) -> str:
        """Returns a path below the folder of images."""
        return path.removeprefix(self._prefix)

    def check(self, path: str) -> ImageFacts:
        """Returns what the file's header says.

        Raises:
            BrokenImageError: the file is no image that can be read.
        """
        stamp = _stamp(path)
        known = self._lookup(path, stamp).get("facts")
        if known is not None:
            return ImageFacts(*known)
        facts = check_image(path)
        self._note(path, stamp, "facts", [facts.width, facts.height, facts.mode])
        return facts

    def digests(self, paths: Sequence[str]) -> list[str]:
        """Returns the sha256 of each file's content, in hex.

        Raises:
            UnreadableFileError: a file cannot be read.
        """
        with ThreadPoolExecutor(count_cores()) as pool:
            found = list(pool.map(self._digest, paths))
        self.save()
        return found

    def save(self) -> None:
        """Keeps what was learnt; a folder that cannot be written keeps nothing."""
        if self._path is None or not self._changed:
            return
        try:
            save_bytes(
                self._path, json.dumps({"format": INDEX_FORMAT, "files": self._known}).encode(), make_folder=True
            )
            others = sorted(self._path.parent.glob("files-*.json"), key=lambda file: file.stat().st_mtime)
            for old in others[:-KEPT_FILES]:
                old.unlink(missing_ok=True)
        except OSError:
            return
        self._changed = False

    def _digest(self, path: str) -> str:
        try:
            stamp = _stamp(path)
            known = self._lookup(path, stamp).get("sha256")
            if known is not None:
                return str(known)
            digest = hash_file(path)
        except OSError as error:
            raise UnreadableFileError(path, f"cannot be read ({error.strerror})") from error
        self._note(path, stamp, "sha256", digest)
        return digest

    def _lookup(self, path: str, stamp: Stamp | None) -> dict[str, Any]:
        entry = self._known.get(self.relative(path), {})
        return entry if stamp is not None and entry.get("stamp") == list(stamp) else {}

    def _note(self, path: str, stamp: Stamp | None, field: str, value: Any) -> None:
        if self._path is None or stamp is None or time.time_ns() - stamp[1] < _SETTLED_NS:
            return
        entry = self._lookup(path, stamp) or {"stamp": list(stamp)}
        self._known[self.relative(path)] = entry | {field: value}
        self._changed = True


def hash_file(path: str) -> str:
    """Returns the sha256 of a file's content, in hex; the file is never whole in memory.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _stamp(path: str) -> Stamp | None:
    """Returns what changes when the file does; None where it cannot be told, which reading will explain."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _read(path: Path | None) -> dict[str, dict[str, Any]]:
    """Returns the files of an index; none where there is none, or none that this version wrote."""
    if path is None:
        return {}
    try:
        value = json.loads(path.read_bytes())
        files = value["files"] if value["format"] == INDEX_FORMAT else {}
        return {name: entry for name, entry in files.items() if _is_entry(entry)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _is_entry(entry: Any) -> bool:
    """Returns whether an entry has the form that this version writes."""
    if not isinstance(entry, dict) or not isinstance(entry.get("stamp"), list):
        return False
    facts, digest = entry.get("facts", [1, 1, ""]), entry.get("sha256", "0" * 64)
    has_facts = isinstance(facts, list) and [type(value) for value in facts] == [int, int, str]
    return has_facts and isinstance(digest, str) and len(digest) == 64
