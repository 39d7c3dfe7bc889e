"""Images and labels as arrays in an .npz file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from repnet_search.data import NpzImages, Split, npz_members
from repnet_search.data.decoded_cache import DecodedCache
from repnet_search.data.npz_members import list_members, load_member
from repnet_search.errors import DataError

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (60, 12, 10), dtype=np.uint8)
LABELS = np.repeat(np.arange(3), 20)


def _save(path: Path, *, compressed: bool = False, **arrays: Any) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def _open(path: Path, **arrays: Any) -> NpzImages:
    return NpzImages(_save(path / "set.npz", **arrays), cache=DecodedCache(None, limit_bytes=0))


def _refused(path: Path, **arrays: Any) -> str:
    with pytest.raises(DataError) as caught:
        _open(path, **arrays)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels"), ("data", "targets"), ("X", "Y")])
@pytest.mark.parametrize("compressed", [False, True])
def test_one_pair_of_arrays_is_split_as_a_folder_is(tmp_path: Path, names: tuple[str, str], compressed: bool) -> None:
    path = _save(tmp_path / "set.npz", compressed=compressed, **{names[0]: IMAGES, names[1]: LABELS})
    source = NpzImages(path, cache=DecodedCache(None, limit_bytes=0))
    assert (source.name, source.classes) == ("set.npz", ("0", "1", "2"))
    assert sum(source.count(split) for split in Split) == 60
    assert all(min(source.class_counts(split)) > 0 for split in Split)
    loaded = source.load(Split.TRAIN, resolution=10)
    for pixels, label, item in zip(loaded.images, loaded.labels, source.items(Split.TRAIN), strict=True):
        assert torch.equal(pixels[0], torch.from_numpy(IMAGES[item.row, 1:11]))
        assert int(label) == LABELS[item.row]


@pytest.mark.parametrize("name", ["{}_{}", "{1}_{0}"])
def test_splits_in_the_file_are_kept(tmp_path: Path, name: str) -> None:
    arrays = {}
    for split, count in (("train", 60), ("val", 6), ("test", 9)):
        arrays[name.format("images", split)] = IMAGES[:count]
        arrays[name.format("labels", split)] = LABELS[:count] if split == "train" else np.arange(count) % 3
    source = _open(tmp_path, **arrays)
    assert [source.count(split) for split in Split] == [60, 6, 9]
    assert source.store.place(source.items(Split.TEST)[0].row) == f"{name.format('images', 'test')}[0]"


def test_without_a_test_set_the_validation_set_is_it(tmp_path: Path) -> None:
    source = _open(tmp_path, x_train=IMAGES, y_train=LABELS, x_valid=IMAGES[:7], y_valid=LABELS[:7])
    assert source.count(Split.TEST) == 7
    assert source.count(Split.TRAIN) + source.count(Split.VALIDATION) == 60


@pytest.mark.parametrize("shape", [(60, 12, 10, 1), (60, 12, 10, 3), (60, 12, 10, 4), (60, 3, 12, 10), (60, 1, 12, 10)])
def test_channels_may_be_last_or_first(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = RANDOM.integers(0, 256, shape, dtype=np.uint8)
    source = _open(tmp_path, x=images, y=LABELS)
    loaded = source.load(Split.TRAIN, resolution=10)
    item = source.items(Split.TRAIN)[0]
    last = images if shape[3] <= 4 else images.transpose(0, 2, 3, 1)
    if last.shape[3] != 4:
        expected = np.broadcast_to(last[item.row, 1:11], (10, 10, 3)).transpose(2, 0, 1)
        assert np.array_equal(loaded.images[0].numpy(), expected)


def test_labels_may_be_columns_texts_or_have_gaps_and_names(tmp_path: Path) -> None:
    assert _open(tmp_path, x=IMAGES, y=LABELS[:, None]).classes == ("0", "1", "2")
    assert _open(tmp_path, x=IMAGES, y=LABELS * 50 - 2).classes == ("-2", "48", "98")
    assert _open(tmp_path, x=IMAGES, y=np.array(["b", "ä", "c"])[LABELS]).classes == ("b", "c", "ä")
    named = _open(tmp_path, x=IMAGES, y=LABELS * 2, classes=np.array(["null", "eins", "zwei", "drei", "vier"]))
    assert named.classes == ("null", "zwei", "vier")


def test_uncompressed_images_are_mapped_and_compressed_ones_must_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _save(tmp_path / "plain.npz", x=np.asfortranarray(IMAGES), y=LABELS)
    mapped = load_member(plain, list_members(plain)["x"])
    assert isinstance(mapped, np.memmap)
    assert np.array_equal(mapped, IMAGES)
    monkeypatch.setattr(npz_members, "free_memory_bytes", lambda: 10_000)
    packed = _save(tmp_path / "packed.npz", compressed=True, x=IMAGES, y=LABELS)
    with pytest.raises(DataError, match=r"'x' in .* has 7\.0 KiB and 9\.8 KiB are free; save it with np\.savez"):
        NpzImages(packed)


def test_the_hash_tells_pixels_and_labels_but_not_compression_or_the_test_set(tmp_path: Path) -> None:
    splits = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:5], "y_test": LABELS[:5]}
    before = _open(tmp_path, **splits).sha256()
    assert _open(tmp_path, compressed=True, **splits).sha256() == before
    assert _open(tmp_path, **splits | {"x_test": IMAGES[5:10]}).sha256() == before
    changed = IMAGES.copy()
    changed[3, 4, 5] ^= 1
    assert _open(tmp_path, **splits | {"x_train": changed}).sha256() != before
    assert _open(tmp_path, **splits | {"y_train": LABELS[::-1]}).sha256() != before


def test_the_search_counts_a_proxy(tmp_path: Path) -> None:
    source = NpzImages(_save(tmp_path / "set.npz", x=IMAGES, y=LABELS), proxy_images=20)
    assert source.count(Split.TRAIN) + source.count(Split.VALIDATION) == 20


OBJECTS = np.array([IMAGES[0], IMAGES[1, :5]], dtype=object)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"images": IMAGES}, "lacks labels to 'images' (it holds 'images'); give arrays 'images' and 'labels'"),
        ({"labels": LABELS}, "lacks images to 'labels'"),
        ({"a": IMAGES, "b": LABELS}, "lacks images (it holds 'a', 'b')"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES}, "lacks labels to 'x_test'"),
        ({"x_test": IMAGES, "y_test": LABELS}, "lacks training images to 'x_test'"),
        ({"x": IMAGES, "y": LABELS[:-1]}, "has 60 images and 'y' 59 labels; save both of the same length."),
        ({"x": OBJECTS, "y": LABELS[:2]}, "'x' in '{}' holds Python objects, which are never unpickled"),
        ({"x": IMAGES / 255, "y": LABELS}, "is float64; convert them, (255 * x).round().astype(np.uint8)"),
        ({"x": IMAGES.astype(np.int32), "y": LABELS}, "is int32; save np.uint8 values of 0 to 255."),
        ({"x": IMAGES[:, :, 0], "y": LABELS}, "has 60 12; reshape it."),
        ({"x": IMAGES.reshape(60, 12, 2, 5), "y": LABELS}, "has 60 12 2 5; reshape it."),
        ({"x": IMAGES[:0], "y": LABELS[:0]}, "has 0 12 10; reshape it."),
        ({"x": IMAGES, "y": np.eye(3)[LABELS]}, "has shape 60 3; where each row marks its class with a 1, save y.argm"),
        ({"x": IMAGES, "y": LABELS / 2}, "Labels must be integers or texts, one per image, but 'y' in '{}' is float64"),
        ({"x": IMAGES, "y": LABELS * 0}, "needs 2 to 10000 classes, but 'y' in '{}' has 1 different"),
        ({"x": IMAGES, "y": np.r_[0, LABELS[:-1] + 1]}, "'0' has 1; add images to it or leave it out."),
        ({"x": IMAGES, "y": LABELS, "classes": np.array(["a", "b"])}, "has 2 names and labels from 0 to 2"),
        ({"x": IMAGES, "y": LABELS, "classes": np.array(["a", "b", "a"])}, "one for each label"),
        (
            {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS + 1},
            "'y_test' in '{}' has the label 3, which 'y_train' lacks",
        ),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path: Path, arrays: dict[str, Any], sentence: str) -> None:
    assert sentence.replace("{}", str(tmp_path / "set.npz")) in _refused(tmp_path, **arrays)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file(tmp_path: Path, share: float) -> None:
    path = _save(tmp_path / "set.npz", x=IMAGES, y=LABELS)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(
        DataError, match=r"must be a whole archive of NumPy arrays, but .* write it again with np\.savez"
    ):
        NpzImages(path)


def test_a_member_that_is_no_array(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': (((,\n")
    with pytest.raises(DataError, match="must be a whole archive of NumPy arrays"):
        NpzImages(tmp_path / "set.npz")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read \(No such file or directory\); check the path"):
        NpzImages(tmp_path / "set.npz")
