"""Other divisions of the same images into training and validation: few validation images favour some designs by chance.

Division k validates on the k-th of as many disjoint sets as there are, each as large, class by class, as the first one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from repnet_search.data.source import DataKind, DataSource, ImageSet, Split

ENOUGH_IMAGES = 2000
"""So many validation images tell designs apart to a point or so (a standard error of 1.1 points at most)."""


def divides_anew(source: DataSource) -> bool:
    """Returns whether another division is worth it, and allowed: where validation images were given, they are meant."""
    return source.validation_held_out and source.count(Split.VALIDATION) < ENOUGH_IMAGES


class DividedSource:
    """A source whose training and validation images are divided in another way; its test images are the same."""

    def __init__(self, source: DataSource, *, division: int) -> None:
        self.name: str = source.name
        self.kind: DataKind = source.kind
        self.classes: tuple[str, ...] = source.classes
        self.validation_held_out = source.validation_held_out
        self._source = source
        self._division = division
        self._kept: dict[tuple[Split, int], ImageSet] = {}

    @property
    def skipped(self) -> tuple[str, ...]:
        """Returns what the source left out so far."""
        return self._source.skipped

    def class_counts(self, split: Split) -> list[int]:
        """Returns the number of images of each class, which a division does not change."""
        return self._source.class_counts(split)

    def count(self, split: Split) -> int:
        """Returns the number of images, which a division does not change."""
        return self._source.count(split)

    def sha256(self) -> str:
        """Returns the hex digest of the images and their division."""
        return hashlib.sha256(f"{self._source.sha256()} {self._division}".encode()).hexdigest()

    def load(self, split: Split, *, resolution: int) -> ImageSet:
        """Returns the whole split at `resolution` x `resolution` pixels; raises as the source does."""
        if split is Split.TEST:
            return self._source.load(split, resolution=resolution)
        if (split, resolution) not in self._kept:
            train, validation = (
                self._source.load(part, resolution=resolution) for part in (Split.TRAIN, Split.VALIDATION)
            )
            labels = torch.cat([train.labels, validation.labels])
            images = torch.cat([train.images, validation.images])
            validates = _choose(labels, validation.labels, division=self._division)
            for part, rows in ((Split.TRAIN, ~validates), (Split.VALIDATION, validates)):
                self._kept[part, resolution] = ImageSet(images[rows], labels[rows])
        return self._kept[split, resolution]

    def batches(self, split: Split, *, resolution: int, batch: int) -> Iterator[ImageSet]:
        """Yields the split in sets of at most `batch` images; raises as the source does."""
        if split is Split.TEST:
            yield from self._source.batches(split, resolution=resolution, batch=batch)
            return
        whole = self.load(split, resolution=resolution)
        for start in range(0, len(whole), batch):
            yield ImageSet(whole.images[start : start + batch], whole.labels[start : start + batch])


def _choose(labels: Tensor, validation: Tensor, *, division: int) -> Tensor:
    """Returns which images (N,) validate: of each class as many as in the first division, the division-th so many."""
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique().tolist():
        members = torch.nonzero(labels == label).flatten()
        count = int((validation == label).sum())
        shuffled = members[torch.randperm(len(members), generator=torch.Generator().manual_seed(label))]
        places = (division * count + torch.arange(count)) % len(members)
        chosen[shuffled[places]] = True
    return chosen
