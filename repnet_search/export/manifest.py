"""A bundle's manifest: its format, what wrote it, and size and sha256 of each of its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from repnet_search.errors import SpecError

FORMAT_VERSION = 2
MANIFEST_FILE = "manifest.json"
LEFT_BY_PYTHON = "__pycache__"
"""What `import model` leaves in a bundle."""

_FIRST_MARK = "bundle.json"
"""What marked a bundle of format 1, which had no manifest."""


def write_manifest(folder: Path) -> None:
    """Writes the manifest of all the files that are in a folder."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST_FILE
    }
    manifest = {"format": FORMAT_VERSION, "written_by": written_by(), "torch": torch.__version__, "files": files}
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def written_by() -> str:
    """Returns this program's name and version."""
    # By its name: import-linter takes the root's lazy imports, report among them, for imports of whoever imports it.
    return f"repnet-search {import_module('repnet_search').__version__}"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Returns a bundle's manifest.

    Raises:
        SpecError: the folder has none that can be read, or one of another format.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file() and (folder / _FIRST_MARK).is_file():
        raise SpecError(f"The bundle {folder} has format 1, but this version reads {FORMAT_VERSION}; export it again.")
    if not path.is_file():
        raise SpecError(f"A bundle is a folder that 'repnet-search export' wrote, but {folder} has no {MANIFEST_FILE}.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found, files = manifest["format"], manifest["files"]
        known = all(isinstance(entry["sha256"], str) for entry in files.values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SpecError(f"{MANIFEST_FILE} in the bundle {folder} cannot be read; export it again.") from error
    if found != FORMAT_VERSION or not known:
        raise SpecError(
            f"The bundle {folder} has format {found}, but this version reads {FORMAT_VERSION}; export it again."
        )
    return dict(manifest)


def list_damage(folder: Path) -> Iterator[str]:
    """Yields a sentence for each file that is missing, changed, or none of the bundle's; raises as `read_manifest`."""
    files = read_manifest(folder)["files"]
    there = {path.name: path for path in folder.iterdir()}
    for name, entry in files.items():
        if name not in there or not there[name].is_file():
            yield f"{name} is missing; copy the bundle again."
        elif there[name].stat().st_size != entry["bytes"] or _sha256(there[name]) != entry["sha256"]:
            yield f"{name} is not what was written (its sha256 is another); copy the bundle again."
    for name in sorted(there.keys() - files.keys() - {MANIFEST_FILE, LEFT_BY_PYTHON}):
        yield f"{name} is no file of this bundle; move it away."


def refuse_damage(folder: Path) -> None:
    """Makes sure that a bundle is what was written.

    Raises:
        SpecError: a file is missing, changed, or none of the bundle's.
    """
    damage = next(list_damage(folder), None)
    if damage is not None:
        raise SpecError(f"The bundle {folder} is not whole: {damage}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
