"""Published data sets by name, read with torchvision from a folder; the network is touched on request alone.

Their own splits are kept: the official test images test; the official validation images validate, or else about a
fifth of the training images, by a hash of their number or file name. torchvision unpickles CIFAR's files only after
their md5 equals the published one; no other file of these sets is a pickle.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from repnet_search.data.decoded_cache import DecodedCache, create_cache
from repnet_search.data.file_index import FileIndex
from repnet_search.data.npz import arrange_channels, create_pools
from repnet_search.data.source import DataKind, Split
from repnet_search.data.splits import Item
from repnet_search.data.stored import Collection, StoredImages
from repnet_search.data.stores import ArrayStore, FileStore, PixelStore
from repnet_search.errors import DataError


@dataclass(frozen=True, slots=True)
class KnownSet:
    """How torchvision opens a data set.

    Attributes:
        opener: the name of its class in torchvision.datasets.
        place: what it is looked for as, below --data-root.
        splits: the argument and its value for each official split.
        options: further arguments.
    """

    opener: str
    place: str
    splits: Mapping[Split, tuple[str, Any]]
    options: Mapping[str, Any] = field(default_factory=dict)


_FLAG = {Split.TRAIN: ("train", True), Split.TEST: ("train", False)}
_TWO = {Split.TRAIN: ("split", "train"), Split.TEST: ("split", "test")}
_THREE = {**_TWO, Split.VALIDATION: ("split", "val")}
KNOWN_SETS: Mapping[str, KnownSet] = {
    "cifar10": KnownSet("CIFAR10", "cifar-10-batches-py", _FLAG),
    "cifar100": KnownSet("CIFAR100", "cifar-100-python", _FLAG),
    "dtd": KnownSet("DTD", "dtd", _THREE),
    "fashion_mnist": KnownSet("FashionMNIST", "FashionMNIST", _FLAG),
    "fgvc_aircraft": KnownSet("FGVCAircraft", "fgvc-aircraft-2013b", _THREE),
    "flowers102": KnownSet("Flowers102", "flowers-102", _THREE),
    "food101": KnownSet("Food101", "food-101", _TWO),
    "gtsrb": KnownSet("GTSRB", "gtsrb", _TWO),
    "imagenette": KnownSet(
        "Imagenette", "imagenette2-160", {**_TWO, Split.TEST: ("split", "val")}, options={"size": "160px"}
    ),
    "kmnist": KnownSet("KMNIST", "KMNIST", _FLAG),
    "mnist": KnownSet("MNIST", "MNIST", _FLAG),
    "oxford_iiit_pet": KnownSet(
        "OxfordIIITPet", "oxford-iiit-pet", {Split.TRAIN: ("split", "trainval"), Split.TEST: ("split", "test")}
    ),
    "stl10": KnownSet("STL10", "stl10_binary", _TWO),
    "svhn": KnownSet("SVHN", "train_32x32.mat and test_32x32.mat", _TWO),
}

Images = NDArray[np.uint8] | list[str]
"""Pixels, N H W or N H W C; or the paths of files."""


class KnownImages(StoredImages):
    """The images of a published data set."""

    def __init__(
        self,
        name: str,
        root: Path,
        *,
        download: bool = False,
        proxy_images: int | None = None,
        skip_broken: bool = False,
        cache: DecodedCache | None = None,
    ) -> None:
        """Opens the data set.

        Args:
            name: one of KNOWN_SETS.
            root: the folder that holds it, as torchvision lays it out.
            download: whether what is missing is fetched.
            proxy_images: training and validation images together that are used; None uses all.
            skip_broken: whether files that cannot be decoded are left out and noted, instead of refused.
            cache: keeps hashes and decoded images; None is the user's, with its default limit.

        Raises:
            DataError: the data set is not there, not whole, or cannot be fetched, or proxy_images is too small.
        """
        cache = cache or create_cache()
        opened = {split: _open_split(name, root, split, download=download) for split in KNOWN_SETS[name].splits}
        images = {split: _images_of(dataset) for split, dataset in opened.items()}
        labels = {split: _labels_of(dataset) for split, dataset in opened.items()}
        store, pools = _store(root, images, labels, cache)
        collection = Collection(
            name=name,
            kind=DataKind.TORCHVISION,
            classes=_class_names(opened[Split.TRAIN], labels[Split.TRAIN]),
            store=store,
            pools=pools,
        )
        super().__init__(collection, cache=cache, proxy_images=proxy_images, skip_broken=skip_broken)


def _open_split(name: str, root: Path, split: Split, *, download: bool) -> Any:
    """Returns torchvision's data set of one split; fetches it only where it is missing and that is asked for."""
    known = KNOWN_SETS[name]
    argument, value = known.splits[split]

    def create(*, fetch: bool) -> Any:
        from repnet_search.models.vision import torchvision

        opener: Callable[..., Any] = getattr(torchvision.datasets, known.opener)
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")  # NumPy's, of the age of CIFAR's files
            return opener(os.fspath(root), **{argument: value}, **known.options, download=fetch)

    try:
        return create(fetch=False)
    except MemoryError:
        raise
    except Exception as error:  # each parser has errors of its own for what is missing or not whole
        _check_scipy(name, error)
        if not download:
            raise _missing_error(name, root, split, error) from error
    try:
        return create(fetch=True)
    except MemoryError:
        raise
    except Exception as error:
        _check_scipy(name, error)
        raise DataError(
            f"The data set {name} cannot be downloaded to '{root}' ({_one_line(error, last=True)}); try again later, "
            f"or copy it there by hand as '{known.place}'."
        ) from error


