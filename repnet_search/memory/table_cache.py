"""Tables of modules on disk: what is measured once per space and context is read the next time.

A file is named by everything that its numbers depend on, the source of the op list among them, so it is never out of
date. One that cannot be read is ignored and written again.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from repnet_search.memory.batch import Integers
from repnet_search.memory.families import COLUMNS, CONTEXTS, ModuleKey
from repnet_search.memory.options import ModuleChoices, ModuleIndex, bound_to, list_module_keys
from repnet_search.memory.tables import MemoryTables
from repnet_search.spec.files import save_bytes

TABLE_FORMAT = 1
KEPT_FILES = 64
_PACKAGE = Path(__file__).parents[1]
_SOURCES = ("__init__.py", "backbones/*.py", "graph/*.py", "memory/*.py", "spec/*.py")
"""What the numbers follow from; the first has the version."""


def load_module_index(tables: MemoryTables, choices: ModuleChoices, *, folder: Path | None) -> ModuleIndex:
    """Returns the index of some choices, with their modules in the tables: from the folder, else measured and kept.

    Args:
        tables: what the modules are added to.
        choices: what the modules may be.
        folder: where the files are; None measures, and keeps nothing.

    Raises:
        SpecError: a batch norm at micro-batch 1.
    """
    if folder is None:
        return _measure(tables, choices)[0]
    path = folder / f"modules-{_digest(tables, choices)[:40]}.npz"
    known = _read(path)
    if known is not None:
        index, keys, rows = known
        missing = [position for position, key in enumerate(keys) if key not in tables.keys]
        tables.append_modules([keys[position] for position in missing], rows[:, missing])
        return bound_to(tables, index, keys)
    index, keys = _measure(tables, choices)
    _write(path, tables, index, keys)
    return index


def _measure(tables: MemoryTables, choices: ModuleChoices) -> tuple[ModuleIndex, list[ModuleKey]]:
    index, keys = list_module_keys(tables, choices)
    tables.add_modules(keys)
    return bound_to(tables, index, keys), keys


def _digest(tables: MemoryTables, choices: ModuleChoices) -> str:
    """Returns a hash of all that the numbers depend on; the head, and so the number of classes, is not in the file."""
    context = (TABLE_FORMAT, tables.table, tables.resolution, tables.target, choices)
    digest = hashlib.sha256(repr(context).encode())
    for pattern in _SOURCES:
        for source in sorted(_PACKAGE.glob(pattern)):
            digest.update(source.read_bytes())
    return digest.hexdigest()


def _write(path: Path, tables: MemoryTables, index: ModuleIndex, keys: list[ModuleKey]) -> None:
    """Keeps an index and its modules; a folder that cannot be written keeps nothing."""
    longest = max(map(len, keys), default=0)
    position = {tables.keys[key]: number for number, key in enumerate(keys)}
    numbers = np.array([position.get(row, -1) for row in index.rows.ravel().tolist()], dtype=np.int64)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        keys=np.array([key + (0,) * (longest - len(key)) for key in keys], dtype=np.int64),
        rows=tables.module_rows(keys),
        index=numbers.reshape(index.rows.shape),
        features=index.features,
        pools=np.array(index.pools),
    )
    try:
        save_bytes(path, buffer.getvalue(), make_folder=True)
        files = sorted(path.parent.glob("modules-*.npz"), key=lambda file: file.stat().st_mtime)
        for old in files[:-KEPT_FILES]:
            old.unlink(missing_ok=True)
    except OSError:
        return


def _read(path: Path) -> tuple[ModuleIndex, list[ModuleKey], Integers] | None:
    """Returns what a file holds; None where there is none, or none that this version wrote."""
    try:
        # From memory: a broken archive would leave its file open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            keys, rows, numbers = file["keys"], file["rows"], file["index"]
            features, pools = file["features"], int(file["pools"])
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error):
        return None
    whole = all(array.dtype == np.int64 for array in (keys, rows, numbers, features))
    if not whole or keys.ndim != 2 or numbers.ndim != 3 or rows.shape != (len(COLUMNS), len(keys), CONTEXTS):
        return None
    if numbers.size and not -1 <= numbers.min() <= numbers.max() < len(keys):
        return None
    # The groups at a key's end are at least 1: a 0 behind the fixed fields is padding.
    listed = [_unpadded(key) for key in keys.tolist()]
    return ModuleIndex(numbers, features, pools), listed, rows


def _unpadded(key: list[int]) -> ModuleKey:
    while key and key[-1] == 0:
        key.pop()
    return tuple(key)
