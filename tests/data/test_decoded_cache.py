"""Decoded images on disk: whole or made again, shared, within a limit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from repnet_search.data import ImageFolders, Split, decoded_cache, stored
from repnet_search.data.decoded_cache import Decoded, DecodedCache, Pixels
from repnet_search.errors import DataError
from tests.data.conftest import write_image

MakeClass = Callable[..., Path]
KEY = "0" * 64


class Decoder:
    """Decodes row n as pixels of n, except for the broken ones, and notes what it was asked for."""

    def __init__(self, *, broken: tuple[int, ...] = ()) -> None:
        self.asked: list[tuple[int, int]] = []
        self.broken = broken

    def __call__(self, start: int, stop: int) -> tuple[Pixels, dict[int, str]]:
        self.asked.append((start, stop))
        rows = [row for row in range(start, stop) if row not in self.broken]
        pixels = np.repeat(np.array(rows, dtype=np.uint8), 3 * 4 * 4).reshape(-1, 3, 4, 4)
        return pixels, {row: "is broken" for row in range(start, stop) if row in self.broken}


def _get(
    folder: Path, decoder: Decoder, *, limit_bytes: int = 10**6, key: str = KEY, count: int = 50
) -> Decoded | None:
    return DecodedCache(folder, limit_bytes=limit_bytes).get(key, count=count, resolution=4, decode=decoder)


def _rows(decoded: Decoded | None) -> list[int]:
    assert decoded is not None
    return [int(value) for value in decoded.pixels[:, 0, 0, 0]]


def test_images_are_decoded_once_and_mapped(tmp_path: Path) -> None:
    decoder = Decoder()
    assert _rows(_get(tmp_path, decoder)) == list(range(50))
    again = _get(tmp_path, decoder)
    assert decoder.asked == [(0, 50)]
    assert _rows(again) == list(range(50))
    assert again is not None
    assert isinstance(again.pixels, np.memmap)
    (file,) = tmp_path.iterdir()
    assert np.array_equal(np.load(file, mmap_mode="r"), again.pixels)  # any program can read it


def test_large_sets_are_decoded_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded_cache, "CHUNK_BYTES", 48 * 20)
    decoder = Decoder(broken=(3, 45))
    decoded = _get(tmp_path, decoder)
    assert decoder.asked == [(0, 20), (20, 40), (40, 50)]
    assert _rows(decoded) == [row for row in range(50) if row not in (3, 45)]
    assert _rows(_get(tmp_path, decoder)) == _rows(decoded)
    assert decoded is not None
    assert decoded.broken == {3: "is broken", 45: "is broken"}


@pytest.mark.parametrize("place", [0, 8, 40, 300, 2000, -3])
def test_a_damaged_file_is_made_again(tmp_path: Path, place: int) -> None:
    decoder = Decoder()
    _get(tmp_path, decoder)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[place] ^= 0x5A
    file.write_bytes(content)
    assert _rows(_get(tmp_path, decoder)) == list(range(50))
    assert len(decoder.asked) == 2


@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"\x93NUMPY"])
def test_a_foreign_file_is_made_again(tmp_path: Path, content: bytes) -> None:
    decoder = Decoder()
    _get(tmp_path, decoder)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(content or whole[:1000])
    assert _rows(_get(tmp_path, decoder)) == list(range(50))
    np.save(file, np.zeros((50, 3, 4, 4), dtype=np.uint8))
    assert _rows(_get(tmp_path, decoder)) == list(range(50))


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(start: int, stop: int) -> tuple[Pixels, dict[int, str]]:
        raise DataError("no")

    with pytest.raises(DataError):
        DecodedCache(tmp_path, limit_bytes=10**6).get(KEY, count=5, resolution=4, decode=fail)
    assert list(tmp_path.iterdir()) == []


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    for index in range(3):
        _get(tmp_path, Decoder(), key=str(index) * 64)
        os.utime(next(tmp_path.glob(f"decoded-{index}*")), (index, index))
    _get(tmp_path, Decoder(), key="0" * 64)  # used again
    _get(tmp_path, Decoder(), key="3" * 64, limit_bytes=9000)
    assert sorted(file.name[8] for file in tmp_path.iterdir()) == ["0", "2", "3"]


def test_what_a_killed_process_left_is_cleared_away_after_a_day(tmp_path: Path) -> None:
    for name, age_seconds in (("old", 2 * 86_400), ("young", 60)):
        path = tmp_path / f".decoded-x.npy.{name}"
        path.write_bytes(b"x")
        then = path.stat().st_mtime - age_seconds
        os.utime(path, (then, then))
    _get(tmp_path, Decoder())
    assert [file.name for file in tmp_path.glob(".decoded-*")] == [".decoded-x.npy.young"]


def test_nothing_is_kept_beyond_the_limit_without_one_or_where_nothing_can_be_written(tmp_path: Path) -> None:
    assert _get(tmp_path, Decoder(), limit_bytes=100) is None
    assert _get(tmp_path, Decoder(), limit_bytes=0) is None
    assert _get(tmp_path, Decoder(), count=0) is None
    (tmp_path / "file").write_text("")
    assert _get(tmp_path / "file" / "below", Decoder()) is None
    assert DecodedCache(None, limit_bytes=10**6).get(KEY, count=5, resolution=4, decode=Decoder()) is None
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


# Processes of their own: a test of the app may have left a foreign __main__ in this one, which `spawn` would run again.
COUNT_DECODED = """
import sys
from pathlib import Path
from repnet_search.data import ImageFolders, Split, stored
from repnet_search.data.decoded_cache import DecodedCache

