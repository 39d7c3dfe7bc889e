"""Where a bundle may go: never over anything but a bundle, and known before the work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from repnet_search.errors import RepnetSearchError
from repnet_search.export.place import hold_place

MARK = json.dumps({"format": 2, "written_by": "repnet-search 0.1.0", "files": {}})


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "above" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)


def old_bundle(name: str = "out") -> Path:
    folder = Path(name)
    folder.mkdir()
    (folder / "manifest.json").write_text(MARK)
    return folder


def write(folder: Path, *, force: bool = True) -> None:
    with hold_place(folder, force=force) as place:
        (place.draft / "manifest.json").write_text("new")
        place.finish()


def refusal(folder: Path, *, force: bool = True) -> str:
    """Returns why a folder is refused, after making sure that nothing has changed."""
    before = sorted(str(path) for path in Path("..").rglob("*"))
    with pytest.raises(RepnetSearchError) as caught:
        write(folder, force=force)
    assert sorted(str(path) for path in Path("..").rglob("*")) == before
    return str(caught.value)


def test_a_bundle_is_replaced_and_nothing_is_left_over() -> None:
    folder = old_bundle()
    assert "replace it with --force" in refusal(folder, force=False)
    write(folder)
    assert (folder / "manifest.json").read_text() == "new"
    assert list(Path().iterdir()) == [folder]
    (folder / "__pycache__").mkdir()
    (folder / "manifest.json").write_text(MARK)
    write(folder)
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]
    write(Path("deep/new"), force=False)
    assert Path("deep/new/manifest.json").exists()


@pytest.mark.parametrize("name", [".", "..", "../..", "../../above", "sub/..", "/"])
def test_the_current_folder_and_what_holds_it_are_never_replaced(name: str) -> None:
    Path("sub").mkdir()
    Path("manifest.json").write_text(MARK)
    assert "is the current folder or holds it" in refusal(Path(name))


def test_what_is_no_bundle_is_never_replaced() -> None:
    mine = Path("mine")
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    assert "mine is none" in refusal(mine)
    (mine / "manifest.json").write_text('{"name": "a web page"}')
    assert "mine is none" in refusal(mine)
    (mine / "manifest.json").write_text(MARK)
    assert "mine also holds thesis.txt, which would be lost" in refusal(mine)
    assert "mine/thesis.txt is a file" in refusal(mine / "thesis.txt")
    Path("link").symlink_to(old_bundle())
    assert "link is a link" in refusal(Path("link"))
    Path("dangling").symlink_to("nowhere")
    assert "dangling is a link" in refusal(Path("dangling"))


def test_a_folder_that_cannot_be_written_is_refused_at_once() -> None:
    Path("file").write_text("")
    assert "file/out cannot be written" in refusal(Path("file/out"))


def test_work_that_fails_leaves_the_old_bundle_and_no_other_trace() -> None:
    folder = old_bundle()
    for to in (folder, Path("deep/new")):
        with pytest.raises(KeyboardInterrupt), hold_place(to, force=True):
            raise KeyboardInterrupt
    assert list(Path().iterdir()) == [folder]
    assert (folder / "manifest.json").read_text() == MARK


def test_a_bundle_that_cannot_be_moved_in_leaves_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, real = old_bundle(), Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="No space left"):
        write(folder)
    assert list(Path().iterdir()) == [folder]
    assert (folder / "manifest.json").read_text() == MARK


def test_what_came_there_meanwhile_is_not_replaced() -> None:
    with hold_place(Path("out"), force=False) as place:
        Path("out").mkdir()
        Path("out/mine").touch()
        with pytest.raises(RepnetSearchError, match="exists already"):
            place.finish()
    assert [path.name for path in Path("out").iterdir()] == ["mine"]


def test_an_empty_folder_is_taken_without_force() -> None:
    Path("out").mkdir()
    write(Path("out"), force=False)
    assert [path.name for path in Path("out").iterdir()] == ["manifest.json"]
    assert [path.name for path in Path().iterdir()] == ["out"]


def test_a_bundle_of_format_1_is_replaced() -> None:
    folder = Path("out")
    folder.mkdir()
    (folder / "bundle.json").write_text(json.dumps({"format": 1, "design_id": "a", "labels": ["0"]}))
    (folder / "README.md").write_text("")
    write(folder)
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]
