"""Every folder that cannot be used, and the sentence it gets, before anything is decoded."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from repnet_search.data import ImageFolders, Split
from repnet_search.errors import DataError

MakeClass = Callable[..., Path]


def _refused(path: Path) -> str:
    """Returns the sentence with which the folder is refused."""
    with pytest.raises(DataError) as caught:
        ImageFolders(path)
    message = str(caught.value)
    assert message.endswith((".", "?"))
    assert "\n" not in message
    return message


def test_a_missing_folder_is_named_with_its_neighbour(flowers: Path) -> None:
    message = _refused(flowers / "tulips")
    assert f"must be in a folder, but '{flowers / 'tulips'}' does not exist; give a folder" in message
    assert message.endswith("Did you mean 'tulip'?")


def test_a_folder_missing_in_a_missing_folder_has_no_neighbour(tmp_path: Path) -> None:
    assert "does not exist" in _refused(tmp_path / "no" / "where")


def test_a_file_is_not_a_folder(flowers: Path) -> None:
    assert f"'{flowers / 'rose' / '000.png'}' is a file" in _refused(flowers / "rose" / "000.png")


def test_an_empty_folder(tmp_path: Path) -> None:
    assert f"Each class needs a folder of its own, but '{tmp_path}' holds no images" in _refused(tmp_path)


def test_images_without_class_folders(flowers: Path) -> None:
    assert "holds images but no class folders; give a folder with" in _refused(flowers / "rose")


def test_one_class(tmp_path: Path, make_class: MakeClass) -> None:
    make_class("rose", count=5)
    message = _refused(tmp_path)
    assert f"needs at least two classes, but '{tmp_path}' holds one folder, 'rose'; add a folder for" in message


def test_one_class_that_holds_the_classes(tmp_path: Path, make_class: MakeClass) -> None:
    make_class("flowers/rose", count=5)
    make_class("flowers/tulip", count=5)
    assert f"give '{tmp_path / 'flowers'}' if its folders are the classes" in _refused(tmp_path)


def test_a_class_without_images(flowers: Path) -> None:
    (flowers / "lily").mkdir()
    assert f"Every class needs images, but '{flowers / 'lily'}' holds none that can be used" in _refused(flowers)


@pytest.mark.parametrize(("has", "lacks"), [("train", "test"), ("test", "train"), ("train", "val"), ("val", "train")])
def test_a_class_in_one_split_alone(tmp_path: Path, make_class: MakeClass, has: str, lacks: str) -> None:
    for split in ("train", "val", "test"):
        for name in ("a", "b", "c"):
            make_class(f"{split}/{name}", count=1)
    make_class(f"{has}/lily", count=1)
    others = {"train", "val", "test"} - {has, lacks}
    for split in others:
        make_class(f"{split}/lily", count=1)
    if has != "train":
        for split in others:
            (tmp_path / split / "lily" / "000.png").unlink()
            (tmp_path / split / "lily").rmdir()
    message = _refused(tmp_path)
    assert f"same classes, but {has}/ has class 'lily' and {lacks}/ lacks it; add its images to {lacks}/" in message


def test_a_class_whose_test_folder_is_empty(tmp_path: Path, make_class: MakeClass) -> None:
    for folder in ("train/a", "train/b", "test/a"):
        make_class(folder, count=3)
    (tmp_path / "test" / "b").mkdir()
    assert f"'{tmp_path / 'test' / 'b'}' holds none" in _refused(tmp_path)


def test_too_few_images_for_three_splits(flowers: Path, make_class: MakeClass) -> None:
    make_class("lily", count=2)
    message = _refused(flowers)
    assert "at least 3 images, one each to train, validate and test, but 'lily' has 2; add images" in message


def test_too_few_images_for_two_splits(tmp_path: Path, make_class: MakeClass) -> None:
    for folder, count in (("train/a", 2), ("train/b", 1), ("test/a", 1), ("test/b", 1)):
        make_class(folder, count=count)
    assert "at least 2 images, one each to train and validate, but 'b' has 1" in _refused(tmp_path)


def test_too_many_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repnet_search.data.scan.MAX_CLASSES", 30)
    for index in range(31):
        (tmp_path / str(index)).mkdir()
    assert f"At most 30 classes can be trained, but '{tmp_path}' holds 31 folders" in _refused(tmp_path)


def test_a_class_whose_name_is_not_utf8(flowers: Path) -> None:
    try:
        os.mkdir(os.fsencode(flowers) + b"/\xff")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    assert rf"must be UTF-8, but '{flowers}/\xff' is not; rename that folder." in _refused(flowers)


def test_splits_of_other_names_are_not_taken_for_classes(tmp_path: Path, make_class: MakeClass) -> None:
    for split in ("Training", "Testing"):
        make_class(f"{split}/a", count=5)
    message = _refused(tmp_path)
    assert "must be named train, val and test" in message
    assert "holds 'Testing', 'Training', which would be read as classes; rename" in message


def test_a_strange_folder_beside_train(tmp_path: Path, make_class: MakeClass) -> None:
    make_class("train/a", count=3)
    make_class("train/b", count=3)
    (tmp_path / "labels").mkdir()
    message = _refused(tmp_path)
    assert f"Beside train/ only val/ and test/ may stand, but '{tmp_path}' also holds 'labels'; move it" in message


def test_two_folders_for_one_split(tmp_path: Path, make_class: MakeClass) -> None:
    for split in ("train", "val", "valid"):
        make_class(f"{split}/a", count=3)
    assert f"A split has one folder, but '{tmp_path}' holds 'val' and 'valid'; keep one" in _refused(tmp_path)


def _spoil(folder: Path, *, kind: str) -> str:
    """Returns the reason that is expected for the file it writes as rose/x.*."""
    if kind == "zero":
        (folder / "rose" / "x.jpg").write_bytes(b"")
        return "rose/x.jpg' is empty (0 bytes)"
    if kind == "text":
        (folder / "rose" / "x.txt").write_text("notes")
        return "rose/x.txt' is no image file (bmp, gif, jpeg, jpg, pgm, png, ppm, tif, tiff, webp)"
    if kind == "page":
        (folder / "rose" / "x.jpg").write_text("<html>404</html>")
        return "rose/x.jpg' is not an image that can be read"
    if kind == "cut":
        (folder / "rose" / "x.png").write_bytes((folder / "rose" / "000.png").read_bytes()[:20])
        return "rose/x.png' is not an image that can be read"
    if kind == "float":
        Image.new("F", (4, 4)).save(folder / "rose" / "x.tif")
        return "rose/x.tif' has floating-point pixels"
    if kind == "link":
        (folder / "rose" / "x.png").symlink_to("x.png")
        return "rose/x.png' is a link in a circle"
    if kind == "loop":
        (folder / "rose" / "x.y").symlink_to("x.y")
        return "rose/x.y' is a link in a circle"
    if kind == "pipe":
        os.mkfifo(folder / "rose" / "x.png")
        return "rose/x.png' is not a regular file"
    (folder / "x.png").write_bytes((folder / "rose" / "000.png").read_bytes())
    return "x.png' lies in no class's folder"


KINDS = ["zero", "text", "page", "cut", "float", "link", "loop", "pipe", "loose"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_cannot_be_used_is_named(flowers: Path, kind: str) -> None:
    reason = _spoil(flowers, kind=kind)
    message = _refused(flowers)
    assert message.startswith(f"Class folders must hold readable images alone, but '{flowers}/{reason}")
    assert message.endswith("; repair it or move it away, or leave such files out with --skip-broken.")


@pytest.mark.parametrize("kind", KINDS)
def test_skip_broken_leaves_it_out_and_notes_it(flowers: Path, kind: str) -> None:
    before = ImageFolders(flowers).sha256()
    _spoil(flowers, kind=kind)
    source = ImageFolders(flowers, skip_broken=True)
    assert len(source.skipped) == 1
    assert re.fullmatch(r"(rose/)?x\.\w+", source.skipped[0])
    assert source.sha256() == before
    assert sum(source.count(split) for split in Split) == 60


def test_several_such_files_are_counted_and_the_first_is_named(flowers: Path) -> None:
    for name in ("b.png", "a.png", "c.png"):
        (flowers / "rose" / name).write_bytes(b"")
    assert "rose/a.png' is empty (0 bytes) (as are 2 more files); repair" in _refused(flowers)


def test_skip_broken_leaves_no_class_empty(flowers: Path, make_class: MakeClass) -> None:
    for path in make_class("lily", count=3).iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="lily' holds none that can be used"):
        ImageFolders(flowers, skip_broken=True)


def test_a_folder_that_cannot_be_read(flowers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def deny(path: str | Path) -> object:
        if str(path).endswith("rose"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", deny)
    message = _refused(flowers)
    assert f"must be readable, but '{flowers / 'rose'}' is not (Permission denied); change its" in message