decoded = []
whole = stored.StoredImages._decode

def count(self, items, *rest, **more):
    decoded.append(len(items))
    return whole(self, items, *rest, **more)

stored.StoredImages._decode = count
source = ImageFolders(Path(sys.argv[1]), cache=DecodedCache(Path(sys.argv[2]), limit_bytes=10**7))
source.load(Split.TRAIN, resolution=32)
print(sum(decoded))
"""


def test_processes_at_the_same_time_decode_once(flowers: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("fcntl")
    cache = tmp_path_factory.mktemp("cache")
    command = [sys.executable, "-c", COUNT_DECODED, str(flowers), str(cache)]
    root = Path(__file__).parents[2]
    workers = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    counts = sorted(int(worker.communicate(timeout=100)[0]) for worker in workers)
    assert counts == [0, 0, ImageFolders(flowers).count(Split.TRAIN)]


def test_a_source_gives_the_same_with_and_without_a_cache(
    flowers: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = DecodedCache(tmp_path_factory.mktemp("cache"), limit_bytes=10**7)
    plain = ImageFolders(flowers, cache=DecodedCache(None, limit_bytes=0))
    first = ImageFolders(flowers, cache=cache)
    expected = {split: plain.load(split, resolution=16) for split in Split}
    for split in Split:
        assert torch.equal(first.load(split, resolution=16).images, expected[split].images)
    monkeypatch.setattr(stored.StoredImages, "_decode", None)  # nothing is decoded any more
    again = ImageFolders(flowers, cache=cache)
    for split in Split:
        loaded = again.load(split, resolution=16)
        assert torch.equal(loaded.images, expected[split].images)
        assert torch.equal(loaded.labels, expected[split].labels)
        parts = list(again.batches(split, resolution=16, batch=7))
        assert torch.equal(torch.cat([part.images for part in parts]), expected[split].images)


def test_a_changed_image_is_decoded_again(flowers: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    cache = DecodedCache(tmp_path_factory.mktemp("cache"), limit_bytes=10**7)
    source = ImageFolders(flowers, cache=cache)
    before = source.load(Split.TRAIN, resolution=8).images
    write_image(Path(source.store.place(source.items(Split.TRAIN)[0].row)), value=200)
    after = ImageFolders(flowers, cache=cache).load(Split.TRAIN, resolution=8).images
    assert int(after[0, 0, 0, 0]) == 200
    assert torch.equal(after[1:], before[1:])


def test_broken_images_are_remembered_and_still_refused_without_skip_broken(
    flowers: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = DecodedCache(tmp_path_factory.mktemp("cache"), limit_bytes=10**7)
    source = ImageFolders(flowers, skip_broken=True, cache=cache)
    victim = Path(source.store.place(source.items(Split.TRAIN)[2].row))
    victim.write_bytes(write_image(flowers / "x.png", size=(64, 64)).read_bytes()[:70])
    (flowers / "x.png").unlink()
    for _ in range(2):
        skipping = ImageFolders(flowers, skip_broken=True, cache=cache)
        loaded = skipping.load(Split.TRAIN, resolution=8)
        assert len(loaded) == source.count(Split.TRAIN) - 1 == skipping.count(Split.TRAIN)
        assert skipping.skipped == (f"{victim.parent.name}/{victim.name}",)
        assert sum(skipping.class_counts(Split.TRAIN)) == len(loaded)
    with pytest.raises(DataError, match=f"'{victim}' cannot be decoded"):
        ImageFolders(flowers, cache=cache).load(Split.TRAIN, resolution=8)


def test_images_that_fit_neither_memory_nor_cache_are_refused(flowers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "free_memory_bytes", lambda: 1000)
    source = ImageFolders(flowers, cache=DecodedCache(None, limit_bytes=0))
    with pytest.raises(
        DataError, match=r"must fit into memory or --data-cache, but \d+ of 16 px need .* --proxy-images"
    ):
        source.load(Split.TRAIN, resolution=16)
    assert len(list(source.batches(Split.TEST, resolution=16, batch=4))) > 1  # read piece by piece all the same