def _check_scipy(name: str, error: Exception) -> None:
    if isinstance(error, ImportError):
        raise DataError(
            f"torchvision reads the data set {name} with SciPy, which is not installed; 'pip install scipy' does it."
        ) from error


def _missing_error(name: str, root: Path, split: Split, error: Exception) -> DataError:
    """Returns the error for a data set that is not there, or only in part."""
    place = KNOWN_SETS[name].place
    missing = "not found" in str(error).lower() or isinstance(error, FileNotFoundError)
    what = "is not there or not whole" if missing else f"cannot be read ({_one_line(error)})"
    return DataError(
        f"The data set {name} is looked for in '{root}' as {place}, but its {split} part {what}; name the folder that "
        f"holds {place} with --data-root, or fetch it with --download."
    )


def _one_line(error: Exception, *, last: bool = False) -> str:
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return lines[-1 if last else 0].strip("<>. ")


def _images_of(dataset: Any) -> Images:
    """Returns the pixels that torchvision has in memory, or the paths of the files that it would decode."""
    if hasattr(dataset, "data"):
        arranged = arrange_channels(np.asarray(dataset.data))
        if arranged is None:
            raise TypeError(f"{type(dataset).__name__} holds an array of shape {np.asarray(dataset.data).shape}")
        return np.ascontiguousarray(arranged)
    if hasattr(dataset, "_samples"):
        return [os.fspath(path) for path, _ in dataset._samples]
    files = dataset._image_files if hasattr(dataset, "_image_files") else dataset._images
    return [os.fspath(path) for path in files]


def _labels_of(dataset: Any) -> NDArray[np.int64]:
    for name in ("targets", "labels", "_labels"):
        if hasattr(dataset, name):
            return np.asarray(getattr(dataset, name)).astype(np.int64)
    return np.array([label for _, label in dataset._samples], dtype=np.int64)


def _class_names(dataset: Any, labels: NDArray[np.int64]) -> tuple[str, ...]:
    """Returns the names that torchvision has; numbers where it has none."""
    count = int(labels.max()) + 1
    names: Sequence[Any] = getattr(dataset, "classes", ())
    if len(names) < count:
        width = len(str(count - 1))
        return tuple(f"{label:0{width}}" for label in range(count))
    return tuple(name if isinstance(name, str) else name[0] for name in names)


def _store(
    root: Path, images: Mapping[Split, Images], labels: Mapping[Split, NDArray[np.int64]], cache: DecodedCache
) -> tuple[PixelStore, dict[Split, list[Item]]]:
    """Returns the pixels and the images of each split."""
    arrays = [(split.value, value) for split, value in images.items() if isinstance(value, np.ndarray)]
    if arrays:
        return ArrayStore(arrays), create_pools(labels)
    paths = [path for value in images.values() for path in value]
    index = FileIndex(root, folder=cache.folder)
    pools: dict[Split, list[Item]] = {}
    row = 0
    for split, given in labels.items():
        files = paths[row : row + len(given)]
        named = zip(given.tolist(), files, strict=True)
        pools[split] = [
            Item(row + place, label, index.relative(path).replace(os.sep, "/"))
            for place, (label, path) in enumerate(named)
        ]
        row += len(files)
    return FileStore(paths, index=index), pools
