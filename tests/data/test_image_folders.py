"""A user's folders: splits, proxies, loading and identity."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from repnet_search.data import DataSource, ImageFolders, Split, create_source
from repnet_search.errors import DataError

MakeClass = Callable[..., Path]


def _names(source: ImageFolders, split: Split) -> set[tuple[int, str]]:
    """Returns label and name of each file in a split."""
    return {(item.label, item.name) for item in source.items(split)}


def _paths(source: ImageFolders, split: Split) -> list[Path]:
    """Returns where the files of a split lie, in their order."""
    return [Path(source.store.place(item.row)) for item in source.items(split)]


def _truncate(path: Path) -> None:
    """Leaves the header of a larger noisy image and cuts its data."""
    Image.effect_noise((64, 64), 80).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:2000])


def test_create_source_gives_the_folder(flowers: Path) -> None:
    source: DataSource = create_source(flowers)
    assert source.name == flowers.name
    assert source.classes == ("daisy", "rose", "tulip")
    assert source.skipped == ()


def test_the_name_of_the_current_folder_is_its_own(flowers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(flowers)
    assert ImageFolders(Path(".")).name == flowers.name


def test_flat_folders_are_split_three_ways(flowers: Path) -> None:
    source = ImageFolders(flowers)
    sets = [_names(source, split) for split in Split]
    assert sum(len(names) for names in sets) == len(set().union(*sets)) == 60
    for split in Split:
        assert {label for label, _ in _names(source, split)} == {0, 1, 2}
        assert source.count(split) == len(_names(source, split))


def test_splits_depend_on_names_alone(flowers: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = shutil.copytree(flowers, tmp_path_factory.mktemp("elsewhere") / "copy")
    for split in Split:
        assert _names(ImageFolders(flowers), split) == _names(ImageFolders(other), split)


def test_adding_files_moves_no_other(flowers: Path) -> None:
    before = ImageFolders(flowers)
    for index in range(100, 140):
        shutil.copy(flowers / "tulip" / "000.png", flowers / "tulip" / f"{index}.png")
    after = ImageFolders(flowers)
    for split in Split:
        assert _names(before, split) <= _names(after, split)


def _make_splits(make_class: MakeClass, *splits: str, count: int = 20) -> None:
    """Writes two classes into each split's folder."""
    for split in splits:
        for name in ("a", "b"):
            make_class(f"{split}/{name}", count=count)


def test_train_alone_is_split_three_ways(tmp_path: Path, make_class: MakeClass) -> None:
    _make_splits(make_class, "train")
    source = ImageFolders(tmp_path)
    assert source.classes == ("a", "b")
    assert sum(source.count(split) for split in Split) == 40
    assert all(source.count(split) > 0 for split in Split)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test", "Test", "VAL"])
def test_one_folder_beside_train_is_the_test_set(tmp_path: Path, make_class: MakeClass, name: str) -> None:
    _make_splits(make_class, "train", name)
    source = ImageFolders(tmp_path)
    assert source.count(Split.TEST) == 40
    assert all(f"/{name}/" in str(path) for path in _paths(source, Split.TEST))
    assert source.count(Split.TRAIN) + source.count(Split.VALIDATION) == 40
    assert source.count(Split.VALIDATION) >= 2


def test_train_val_and_test_are_taken_as_they_are(tmp_path: Path, make_class: MakeClass) -> None:
    _make_splits(make_class, "train", "val", "test", count=1)
    source = ImageFolders(tmp_path)
    assert [source.count(split) for split in Split] == [2, 2, 2]
    assert "/val/" in str(_paths(source, Split.VALIDATION)[0])


def test_train_can_be_the_name_of_a_class(tmp_path: Path, make_class: MakeClass) -> None:
    for name in ("bus", "car", "train"):
        make_class(name, count=5)
    assert ImageFolders(tmp_path).classes == ("bus", "car", "train")


