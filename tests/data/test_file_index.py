"""What is known of files: kept while they do not change, and never trusted where they might have."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from repnet_search.data import ImageFolders, file_index
from repnet_search.data.decode import BrokenImageError
from repnet_search.data.decoded_cache import DecodedCache
from repnet_search.data.file_index import FileIndex, UnreadableFileError, hash_file
from tests.data.conftest import write_image

Reads = list[str]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Returns a list that notes each file whose header or content is read."""
    noted: Reads = []

    def note(function: Callable[[str], object]) -> Callable[[str], object]:
        def call(path: str) -> object:
            noted.append(path)
            return function(path)

        return call

    monkeypatch.setattr(file_index, "check_image", note(file_index.check_image))
    monkeypatch.setattr(file_index, "hash_file", note(hash_file))
    return noted


def _age(path: Path) -> str:
    """Returns the path of a file that was last written a minute ago."""
    status = path.stat()
    os.utime(path, (status.st_mtime - 60, status.st_mtime - 60))
    return str(path)


def _learn(root: Path, folder: Path | None, path: str) -> tuple[object, str]:
    index = FileIndex(root, folder=folder)
    found = index.check(path), index.digests([path])[0]
    index.save()
    return found


def test_an_unchanged_file_is_read_once(tmp_path: Path, reads: Reads) -> None:
    path = _age(write_image(tmp_path / "data" / "a.png", size=(9, 5)))
    first = _learn(tmp_path / "data", tmp_path / "cache", path)
    assert first[1] == hash_file(path)
    count = len(reads)
    assert _learn(tmp_path / "data", tmp_path / "cache", path) == first
    assert len(reads) == count


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = _age(write_image(tmp_path / "a.png", value=1))
    first = _learn(tmp_path, tmp_path / "cache", path)
    _age(write_image(tmp_path / "a.png", value=2))
    assert _learn(tmp_path, tmp_path / "cache", path) != first


def test_a_file_just_written_is_not_noted(tmp_path: Path, reads: Reads) -> None:
    path = str(write_image(tmp_path / "a.png"))
    _learn(tmp_path, tmp_path / "cache", path)
    _learn(tmp_path, tmp_path / "cache", path)
    assert reads == [path] * 4


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}', b'{"format": 0, "files": {}}'])
def test_a_damaged_or_foreign_index_is_made_again(tmp_path: Path, content: bytes) -> None:
    path = _age(write_image(tmp_path / "data" / "a.png"))
    first = _learn(tmp_path / "data", tmp_path / "cache", path)
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(content)
    assert _learn(tmp_path / "data", tmp_path / "cache", path) == first
    assert json.loads(kept.read_bytes())["files"]


@pytest.mark.parametrize("entry", [{}, 3, {"stamp": [1, 2, 3, 4], "facts": [1]}, {"stamp": [], "sha256": "x"}])
def test_an_entry_that_is_none_is_ignored(tmp_path: Path, entry: object) -> None:
    path = _age(write_image(tmp_path / "data" / "a.png"))
    first = _learn(tmp_path / "data", tmp_path / "cache", path)
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_text(json.dumps({"format": 1, "files": {"a.png": entry}}))
    assert _learn(tmp_path / "data", tmp_path / "cache", path) == first


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    path = _age(write_image(tmp_path / "data" / "a.png"))
    _learn(tmp_path / "data", None, path)
    (tmp_path / "file").write_text("")
    _learn(tmp_path / "data", tmp_path / "file", path)
    assert {entry.name for entry in tmp_path.iterdir()} == {"data", "file"}


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    index = FileIndex(tmp_path, folder=None)
    with pytest.raises(UnreadableFileError, match="cannot be read") as caught:
        index.digests([str(tmp_path / "gone.png")])
    assert caught.value.path == str(tmp_path / "gone.png")
    with pytest.raises(BrokenImageError, match="cannot be read"):
        index.check(str(tmp_path / "gone.png"))


def test_a_folder_is_scanned_without_reading_it_again(
    flowers: Path, reads: Reads, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for path in flowers.rglob("*.png"):
        _age(path)
    cache = DecodedCache(tmp_path_factory.mktemp("cache"), limit_bytes=10**6)
    first = ImageFolders(flowers, cache=cache).sha256()
    count = len(reads)
    assert ImageFolders(flowers, cache=cache).sha256() == first
    assert len(reads) == count
