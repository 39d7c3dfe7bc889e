"""Stored images as a data source, wherever they lie: split, decoded once per resolution, and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch

from repnet_search.data.decode import DECODING, BrokenImageError, quiet_pillow
from repnet_search.data.decoded_cache import DecodedCache, Pixels
from repnet_search.data.source import DataKind, ImageSet, Split
from repnet_search.data.splits import Item, name_key, split_items
from repnet_search.data.stores import PixelStore, unusable_error
from repnet_search.errors import DataError
from repnet_search.machine import count_cores, free_memory_bytes
from repnet_search.units import format_size

_MOST_THREADS = 4  # each may hold a whole decoded photograph


@dataclass(frozen=True, slots=True)
class Collection:
    """What was found at a place, not yet split.

    Attributes:
        name: of the folder, file or data set.
        kind: of place.
        classes: the class names; labels index into them.
        store: the pixels.
        pools: the images of each split that is given; TRAIN always is.
        skipped: why each file that was left out cannot be used, by its relative path.
    """

    name: str
    kind: DataKind
    classes: tuple[str, ...]
    store: PixelStore
    pools: Mapping[Split, Sequence[Item]]
    skipped: Mapping[str, str] = field(default_factory=dict)


class StoredImages:
    """Images of a collection, decoded when they are asked for.

    Test set: the given one, else 20 % of each class. Validation: the given one, else 20 % of what is left to train. A
    hash of the image's name decides (see splits.py), never a seed.
    """

    def __init__(
        self, collection: Collection, *, cache: DecodedCache, proxy_images: int | None = None, skip_broken: bool = False
    ) -> None:
        """Splits the images; reads no pixels.

        Args:
            collection: the images.
            cache: keeps decoded images on disk.
            proxy_images: training and validation images together that are used; None uses all.
            skip_broken: whether images that cannot be decoded are left out and noted, instead of refused.

        Raises:
            DataError: a class has too few images, or proxy_images is too small.
        """
        self.name = collection.name
        self.kind = collection.kind
        self.classes = collection.classes
        self.store = collection.store
        self.validation_held_out = Split.VALIDATION not in collection.pools
        self._items = split_items(collection.pools, classes=collection.classes, proxy_images=proxy_images)
        self._cache = cache
        self._skip_broken = skip_broken
        self._skipped = dict(collection.skipped)
        self._broken: set[int] = set()
        self._kept: dict[tuple[Split, int], ImageSet] = {}
        self._digests: dict[Split, list[str]] = {}

    @property
    def skipped(self) -> tuple[str, ...]:
        """Returns the sorted relative paths of the images left out so far."""
        return tuple(sorted(self._skipped))

    @property
    def skip_reasons(self) -> Mapping[str, str]:
        """Returns why each image left out so far cannot be used, as the rest of a sentence, by relative path."""
        return self._skipped

    def items(self, split: Split) -> list[Item]:
        """Returns the images in `split`, less those found broken so far, by label and name."""
        return [item for item in self._items[split] if item.row not in self._broken]

    def digests(self, split: Split) -> list[str]:
        """Returns the content hash of each image in `split`, those found broken too.

        Raises:
            DataError: an image cannot be read.
        """
        if split not in self._digests:
            self._digests[split] = self.store.digests([item.row for item in self._items[split]])
        return self._digests[split]

    def digested(self, split: Split) -> list[tuple[Item, str]]:
        """Returns the images in `split`, less those found broken so far, with their content hashes.

        Raises:
            DataError: an image cannot be read.
        """
        pairs = zip(self._items[split], self.digests(split), strict=True)
        return [(item, digest) for item, digest in pairs if item.row not in self._broken]

    def sha256(self) -> str:
        """Returns the hex digest of the training and validation images, their names, classes and splits.

        An image that skip_broken leaves out only when it is decoded still counts, so the digest never changes.

        Raises:
            DataError: an image cannot be read.
        """
        lines = []
        for split in (Split.TRAIN, Split.VALIDATION):
            for item, content in zip(self._items[split], self.digests(split), strict=True):
                parts = name_key(split), name_key(self.classes[item.label]), name_key(item.name), content.encode()
                lines.append(b"\0".join(parts) + b"\n")
        return hashlib.sha256(b"".join(sorted(lines))).hexdigest()

    def count(self, split: Split) -> int:
        """Returns the number of images in `split`, less those found broken so far."""
        return len(self.items(split))

    def class_counts(self, split: Split) -> list[int]:
        """Returns the number of images of each class in `split`, less those found broken so far."""
        labels = np.array([item.label for item in self.items(split)], dtype=np.int64)
        counts: list[int] = np.bincount(labels, minlength=len(self.classes)).tolist()
        return counts

    def load(self, split: Split, *, resolution: int) -> ImageSet:
        """Returns the whole split, mapped from the cache where that may keep it; training and validation sets are kept.

        Raises:
            DataError: an image cannot be decoded, or (with skip_broken) a class has none left, or memory is too small.
        """
        if (split, resolution) in self._kept:
            return self._kept[split, resolution]
        loaded = self._load_cached(split, resolution) or self._load_decoded(split, resolution)
        if split is not Split.TEST:
            self._check_classes_left(loaded, split)
            self._kept[split, resolution] = loaded
        return loaded

    def batches(self, split: Split, *, resolution: int, batch: int) -> Iterator[ImageSet]:
        """Yields the split in sets of at most `batch` images and keeps none of them in memory.

        Raises:
            DataError: an image cannot be decoded.
        """
        cached = self._load_cached(split, resolution)
        if cached is not None:
            for start in range(0, len(cached), batch):
                yield ImageSet(cached.images[start : start + batch], cached.labels[start : start + batch])
            return
        items = self.items(split)
        for start in range(0, len(items), batch):
            decoded = self._decode_set(items[start : start + batch], resolution)
            if len(decoded):
                yield decoded

    def _load_cached(self, split: Split, resolution: int) -> ImageSet | None:
        """Returns a split from the cache on disk, decoded into it where it is not there; None where it cannot be."""
        items = self._items[split]
        if not self._cache.takes(len(items), resolution=resolution):
            return None
        key = hashlib.sha256(f"{DECODING}\0{resolution}\0{' '.join(self.digests(split))}".encode()).hexdigest()
        decoded = self._cache.get(
            key,
            count=len(items),
            resolution=resolution,
            decode=lambda start, stop: self._decode(items[start:stop], resolution, first=start),
        )
        if decoded is None:
            return None
        for row, reason in decoded.broken.items():
            self.leave_out(items[row], reason)
        labels = [item.label for row, item in enumerate(items) if row not in decoded.broken]
        return ImageSet(torch.from_numpy(decoded.pixels), torch.tensor(labels, dtype=torch.int64))

    def _load_decoded(self, split: Split, resolution: int) -> ImageSet:
        """Returns a split decoded into memory, if it is large enough."""
        items = self.items(split)
        size_bytes, free_bytes = len(items) * 3 * resolution**2, free_memory_bytes()
        if free_bytes is not None and size_bytes > free_bytes:
            raise DataError(
                f"The {split} images must fit into memory or --data-cache, but {len(items)} of {resolution} px need "
                f"{format_size(size_bytes)}, of which {format_size(free_bytes)} are free; use a --data-cache of that "
                f"size on disk, or fewer images with --proxy-images."
            )
        return self._decode_set(items, resolution)

    def _decode_set(self, items: Sequence[Item], resolution: int) -> ImageSet:
        pixels, broken = self._decode(items, resolution, first=0)
        labels = [item.label for row, item in enumerate(items) if row not in broken]
        return ImageSet(torch.from_numpy(pixels), torch.tensor(labels, dtype=torch.int64))

    def _decode(self, items: Sequence[Item], resolution: int, *, first: int) -> tuple[Pixels, dict[int, str]]:
        """Returns the pixels of the whole images, in their order, and why the others are not, counted from `first`."""
        pixels: Pixels = np.empty((len(items), 3, resolution, resolution), dtype=np.uint8)

        def fill(row: int) -> str | None:
            try:
                pixels[row] = self.store.decode(items[row].row, resolution=resolution)
            except BrokenImageError as error:
                return str(error)
            return None

        broken = {}
        pool = ThreadPoolExecutor(min(_MOST_THREADS, count_cores()))
        try:
            with quiet_pillow():
                for row, reason in enumerate(pool.map(fill, range(len(items)))):
                    if reason is not None:
                        self.leave_out(items[row], reason)
                        broken[first + row] = reason
        finally:
            pool.shutdown(cancel_futures=True)  # an error or Ctrl-C must not wait for thousands of images
        if broken:
            pixels = np.delete(pixels, [row - first for row in broken], axis=0)
        return pixels, broken

    def leave_out(self, item: Item, reason: str) -> None:
        """Notes an image that cannot be decoded.

        Raises:
            DataError: broken images are not skipped.
        """
        if not self._skip_broken:
            raise unusable_error(self.store.place(item.row), reason=reason)
        self._broken.add(item.row)
        self._skipped[self.store.short_place(item.row)] = reason

    def _check_classes_left(self, loaded: ImageSet, split: Split) -> None:
        """Raises DataError where all of a class's images in a split turned out to be broken."""
        if not self._broken:
            return
        given = {item.label for item in self._items[split]}
        missing = sorted(given - set(loaded.labels.tolist()))
        if missing:
            raise DataError(
                f"Every class needs images in every split, but all {split} images of '{self.classes[missing[0]]}' "
                f"in '{self.name}' are broken; repair them or add others."
            )
