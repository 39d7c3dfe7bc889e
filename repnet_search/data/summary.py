"""What a data source holds, before anything is trained on it."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from repnet_search.data.decode import BrokenImageError, ImageFacts, quiet_pillow
from repnet_search.data.source import DataKind, DataSource, Split
from repnet_search.data.splits import Item
from repnet_search.data.stored import StoredImages

DECODE_RESOLUTION = 96
_DECODE_SAMPLES = 64


@dataclass(frozen=True, slots=True)
class Sides:
    """A side of the images in pixels, as they are stored."""

    least: int
    median: float
    most: int


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Images whose stored content is the same.

    Attributes:
        extra: images that are there already, in whichever split.
        across_splits: different contents that lie in several splits: what is tested was then trained.
        across_classes: different contents that have several labels.
        first_across: two places of the first content in several splits, or ().
    """

    extra: int
    across_splits: int
    across_classes: int
    first_across: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DataSummary:
    """What a data source holds.

    Attributes:
        name: of the folder, file or data set.
        kind: of place.
        classes: the class names.
        counts: the images of each class, per split.
        widths, heights: of the images; None where they are not known.
        modes: how many images there are of each of Pillow's pixel formats.
        unusable: why each file that was left out cannot be used, by relative path.
        duplicates: None where they were not looked for.
        decode_seconds: what decoding all images once takes with one core, by a sample; None where nothing is decoded.
    """

    name: str
    kind: DataKind
    classes: tuple[str, ...]
    counts: Mapping[Split, list[int]]
    widths: Sides | None
    heights: Sides | None
    modes: Mapping[str, int]
    unusable: Mapping[str, str]
    duplicates: Duplicates | None
    decode_seconds: float | None

    @property
    def images(self) -> int:
        """How many images there are."""
        return sum(sum(counts) for counts in self.counts.values())

    @property
    def class_totals(self) -> list[int]:
        """The images of each class in all splits."""
        return [sum(counts) for counts in zip(*self.counts.values(), strict=True)]


@dataclass(frozen=True, slots=True)
class Imbalance:
    """The smallest and the largest class of a split, the first of equals."""

    smallest: str
    least: int
    largest: str
    most: int

    @property
    def ratio(self) -> float:
        """How many times as many images the largest class has."""
        return self.most / max(1, self.least)


def measure_imbalance(classes: tuple[str, ...], counts: list[int]) -> Imbalance:
    """Returns the extremes of the images per class."""
    smallest, largest = counts.index(min(counts)), counts.index(max(counts))
    return Imbalance(classes[smallest], counts[smallest], classes[largest], counts[largest])


def summarise(source: DataSource, *, decode_all: bool = False) -> DataSummary:
    """Returns what a source holds; reads every file once for its hash, and decodes a few.

    Args:
        source: the images.
        decode_all: whether all are decoded, to find those whose data is cut off behind a good header.

    Raises:
        DataError: a file cannot be read.
    """
    stored = source if isinstance(source, StoredImages) else None
    decode_seconds = None if stored is None else _estimate_decoding(stored, decode_all)
    facts = [] if stored is None else _list_facts(stored)
    return DataSummary(
        name=source.name,
        kind=source.kind,
        classes=source.classes,
        counts={split: source.class_counts(split) for split in Split},
        widths=_measure_sides([fact.width for fact in facts]),
        heights=_measure_sides([fact.height for fact in facts]),
        modes=dict(Counter(fact.mode for fact in facts).most_common()),
        unusable={} if stored is None else dict(sorted(stored.skip_reasons.items())),
        duplicates=None if stored is None else _find_duplicates(stored),
        decode_seconds=decode_seconds,
    )


def _list_facts(source: StoredImages) -> list[ImageFacts]:
    facts = []
    with quiet_pillow():
        for split in Split:
            for item in source.items(split):
                try:
                    facts.append(source.store.check(item.row))
                except BrokenImageError as error:
                    source.leave_out(item, str(error))
    return facts


def _measure_sides(values: list[int]) -> Sides | None:
    return Sides(min(values), statistics.median(values), max(values)) if values else None


def _find_duplicates(source: StoredImages) -> Duplicates:
    first: dict[str, tuple[Split, Item]] = {}
    extra = 0
    across: dict[str, tuple[str, str]] = {}
    labels: set[str] = set()
    for split in Split:
        for item, digest in source.digested(split):
            if digest not in first:
                first[digest] = (split, item)
                continue
            extra += 1
            earlier_split, earlier = first[digest]
            if earlier_split is not split:
                across.setdefault(digest, (source.store.short_place(earlier.row), source.store.short_place(item.row)))
            if earlier.label != item.label:
                labels.add(digest)
    return Duplicates(extra, len(across), len(labels), next(iter(across.values()), ()))


def _estimate_decoding(source: StoredImages, decode_all: bool) -> float | None:
    """Returns the seconds that one core takes to decode all images, from a sample spread over them."""
    items = [item for split in Split for item in source.items(split)]
    sample = items if decode_all else items[:: max(1, len(items) // _DECODE_SAMPLES)]
    started, decoded = time.perf_counter(), 0
    with quiet_pillow():
        for item in sample:
            try:
                source.store.decode(item.row, resolution=DECODE_RESOLUTION)
                decoded += 1
            except BrokenImageError as error:
                source.leave_out(item, str(error))
    return (time.perf_counter() - started) / decoded * len(items) if decoded else None