def test_endings_in_capitals_deeper_folders_and_any_letters_are_found(tmp_path: Path, make_class: MakeClass) -> None:
    make_class("Blüten/日本/深い", count=3, suffix=".PNG")
    make_class("a b", count=3, suffix=".JPeG")
    source = ImageFolders(tmp_path)
    assert source.classes == ("Blüten", "a b")  # sorted by code point, the same in every locale
    assert "日本/深い/000.PNG" in {name for split in Split for _, name in _names(source, split)}
    assert len(source.load(Split.TRAIN, resolution=8)) == 2


def test_names_that_are_not_utf8_work(tmp_path: Path, make_class: MakeClass) -> None:
    make_class("a", count=3)
    make_class("b", count=3)
    odd = (tmp_path / "a").as_posix().encode() + b"/\xff\xfe.png"
    try:
        Path(odd.decode("utf-8", "surrogateescape")).write_bytes((tmp_path / "a" / "000.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    source = ImageFolders(tmp_path)
    assert sum(source.count(split) for split in Split) == 7
    assert source.sha256()


def test_hidden_files_and_what_systems_leave_behind_are_ignored(flowers: Path) -> None:
    before = ImageFolders(flowers).sha256()
    (flowers / ".git").mkdir()
    (flowers / "__MACOSX" / "rose").mkdir(parents=True)
    for name in ("rose/.DS_Store", "rose/._000.png", "rose/Thumbs.db", "rose/desktop.ini", "__MACOSX/rose/._x.png"):
        (flowers / name).write_bytes(b"")
    (flowers / "README.txt").write_text("beside the classes, not among the images")
    assert ImageFolders(flowers).sha256() == before


def test_links_in_a_loop_end_and_count_each_image_once(flowers: Path) -> None:
    before = ImageFolders(flowers)
    (flowers / "rose" / "again").symlink_to(flowers / "rose", target_is_directory=True)
    (flowers / "rose" / "deep").mkdir()
    (flowers / "rose" / "deep" / "up").symlink_to("..", target_is_directory=True)
    after = ImageFolders(flowers)
    for split in Split:
        assert _names(before, split) == _names(after, split)


def test_a_linked_class_folder_is_read(flowers: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    target = shutil.move(flowers / "rose", tmp_path_factory.mktemp("disk") / "rose")
    (flowers / "rose").symlink_to(target, target_is_directory=True)
    assert ImageFolders(flowers).classes == ("daisy", "rose", "tulip")


def test_load_gives_each_image_its_label_and_keeps_the_set(flowers: Path) -> None:
    source = ImageFolders(flowers)
    loaded = source.load(Split.TRAIN, resolution=8)
    assert loaded.images.shape == (source.count(Split.TRAIN), 3, 8, 8)
    assert (loaded.images.dtype, loaded.labels.dtype) == (torch.uint8, torch.int64)
    for pixels, label, path in zip(loaded.images, loaded.labels, _paths(source, Split.TRAIN), strict=True):
        assert int(pixels[0, 0, 0]) == int(path.stem)  # the fixture writes each image's number as its red
        assert source.classes[int(label)] == path.parent.name
    assert source.load(Split.TRAIN, resolution=8) is loaded
    assert source.load(Split.TRAIN, resolution=16).images.shape[-1] == 16
    assert source.load(Split.TEST, resolution=8) is not source.load(Split.TEST, resolution=8)


def test_batches_stream_what_load_gives(flowers: Path) -> None:
    source = ImageFolders(flowers)
    parts = list(source.batches(Split.TEST, resolution=8, batch=5))
    assert all(len(part) == 5 for part in parts[:-1])
    whole = source.load(Split.TEST, resolution=8)
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)


def test_a_proxy_takes_as_many_as_asked_out_of_the_same_splits(tmp_path: Path, make_class: MakeClass) -> None:
    for name, count in (("a", 60), ("b", 120)):
        make_class(name, count=count)
    full, proxy, smaller = (ImageFolders(tmp_path, proxy_images=images) for images in (None, 60, 30))
    assert (proxy.count(Split.TRAIN), proxy.count(Split.VALIDATION)) == (48, 12)
    assert proxy.count(Split.TEST) == full.count(Split.TEST)
    for split in Split:
        assert _names(proxy, split) <= _names(full, split)
        assert _names(smaller, split) <= _names(proxy, split)
    by_class = torch.bincount(proxy.load(Split.TRAIN, resolution=8).labels)
    assert by_class.tolist() == pytest.approx([16, 32], abs=4)
    assert ImageFolders(tmp_path, proxy_images=10**6).sha256() == full.sha256()


def test_a_proxy_keeps_the_share_of_a_given_val_folder(tmp_path: Path, make_class: MakeClass) -> None:
    _make_splits(make_class, "train", "val", "test", count=20)
    source = ImageFolders(tmp_path, proxy_images=16)
    assert [source.count(split) for split in Split] == [8, 8, 40]


def test_a_proxy_too_small_is_refused(flowers: Path) -> None:
    with pytest.raises(DataError, match="at least 6 for 3 classes, but is 5"):
        ImageFolders(flowers, proxy_images=5)


def test_sha256_tells_content_label_and_split_but_not_place_or_test_set(
    flowers: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = ImageFolders(flowers)
    before = source.sha256()
    source.load(Split.TRAIN, resolution=8)
    assert source.sha256() == before
    assert ImageFolders(flowers, proxy_images=20).sha256() != before
    other = shutil.copytree(flowers, tmp_path_factory.mktemp("elsewhere") / "copy")
    assert ImageFolders(other).sha256() == before
    tested, trained = (source.items(split)[0] for split in (Split.TEST, Split.TRAIN))
    shutil.copy(flowers / "tulip" / "029.png", other / source.classes[tested.label] / tested.name)
    assert ImageFolders(other).sha256() == before
    shutil.copy(flowers / "tulip" / "029.png", other / source.classes[trained.label] / trained.name)
    assert ImageFolders(other).sha256() != before


def test_renaming_a_class_changes_the_sha256(flowers: Path) -> None:
    before = ImageFolders(flowers).sha256()
    (flowers / "rose").rename(flowers / "rosa")
    assert ImageFolders(flowers).sha256() != before


def test_sha256_of_a_file_that_went_away_names_it(flowers: Path) -> None:
    source = ImageFolders(flowers)
    gone = _paths(source, Split.TRAIN)[0]
    gone.unlink()
    with pytest.raises(DataError, match=rf"'{gone}' cannot be read \(No such file"):
        source.sha256()


def test_truncated_data_is_named_when_it_is_decoded(flowers: Path) -> None:
    victim = _paths(ImageFolders(flowers), Split.TRAIN)[3]
    _truncate(victim)
    source = ImageFolders(flowers)
    with pytest.raises(
        DataError, match=rf"must be readable, but '{victim}' cannot be decoded \(.*\); repair .* --skip-broken"
    ):
        source.load(Split.TRAIN, resolution=8)


def test_skip_broken_leaves_truncated_data_out(flowers: Path) -> None:
    names = {split: _paths(ImageFolders(flowers), split)[0] for split in Split}
    for path in names.values():
        _truncate(path)
    source = ImageFolders(flowers, skip_broken=True)
    counts, before = {split: source.count(split) for split in Split}, source.sha256()
    for split in (Split.TRAIN, Split.VALIDATION):
        loaded = source.load(split, resolution=8)
        assert len(loaded) == len(loaded.images) == source.count(split) == counts[split] - 1
    parts = list(source.batches(Split.TEST, resolution=8, batch=1))
    assert len(parts) == source.count(Split.TEST) == counts[Split.TEST] - 1
    assert source.skipped == tuple(sorted(f"{path.parent.name}/{path.name}" for path in names.values()))
    assert len(source.load(Split.TRAIN, resolution=16)) == counts[Split.TRAIN] - 1
    assert source.sha256() == before


def test_skip_broken_does_not_empty_a_class(tmp_path: Path, make_class: MakeClass) -> None:
    make_class("a", count=9)
    make_class("b", count=3)
    _truncate(next(path for path in _paths(ImageFolders(tmp_path), Split.VALIDATION) if path.parent.name == "b"))
    with pytest.raises(DataError, match=r"all validation images of 'b' in .* are broken; repair them or add others"):
        ImageFolders(tmp_path, skip_broken=True).load(Split.VALIDATION, resolution=8)
