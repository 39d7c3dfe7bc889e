"""Which image trains, validates or tests, and which ones a proxy of N images takes.

A file's split is decided by a threshold on a hash of its name, not by its rank among the others: ranking would
give exact shares, but then one added file moves another across a border. With the threshold, adding a file moves
no other. The one exception keeps each split from lacking a class: where none of its files (or all but too few)
are below the threshold, those nearest to it stand in; a later file may relieve a stand-in, and then at most two
files of that class move (1500 classes grown from 3 to 40 files: none at 94.6 % of the additions, never three).
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence

from repnet_search.data.source import Split
from repnet_search.errors import DataError

SHARE = 0.2
"""The share of a class that is held out to test, and of the rest that is held out to validate."""


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
    quotas = [total * size / sum(sizes) for size in sizes]
    counts = [min(size, max(1, int(quota))) for size, quota in zip(sizes, quotas, strict=True)]
    while (missing := total - sum(counts)) != 0:
        step = 1 if missing > 0 else -1
        open_classes = [i for i, size in enumerate(sizes) if 1 <= counts[i] + step <= size]
        # Far quotas first; a tie goes to the first class, so that the same folders always give the same proxy.
        counts[max(open_classes, key=lambda i: (step * (quotas[i] - counts[i]), -i))] += step
    return counts
