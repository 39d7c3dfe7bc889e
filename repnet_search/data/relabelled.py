"""Images under the labels of a model that knows more classes than they have, or in another order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from repnet_search.data.source import DataKind, DataSource, ImageSet, Split


class RelabelledImages:
    """A source whose labels index into other classes, among which are all of its own."""

    def __init__(self, source: DataSource, classes: Sequence[str]) -> None:
        """Reads nothing.

        Args:
            source: the images.
            classes: the new classes.

        Raises:
            ValueError: a class of the source is none of them.
        """
        self.classes = tuple(classes)
        self._source = source
        self._places = torch.tensor([self.classes.index(name) for name in source.classes])

    @property
    def name(self) -> str:
        """Returns the source's name."""
        return self._source.name

    @property
    def kind(self) -> DataKind:
        """Returns where the images come from."""
        return self._source.kind

    @property
    def validation_held_out(self) -> bool:
        """Returns whether the validation images were taken from the training images."""
        return self._source.validation_held_out

    @property
    def skipped(self) -> tuple[str, ...]:
        """Returns the files left out so far."""
        return self._source.skipped

    def class_counts(self, split: Split) -> list[int]:
        """Returns the number of images of each class in `split`; 0 of one that the source lacks."""
        counts = [0] * len(self.classes)
        for place, count in zip(self._places.tolist(), self._source.class_counts(split), strict=True):
            counts[place] = count
        return counts

    def sha256(self) -> str:
        """Returns the source's digest: its images under its own labels."""
        return self._source.sha256()

    def count(self, split: Split) -> int:
        """Returns the number of images in `split`."""
        return self._source.count(split)

    def load(self, split: Split, *, resolution: int) -> ImageSet:
        """Returns the whole split with the new labels."""
        return self._relabel(self._source.load(split, resolution=resolution))

    def batches(self, split: Split, *, resolution: int, batch: int) -> Iterator[ImageSet]:
        """Yields the split in sets of at most `batch` images."""
        return map(self._relabel, self._source.batches(split, resolution=resolution, batch=batch))

    def _relabel(self, images: ImageSet) -> ImageSet:
        return ImageSet(images.images, self._places[images.labels])
