"""The cache of arrays: on disk within a limit, else in memory, and never a reason to fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from repnet_search.data import array_files
from repnet_search.data.array_files import ArrayForm
from repnet_search.training.cache import FeatureCache, KeptArray, RowSink

FORM = ArrayForm((10, 5), "<f4")  # 200 bytes, and some hundred in the file
FILE_BYTES = 400


class Maker:
    """Makes arrays of one value, row by row, and counts how often it was asked."""

    def __init__(self, value: float = 1.0) -> None:
        self.value, self.asked = value, 0

    def __call__(self, sinks: Mapping[str, RowSink]) -> None:
        self.asked += 1
        for sink in sinks.values():
            for _ in range(5):
                sink.append(np.full((2, 5), self.value, dtype=np.float32))
            sink.finish({"value": self.value})


def get(cache: FeatureCache, name: str, maker: Maker, *, form: ArrayForm = FORM) -> KeptArray:
    kept = cache.find(name, form)
    return kept if kept is not None else cache.make({name: form}, maker, what="These arrays")[name]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Returns a folder that exists, as after the first lock."""
    return tmp_path


def test_an_array_is_made_once_and_mapped_by_others(folder: Path) -> None:
    maker = Maker(3.0)
    for _ in range(2):
        cache = FeatureCache(folder)
        for _ in range(2):
            kept = get(cache, "a", maker)
            assert kept.values.shape == (10, 5)
            assert (kept.values == 3).all()
            assert kept.notes == {"value": 3.0}
            assert kept.memory_bytes == 0
    assert maker.asked == 1
    assert files(folder) == ["features-a.npy"]
    assert np.load(folder / "features-a.npy").shape == (10, 5)  # any program can read it


@pytest.mark.parametrize(
    "damage", [lambda data: data[:250], lambda data: data[:200] + b"x" + data[201:], lambda _: b""]
)
def test_what_is_damaged_is_made_again(damage: Callable[[bytes], bytes], folder: Path) -> None:
    maker = Maker()
    get(FeatureCache(folder), "a", maker)
    path = folder / "features-a.npy"
    path.write_bytes(damage(path.read_bytes()))
    assert (get(FeatureCache(folder), "a", maker).values == 1).all()
    assert maker.asked == 2
    assert FeatureCache(folder).find("a", ArrayForm((5, 5), "<f4")) is None


def test_the_least_recently_used_file_goes_first(folder: Path) -> None:
    cache = FeatureCache(folder, limit_bytes=3 * FILE_BYTES)
    for age, name in enumerate("abc"):
        get(cache, name, Maker())
        os.utime(folder / f"features-{name}.npy", (age, age))
    get(cache, "a", Maker())  # used again
    get(cache, "d", Maker())
    assert files(folder) == ["features-a.npy", "features-c.npy", "features-d.npy"]
    assert (get(cache, "b", Maker()).values == 1).all()  # still open to those who have it


@pytest.mark.parametrize("limit_bytes", [0, 100])
def test_without_room_on_disk_arrays_are_in_memory(limit_bytes: int, folder: Path) -> None:
    maker = Maker()
    cache = FeatureCache(folder, limit_bytes=limit_bytes)
    for _ in range(2):
        assert get(cache, "a", maker).memory_bytes == 200
    assert maker.asked == 1
    assert files(folder) == []


def test_memory_has_a_limit_too() -> None:
    maker = Maker()
    cache = FeatureCache(memory_bytes=500)
    for name in ("a", "b", "a", "c", "a", "b"):
        get(cache, name, maker)
    assert maker.asked == 4
    small = FeatureCache(memory_bytes=100)
    assert small.make({"a": FORM}, maker, what="x")["a"].memory_bytes == 200
    assert small.find("a", FORM) is None


def test_arrays_that_do_not_fit_together_go_both_ways(folder: Path) -> None:
    cache = FeatureCache(folder, limit_bytes=300)
    made = cache.make({"a": FORM, "b": FORM}, Maker(), what="x")
    assert {name: kept.memory_bytes for name, kept in made.items()} == {"a": 0, "b": 200}
    assert files(folder) == ["features-a.npy"]


def test_a_full_disk_or_a_folder_that_cannot_be_written_fails_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").write_text("")
    blocked = FeatureCache(folder / "file" / "below")
    with blocked.locked("a"):
        assert (get(blocked, "a", Maker()).values == 1).all()
    maker = Maker()

    def full(self: array_files.ArrayWriter, notes: Mapping[str, object]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(array_files.ArrayWriter, "finish", full)
    assert get(FeatureCache(folder), "a", maker).memory_bytes == 200
    assert maker.asked == 2
    assert files(folder) == ["file"]


KILLED = """
import sys
from pathlib import Path
import time
import numpy as np
from repnet_search.data.array_files import ArrayForm
from repnet_search.training.cache import FeatureCache

cache = FeatureCache(Path(sys.argv[1]))

def fill(sinks):
    sinks["a"].append(np.zeros((2, 5), dtype=np.float32))
    print("writing", flush=True)
    time.sleep(60)

with cache.locked("set"):
    cache.make({"a": ArrayForm((10, 5), "<f4")}, fill, what="x")
"""


def test_a_killed_writer_leaves_no_array_and_blocks_nobody(folder: Path) -> None:
    pytest.importorskip("fcntl")
    command = [sys.executable, "-c", KILLED, str(folder)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        writer.send_signal(signal.SIGKILL)
    assert not list(folder.glob("features-*.npy"))
    (left,) = folder.glob(".features-a.npy.*")
    then = time.time() - 600
    os.utime(left, (then, then))
    cache = FeatureCache(folder)
    with cache.locked("set"):
        assert (get(cache, "a", Maker()).values == 1).all()
    assert files(folder) == ["features-a.npy"]  # and what was begun is gone, although it is young


def test_a_file_that_is_being_written_is_left_alone(folder: Path) -> None:
    pytest.importorskip("fcntl")
    cache = FeatureCache(folder)

    def fill(sinks: Mapping[str, RowSink]) -> None:
        (begun,) = folder.glob(".features-a.npy.*")
        os.utime(begun, (time.time() - 600, time.time() - 600))
        get(FeatureCache(folder), "b", Maker(2.0))
        Maker()(sinks)

    assert (cache.make({"a": FORM}, fill, what="x")["a"].values == 1).all()
    assert files(folder) == ["features-a.npy", "features-b.npy"]


def test_values_are_gathered_from_the_mapped_file(folder: Path) -> None:
    kept = get(FeatureCache(folder), "a", Maker(2.0))
    assert torch.equal(kept.values.index_select(0, torch.tensor([9, 0])), torch.full((2, 5), 2.0))
