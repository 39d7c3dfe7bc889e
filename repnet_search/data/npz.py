"""Labelled images as arrays in one .npz file.

Images are uint8, N H W, N H W C or N C H W; labels one integer or text per image. One pair (images, labels) is split
as a folder is; x_train and y_train with x_test and y_test, and perhaps x_val and y_val, are splits of their own. Names
as in Keras' and MedMNIST's files are known. `classes` may name the labels 0, 1, ….
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from repnet_search.data.decoded_cache import DecodedCache, create_cache
from repnet_search.data.npz_members import Member, list_members, load_member
from repnet_search.data.scan import MAX_CLASSES
from repnet_search.data.source import DataKind, Split
from repnet_search.data.splits import Item
from repnet_search.data.stored import Collection, StoredImages
from repnet_search.data.stores import ArrayStore, printable
from repnet_search.errors import DataError

_IMAGES = ("x", "X", "images", "image", "data")
_LABELS = ("y", "Y", "labels", "label", "targets")
_CLASSES = ("classes", "class_names", "label_names")
_SPLITS = {
    Split.TRAIN: ("train",),
    Split.VALIDATION: ("val", "valid", "validation"),
    Split.TEST: ("test",),
}
_LAYOUT = "give arrays 'images' and 'labels', or x_train, y_train, x_test and y_test"
_CHANNELS = (1, 2, 3, 4)

Names = Mapping[Split, tuple[str, str]]
"""The names of images and labels per split."""


class NpzImages(StoredImages):
    """Images in an .npz file."""

    def __init__(
        self,
        path: Path,
        *,
        proxy_images: int | None = None,
        skip_broken: bool = False,
        cache: DecodedCache | None = None,
    ) -> None:
        """Reads the labels; images stay on the disk where the file is uncompressed.

        Args:
            path: the file.
            proxy_images: training and validation images together that are used; None uses all.
            skip_broken: as for folders; arrays have no broken images.
            cache: keeps resized images; None is the user's, with its default limit.

        Raises:
            DataError: the file cannot be used as it is, or proxy_images is too small.
        """
        members = list_members(path)
        names = _find_names(path, members)
        images = {split: _load_images(path, members[name]) for split, (name, _) in names.items()}
        labels = {split: _load_labels(path, members[name]) for split, (_, name) in names.items()}
        for split, (name, label_name) in names.items():
            if len(images[split]) != len(labels[split]):
                raise DataError(
                    f"Each image needs one label, but '{name}' in '{path}' has {len(images[split])} images and "
                    f"'{label_name}' {len(labels[split])} labels; save both of the same length."
                )
        values, classes = _list_classes(path, names, labels, _load_class_names(path, members))
        collection = Collection(
            name=printable(path.name),
            kind=DataKind.NPZ,
            classes=classes,
            store=ArrayStore([(names[split][0], array) for split, array in images.items()]),
            pools=create_pools({split: np.searchsorted(values, given) for split, given in labels.items()}),
        )
        super().__init__(collection, cache=cache or create_cache(), proxy_images=proxy_images, skip_broken=skip_broken)


def create_pools(labels: Mapping[Split, NDArray[Any]]) -> dict[Split, list[Item]]:
    """Returns the images of arrays that lie one behind the other, from their labels; a row's name is its number."""
    pools: dict[Split, list[Item]] = {}
    first = 0
    for split, given in labels.items():
        pools[split] = [Item(first + row, int(label), str(row)) for row, label in enumerate(given.tolist())]
        first += len(given)
    return pools


def arrange_channels(images: NDArray[Any]) -> NDArray[Any] | None:
    """Returns N H W or N H W C of an array that may be N C H W; None where it is neither."""
    if images.ndim == 3 or (images.ndim == 4 and images.shape[3] in _CHANNELS):
        return images
    if images.ndim == 4 and images.shape[1] in _CHANNELS:
        return images.transpose(0, 2, 3, 1)
    return None


def _find_names(path: Path, members: Mapping[str, Member]) -> Names:
    """Returns which arrays are what."""
    found = {}
    for split, words in _SPLITS.items():
        images = _first(members, [name for word in words for name in _variants(_IMAGES, word)])
        labels = _first(members, [name for word in words for name in _variants(_LABELS, word)])
        if images and labels:
            found[split] = (images, labels)
        elif images or labels:
            raise _lacks(path, members, what="labels" if images else "images", of=images or labels or "")
    if not found:
        images, labels = _first(members, _IMAGES), _first(members, _LABELS)
        if images is None or labels is None:
            raise _lacks(path, members, what="labels" if images else "images", of=images or labels or "")
        return {Split.TRAIN: (images, labels)}
    if Split.TRAIN not in found:
        raise _lacks(path, members, what="training images", of=next(iter(found.values()))[0])
    if Split.TEST not in found and Split.VALIDATION in found:
        found[Split.TEST] = found.pop(Split.VALIDATION)  # as with folders: without test/, val/ is the test set
    return found


