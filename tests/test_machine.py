"""Where caches are, and what the machine has left."""

from __future__ import annotations

from pathlib import Path

import pytest

from repnet_search import machine
from repnet_search.machine import cache_folder, count_cores, free_memory_bytes


def test_the_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPNET_SEARCH_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("REPNET_SEARCH_CACHE")
    folder = cache_folder()
    assert folder is not None
    assert "repnet-search" in str(folder)


def test_free_memory_is_the_least_of_machine_and_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_cores() >= 1
    free = free_memory_bytes()
    assert free is None or free > 0
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    4096 kB\n")
    monkeypatch.setattr(machine, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    assert free_memory_bytes() == 4096 * 1024
    for name, text in (("max", "3000000"), ("current", "2500000"), ("stat", "active_file 100000\nanon 7\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert free_memory_bytes() == 600_000
    (tmp_path / "memory.max").write_text("max")
    assert free_memory_bytes() == 4096 * 1024
