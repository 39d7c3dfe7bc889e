"""Which image trains, validates or tests, and which ones a proxy of N images takes.

A file's split is decided by a threshold on a hash of its name, not by its rank among the others: ranking would
give exact shares, but then one added file moves another across a border. With the threshold, adding a file moves
no other. The one exception keeps each split from lacking a class: where none of its files (or all but too few)
are below the threshold, those nearest to it stand in; a later file may relieve a stand-in, and then at most two
files of that class move (1500 classes grown from 3 to 40 files: none at 94.6 % of the additions, never three).
"""

from __future__ import annotations

import hashlib
import heapq
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from repnet_search.data.source import Split
from repnet_search.errors import DataError

SHARE = 0.2
"""The share of a class that is held out to test, and of the rest that is held out to validate."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image.

    Attributes:
        row: its number in the store of pixels.
        label: the index of its class.
        name: what decides its split; each image of a class has another.
    """

    row: int
    label: int
    name: str


def name_key(name: str) -> bytes:
    """Returns a name as bytes that are equal on every file system (macOS may store accents decomposed)."""
    return unicodedata.normalize("NFC", name).encode("utf-8", "surrogateescape")


def _draw(name: str, *, index: int) -> int:
    """Returns the index-th independent 64-bit number that the name's sha256 holds (0 test, 1 validation, 2 proxy)."""
    return int.from_bytes(hashlib.sha256(name_key(name)).digest()[8 * index : 8 * index + 8], "big")


def _held_out(names: Sequence[str], *, index: int, keep: int) -> set[str]:
    """Returns the names below the threshold: at least one, and at most all but `keep`."""
    draws = sorted((_draw(name, index=index), name) for name in names)
    below = sum(draw < SHARE * 2**64 for draw, _ in draws)
    return {name for _, name in draws[: max(1, min(below, len(draws) - keep))]}


def assign_splits(names: Sequence[str], *, hold_out_test: bool, hold_out_validation: bool) -> dict[Split, list[str]]:
    """Returns one class's names by split, each in the order in which a proxy takes them.

    Args:
        names: the files of one class, relative to its folder; at least one per split that is asked for.
        hold_out_test: whether a test set is taken from them (it has no folder of its own).
        hold_out_validation: whether a validation set is taken from what is left.
    """
    left = sorted(names, key=lambda name: (_draw(name, index=2), name))
    splits: dict[Split, list[str]] = {}
    if hold_out_test:
        test = _held_out(left, index=0, keep=1 + hold_out_validation)
        splits[Split.TEST] = [name for name in left if name in test]
        left = [name for name in left if name not in test]
    if hold_out_validation:
        validation = _held_out(left, index=1, keep=1)
        splits[Split.VALIDATION] = [name for name in left if name in validation]
        left = [name for name in left if name not in validation]
    splits[Split.TRAIN] = left
    return splits


def proxy_counts(
    *, train: Sequence[int], validation: Sequence[int], proxy_images: int, validation_share: float | None
) -> tuple[list[int], list[int]]:
    """Returns how many training and how many validation images of each class a proxy takes, proxy_images in all.

    Args:
        train: the training images there are, per class.
        validation: the validation images there are, per class.
        proxy_images: training and validation images together; more than there are takes all.
        validation_share: the share that validates; None keeps the share there is.

    Raises:
        DataError: there are too few to give each class one image to train and one to validate.
    """
    classes, train_total, validation_total = len(train), sum(train), sum(validation)
    if proxy_images < 2 * classes:
        raise DataError(
            f"--proxy-images must leave each class one image to train and one to validate, at least {2 * classes} "
            f"for {classes} classes, but is {proxy_images}; give a larger number."
        )
    if proxy_images >= train_total + validation_total:
        return list(train), list(validation)
    share = validation_total / (train_total + validation_total) if validation_share is None else validation_share
    lowest, highest = max(classes, proxy_images - train_total), min(validation_total, proxy_images - classes)
    to_validate = min(max(round(proxy_images * share), lowest), highest)
    return _apportion(train, total=proxy_images - to_validate), _apportion(validation, total=to_validate)


