"""Published data sets, in small copies of their layouts."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image

from repnet_search.cli import options
from repnet_search.data import KNOWN_SETS, KnownImages, Split, StoredImages, create_source
from repnet_search.data.decoded_cache import DecodedCache
from repnet_search.errors import DataError
from repnet_search.models.vision import torchvision

RANDOM = np.random.default_rng(0)
NONE = DecodedCache(None, limit_bytes=0)
Write = Callable[[Path, pytest.MonkeyPatch], None]


def _pixels(*shape: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_pixels(20, 30, 3)).save(path)


def _mnist(root: Path, _: pytest.MonkeyPatch, *, name: str = "MNIST") -> None:
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for part, count in (("train", 100), ("t10k", 20)):
        images, labels = _pixels(count, 28, 28), np.arange(count, dtype=np.uint8) % 10
        header = struct.pack(">4I", 0x803, count, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, count) + labels.tobytes())


def _cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar = torchvision.datasets.CIFAR10
    folder = root / cifar.base_folder
    folder.mkdir(parents=True)

    def write(name: str, value: dict[str, Any]) -> str:
        (folder / name).write_bytes(pickle.dumps(value))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch(name: str) -> list[str]:
        value = {"data": _pixels(20, 3072), "labels": [row % 10 for row in range(20)]}
        return [name, write(name, value)]

    monkeypatch.setattr(cifar, "train_list", [batch(f"data_batch_{part}") for part in range(1, 6)])
    monkeypatch.setattr(cifar, "test_list", [batch("test_batch")])
    names = [f"class {label}" for label in range(10)]
    meta = {"filename": "batches.meta", "key": "label_names", "md5": write("batches.meta", {"label_names": names})}
    monkeypatch.setattr(cifar, "meta", meta)


def _stl10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stl = torchvision.datasets.STL10
    folder = root / stl.base_folder
    folder.mkdir(parents=True)
    for part, count in (("train", 60), ("test", 20)):
        (folder / f"{part}_X.bin").write_bytes(_pixels(count, 3, 96, 96).tobytes())
        (folder / f"{part}_y.bin").write_bytes((np.arange(count, dtype=np.uint8) % 10 + 1).tobytes())
    (folder / "class_names.txt").write_text("\n".join(f"thing {label}" for label in range(10)))
    monkeypatch.setattr(stl, "_check_integrity", lambda self: True)


def _food101(root: Path, _: pytest.MonkeyPatch) -> None:
    for split, count in (("train", 12), ("test", 4)):
        lists = {name: [f"{name}/{split}{row}" for row in range(count)] for name in ("apple_pie", "waffles")}
        (root / "food-101" / "meta").mkdir(parents=True, exist_ok=True)
        (root / "food-101" / "meta" / f"{split}.json").write_text(json.dumps(lists))
        for files in lists.values():
            for file in files:
                _image(root / "food-101" / "images" / f"{file}.jpg")


def _pets(root: Path, _: pytest.MonkeyPatch) -> None:
    folder = root / "oxford-iiit-pet"
    (folder / "annotations").mkdir(parents=True)
    for split, count in (("trainval", 8), ("test", 3)):
        lines = [
            f"{name}_{split}{row} {label} 1 1" for label, name in ((1, "Persian"), (2, "pug")) for row in range(count)
        ]
        (folder / "annotations" / f"{split}.txt").write_text("\n".join(lines))
        for line in lines:
            _image(folder / "images" / f"{line.split()[0]}.jpg")


def _dtd(root: Path, _: pytest.MonkeyPatch) -> None:
    (root / "dtd" / "dtd" / "labels").mkdir(parents=True)
    for split in ("train", "val", "test"):
        names = [f"{texture}/{split}{row}.jpg" for texture in ("banded", "woven") for row in range(4)]
        (root / "dtd" / "dtd" / "labels" / f"{split}1.txt").write_text("\n".join(names))
        for name in names:
            _image(root / "dtd" / "dtd" / "images" / name)


def _aircraft(root: Path, _: pytest.MonkeyPatch) -> None:
    folder = root / "fgvc-aircraft-2013b" / "data"
    folder.mkdir(parents=True)
    (folder / "variants.txt").write_text("707-320\nDC-3\n")
    for split in ("train", "val", "test"):
        lines = [f"{split}{label}{row} {name}" for label, name in enumerate(("707-320", "DC-3")) for row in range(4)]
        (folder / f"images_variant_{split}.txt").write_text("\n".join(lines))
        for line in lines:
            _image(folder / "images" / f"{line.split()[0]}.jpg")


def _gtsrb(root: Path, _: pytest.MonkeyPatch) -> None:
    folder = root / "gtsrb"
    for label in range(3):
        for row in range(6):
            _image(folder / "GTSRB" / "Training" / f"{label:05d}" / f"{row}.ppm")
    rows = [f"{row:05d}.ppm;30;20;0;0;1;1;{row % 3}" for row in range(6)]
    for row in range(6):
        _image(folder / "GTSRB" / "Final_Test" / "Images" / f"{row:05d}.ppm")
    heading = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
    (folder / "GT-final_test.csv").write_text("\n".join([heading, *rows]))


def _imagenette(root: Path, _: pytest.MonkeyPatch) -> None:
    for split, count in (("train", 6), ("val", 3)):
        for wnid in ("n01440764", "n02102040"):
            for row in range(count):
                _image(root / "imagenette2-160" / split / wnid / f"{split}{row}.JPEG")


LAYOUTS: dict[str, tuple[Write, int, tuple[str, str]]] = {
    "cifar10": (_cifar10, 20, ("class 0", "class 9")),
    "dtd": (_dtd, 8, ("banded", "woven")),
    "fgvc_aircraft": (_aircraft, 8, ("707-320", "DC-3")),
    "food101": (_food101, 8, ("apple_pie", "waffles")),
    "gtsrb": (_gtsrb, 6, ("0", "2")),
    "imagenette": (_imagenette, 6, ("tench", "English springer")),
    "mnist": (_mnist, 20, ("0 - zero", "9 - nine")),
    "oxford_iiit_pet": (_pets, 6, ("Persian", "Pug")),
    "stl10": (_stl10, 20, ("thing 0", "thing 9")),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_set_has_its_official_test_images_and_named_classes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, tested, classes = LAYOUTS[name]
    write(tmp_path, monkeypatch)
    source = create_source(Path(name), root=tmp_path, cache_bytes=0)
    assert isinstance(source, StoredImages)
    assert source.name == name
    assert (source.classes[0], source.classes[-1]) == classes
    assert source.count(Split.TEST) == tested
    assert all(min(source.class_counts(split)) > 0 for split in Split)
    opened = _opened(name, tmp_path)
    loaded = source.load(Split.TEST, resolution=16)
    assert sorted(loaded.labels.tolist()) == sorted(int(label) for _, label in opened)
    item = source.items(Split.TEST)[0]
    assert source.store.check(item.row).width == opened[0][0].size[0]
    assert source.sha256() == create_source(Path(name), root=tmp_path, cache_bytes=0).sha256()


def _opened(name: str, root: Path) -> list[tuple[Image.Image, int]]:
    """Returns the test set as torchvision gives it."""
    argument, value = KNOWN_SETS[name].splits[Split.TEST]
    opener = getattr(torchvision.datasets, KNOWN_SETS[name].opener)
    dataset = opener(str(root), **{argument: value}, **KNOWN_SETS[name].options)
    return [dataset[row] for row in range(len(dataset))]


@pytest.mark.parametrize("name", ["cifar10", "mnist", "stl10"])
def test_pixels_are_those_that_torchvision_gives(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LAYOUTS[name][0](tmp_path, monkeypatch)
    source = KnownImages(name, tmp_path, cache=NONE)
    opened = _opened(name, tmp_path)
    side = opened[0][0].size[0]
    loaded = source.load(Split.TEST, resolution=side)
    for pixels, label, item in zip(loaded.images, loaded.labels, source.items(Split.TEST), strict=True):
        image, expected = opened[int(item.name)]
        assert int(label) == expected
        assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(image.convert("RGB")))


def test_official_validation_images_validate_and_else_a_fifth_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _dtd(tmp_path, monkeypatch)
    _food101(tmp_path, monkeypatch)
    textures = KnownImages("dtd", tmp_path, cache=NONE)
    assert {item.name.split("/")[-1][:3] for item in textures.items(Split.VALIDATION)} == {"val"}
    food = KnownImages("food101", tmp_path, cache=NONE)
    assert food.count(Split.TRAIN) + food.count(Split.VALIDATION) == 24
    assert all("/train" in item.name for item in food.items(Split.VALIDATION))


def test_every_set_is_one_of_torchvision_and_of_the_help() -> None:
    assert tuple(KNOWN_SETS) == options.KNOWN_SETS
    for known in KNOWN_SETS.values():
        assert hasattr(torchvision.datasets, known.opener)


@pytest.mark.parametrize("name", KNOWN_SETS)
def test_a_set_that_is_not_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(DataError) as caught:
        KnownImages(name, tmp_path)
    place = KNOWN_SETS[name].place
    assert str(caught.value) == (
        f"The data set {name} is looked for in '{tmp_path}' as {place}, but its train part is not there or not whole; "
        f"name the folder that holds {place} with --data-root, or fetch it with --download."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_cifar_with_another_content_is_never_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _cifar10(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps({"data": 1}))
    monkeypatch.setattr("pickle.load", None)
    with pytest.raises(DataError, match="not there or not whole"):
        KnownImages("cifar10", tmp_path)


def test_a_file_that_cannot_be_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _mnist(tmp_path, monkeypatch)
    (tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0")
    with pytest.raises(DataError, match=r"its train part cannot be read \(.*\); name the folder"):
        KnownImages("mnist", tmp_path)


def test_a_download_that_fails_and_one_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", fail)
    with pytest.raises(DataError, match=r"cannot be downloaded to .* \(urlopen error no route\); try again later"):
        KnownImages("mnist", tmp_path, download=True)

    def fetch(self: object) -> None:
        print("Downloading")
        _mnist(tmp_path, monkeypatch)

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", fetch)
    assert KnownImages("mnist", tmp_path, download=True, cache=NONE).count(Split.TEST) == 20
    assert capsys.readouterr().out == ""  # stdout is for the result


def test_sets_that_need_scipy_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setattr(torchvision.datasets.SVHN, "_check_integrity", lambda self: True)
    with pytest.raises(DataError, match=r"reads the data set svhn with SciPy, .* 'pip install scipy' does it"):
        KnownImages("svhn", tmp_path)


def test_channels_first_arrays_are_turned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stl10(tmp_path, monkeypatch)
    source = KnownImages("stl10", tmp_path, cache=NONE)
    facts = source.store.check(0)
    assert (facts.width, facts.height, facts.mode) == (96, 96, "RGB")