def _variants(names: Sequence[str], split: str) -> list[str]:
    return [variant for name in names for variant in (f"{name}_{split}", f"{split}_{name}")]


def _first(members: Mapping[str, Member], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in members), None)


def _lacks(path: Path, members: Mapping[str, Member], *, what: str, of: str) -> DataError:
    """Returns the error for an array that is not there."""
    names = sorted(members)
    there = ", ".join(f"'{name}'" for name in names[:8]) + (", …" if len(names) > 8 else "")
    beside = f" to '{of}'" if of else ""
    return DataError(
        f"An .npz file of images needs both images and labels, but '{path}' lacks {what}{beside} (it holds "
        f"{there or 'no array'}); {_LAYOUT}."
    )


def _load_images(path: Path, member: Member) -> NDArray[np.uint8]:
    """Returns the images of an array, N H W or N H W C."""
    if member.dtype != np.uint8:
        way_out = "save np.uint8 values of 0 to 255"
        if member.dtype.kind == "f":
            way_out = "convert them, (255 * x).round().astype(np.uint8) where they are 0 to 1"
        raise DataError(f"Images must be uint8, but '{member.name}' in '{path}' is {member.dtype}; {way_out}.")
    images = arrange_channels(load_member(path, member))
    if images is None or 0 in images.shape:
        raise DataError(
            f"Images must have shape N H W, N H W C or N C H W with 1 to 4 channels, but '{member.name}' in '{path}' "
            f"has {' '.join(map(str, member.shape))}; reshape it."
        )
    return images


def _load_labels(path: Path, member: Member) -> NDArray[Any]:
    """Returns one integer or text per image."""
    shape = member.shape
    if len(shape) == 2 and shape[1] > 1:
        raise DataError(
            f"Labels must be one per image, but '{member.name}' in '{path}' has shape {shape[0]} {shape[1]}; where "
            f"each row marks its class with a 1, save {member.name}.argmax(1)."
        )
    if member.dtype.kind not in "iuU" or len(shape) not in (1, 2):
        raise DataError(
            f"Labels must be integers or texts, one per image, but '{member.name}' in '{path}' is {member.dtype} of "
            f"shape {' '.join(map(str, shape)) or '()'}; convert it, for example with .astype(np.int64)."
        )
    return np.asarray(load_member(path, member)).reshape(-1)


def _load_class_names(path: Path, members: Mapping[str, Member]) -> list[str] | None:
    name = _first(members, _CLASSES)
    if name is None or members[name].dtype.kind != "U" or len(members[name].shape) != 1:
        return None
    return [str(text) for text in load_member(path, members[name]).tolist()]


def _list_classes(
    path: Path, names: Names, labels: Mapping[Split, NDArray[Any]], class_names: list[str] | None
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Returns the sorted labels that training has, and their names."""
    values = np.unique(labels[Split.TRAIN])
    label_name = names[Split.TRAIN][1]
    if not 2 <= len(values) <= MAX_CLASSES:
        raise DataError(
            f"Training needs 2 to {MAX_CLASSES} classes, but '{label_name}' in '{path}' has {len(values)} different "
            f"labels; check that it holds a class per image."
        )
    for split, given in labels.items():
        strange = np.setdiff1d(given, values)
        if len(strange):
            raise DataError(
                f"Every class must have training images, but '{names[split][1]}' in '{path}' has the label "
                f"{strange[0]!s}, which '{label_name}' lacks; add such images or leave these out."
            )
    if class_names is None or values.dtype.kind == "U":
        return values, tuple(str(value) for value in values.tolist())
    if not 0 <= values[0] <= values[-1] < len(class_names) or len(set(class_names)) < len(class_names):
        raise DataError(
            f"The class names must be one for each label, but '{path}' has {len(class_names)} names and labels from "
            f"{values[0]} to {values[-1]}; correct the names or leave them out."
        )
    return values, tuple(class_names[value] for value in values.tolist())