def _apportion(sizes: Sequence[int], *, total: int) -> list[int]:
    """Returns `total` spread over the classes by their sizes (largest remainder), each at least 1 and at most all."""
    whole = sum(sizes)
    quotas = [total * size / whole for size in sizes]
    counts = [min(size, max(1, int(quota))) for size, quota in zip(sizes, quotas, strict=True)]
    step = 1 if sum(counts) < total else -1

    def rank(label: int) -> tuple[float, int]:
        # Far quotas first; a tie goes to the first class, so that the same images always give the same proxy.
        return -step * (quotas[label] - counts[label]), label

    waiting = [rank(label) for label in range(len(sizes))]
    heapq.heapify(waiting)
    for _ in range(abs(total - sum(counts))):
        _, label = heapq.heappop(waiting)
        while not 1 <= counts[label] + step <= sizes[label]:
            _, label = heapq.heappop(waiting)
        counts[label] += step
        heapq.heappush(waiting, rank(label))
    return counts


def split_items(
    pools: Mapping[Split, Sequence[Item]], *, classes: Sequence[str], proxy_images: int | None
) -> dict[Split, list[Item]]:
    """Returns the images of all three splits, of a proxy where proxy_images is given, by label and name.

    Args:
        pools: the images of each split that is given; what is not given is taken from TRAIN.
        classes: the class names.
        proxy_images: training and validation images together; None takes all.

    Raises:
        DataError: a class has too few images, or proxy_images is too small.
    """
    hold_out_test, hold_out_validation = Split.TEST not in pools, Split.VALIDATION not in pools
    by_class = {split: _by_class(items, classes=len(classes)) for split, items in pools.items()}
    _check_enough(by_class[Split.TRAIN], classes=classes, needed=1 + hold_out_test + hold_out_validation)
    splits: dict[Split, list[list[Item]]] = {split: [] for split in Split}
    for pool, per_class in by_class.items():
        for by_name in per_class:
            divides = pool is Split.TRAIN
            assigned = assign_splits(
                list(by_name),
                hold_out_test=divides and hold_out_test,
                hold_out_validation=divides and hold_out_validation,
            )
            for split, names in assigned.items():
                splits[split if divides else pool].append([by_name[name] for name in names])
    if proxy_images is not None:
        _take_proxy(splits, proxy_images=proxy_images, validation_share=SHARE if hold_out_validation else None)
    flat = {split: [item for items in per_class for item in items] for split, per_class in splits.items()}
    return {split: sorted(items, key=lambda item: (item.label, item.name)) for split, items in flat.items()}


def _by_class(items: Sequence[Item], *, classes: int) -> list[dict[str, Item]]:
    """Returns the images by name for each class."""
    found: list[dict[str, Item]] = [{} for _ in range(classes)]
    for item in items:
        found[item.label][item.name] = item
    return found


def _check_enough(per_class: list[dict[str, Item]], *, classes: Sequence[str], needed: int) -> None:
    """Raises DataError unless each class has one image for each split that is taken from it."""
    for name, items in zip(classes, per_class, strict=True):
        if len(items) < needed:
            uses = ("train", "train and validate", "train, validate and test")[needed - 1]
            raise DataError(
                f"Every class needs at least {needed} images, one each to {uses}, but '{name}' has {len(items)}; "
                f"add images to it or leave it out."
            )


def _take_proxy(splits: dict[Split, list[list[Item]]], *, proxy_images: int, validation_share: float | None) -> None:
    """Cuts the training and validation images down to proxy_images in all."""
    train, validation = proxy_counts(
        train=[len(items) for items in splits[Split.TRAIN]],
        validation=[len(items) for items in splits[Split.VALIDATION]],
        proxy_images=proxy_images,
        validation_share=validation_share,
    )
    for split, counts in ((Split.TRAIN, train), (Split.VALIDATION, validation)):
        splits[split] = [items[:count] for items, count in zip(splits[split], counts, strict=True)]
