from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from repnet_search.backbones import get_block_table
from repnet_search.memory import table_cache
from repnet_search.memory.options import ModuleChoices
from repnet_search.memory.table_cache import load_module_index
from repnet_search.memory.tables import MemoryTables, create_tables
from repnet_search.spec import ModuleSpec, Norm

CHOICES = ModuleChoices(
    modules=(ModuleSpec(depth=0, norm=Norm.NONE), ModuleSpec(groups="depthwise"), ModuleSpec(depth=2, width=0.5)),
    image_pools=(2, 4),
    blocks=(3, 6, 13),
    stream=True,
    block_input=True,
)


def new_tables(resolution: int = 32) -> MemoryTables:
    table = get_block_table("mobilenet_v2", width_mult=0.35, last_conv=False)
    return create_tables(table, resolution=resolution, classes=10)


def found(tables: MemoryTables, folder: Path | None) -> list[object]:
    index = load_module_index(tables, CHOICES, folder=folder)
    keys = sorted(tables.keys)
    names = {row: key for key, row in tables.keys.items()}
    return [keys, tables.module_rows(keys).tolist(), [names.get(row) for row in index.rows.ravel().tolist()]]


def test_what_is_read_is_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = found(new_tables(), None)
    assert found(new_tables(), tmp_path) == measured
    (file,) = tmp_path.glob("*.npz")
    monkeypatch.setattr(table_cache, "list_module_keys", None)  # nothing is measured again
    assert found(new_tables(), tmp_path) == measured
    assert list(tmp_path.iterdir()) == [file]


def test_a_broken_or_foreign_file_is_written_again(tmp_path: Path) -> None:
    measured = found(new_tables(), tmp_path)
    (file,) = tmp_path.glob("*.npz")
    data = file.read_bytes()
    spoilt = bytearray(data)
    spoilt[len(data) // 2] ^= 255
    for wrong in (b"", b"no archive", data[: len(data) // 2], bytes(spoilt)):
        file.write_bytes(wrong)
        assert found(new_tables(), tmp_path) == measured
        assert table_cache._read(file) is not None
    with file.open("wb") as handle:
        np.savez(handle, keys=np.array([{"a": 1}], dtype=object))
    assert found(new_tables(), tmp_path) == measured


def test_another_context_has_another_file(tmp_path: Path) -> None:
    for resolution in (32, 48):
        load_module_index(new_tables(resolution), CHOICES, folder=tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 2


def test_the_oldest_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_cache, "KEPT_FILES", 2)
    for resolution in (24, 32, 40, 48):
        load_module_index(new_tables(resolution), CHOICES, folder=tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 2


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert found(new_tables(), blocked / "below") == found(new_tables(), None)
