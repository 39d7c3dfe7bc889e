"""A bundle on images: accuracy per class and what is taken for what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from repnet_search.data import DataSource, Split
from repnet_search.errors import DataError, suggest
from repnet_search.export.bundle import BundleModel
from repnet_search.spec.training import Metric

_BATCH = 64
_MOST_LABELS_NAMED = 10


@dataclass(frozen=True)
class Evaluation:
    """How many images of a true label were put into a predicted one, by (true, predicted); pairs without are left out.

    So that ten thousand labels need no matrix of a hundred million counts.
    """

    labels: tuple[str, ...]
    pairs: Mapping[tuple[int, int], int]

    @property
    def images(self) -> int:
        """How many images were seen."""
        return sum(self.pairs.values())

    @property
    def confusion(self) -> Tensor:
        """The counts as a matrix (labels, labels), rows true and columns predicted."""
        matrix = torch.zeros(len(self.labels), len(self.labels), dtype=torch.int64)
        for (true, predicted), count in self.pairs.items():
            matrix[true, predicted] = count
        return matrix

    @property
    def mistakes(self) -> list[tuple[str, str, int]]:
        """True label, predicted label and count of what went wrong, the most frequent first."""
        wrong = [(count, pair) for pair, count in self.pairs.items() if pair[0] != pair[1]]
        ranked = sorted(wrong, key=lambda entry: (-entry[0], entry[1]))
        return [(self.labels[true], self.labels[predicted], count) for count, (true, predicted) in ranked]

    @property
    def accuracy(self) -> float:
        """The share of images put into their class."""
        return sum(count for (true, predicted), count in self.pairs.items() if true == predicted) / self.images

    @property
    def balanced_accuracy(self) -> float:
        """The mean accuracy of the classes that have images."""
        shares = [share for share in self.class_accuracies if share is not None]
        return sum(shares) / len(shares)

    @cached_property
    def class_counts(self) -> list[int]:
        """The images of each class."""
        totals: Counter[int] = Counter()
        for (true, _), count in self.pairs.items():
            totals[true] += count
        return [totals[label] for label in range(len(self.labels))]

    @cached_property
    def class_accuracies(self) -> list[float | None]:
        """The accuracy of each class, None where it has no image."""
        totals = enumerate(self.class_counts)
        return [self.pairs.get((label, label), 0) / total if total else None for label, total in totals]

    def value(self, metric: Metric) -> float:
        """Returns the accuracy that a metric means."""
        return self.accuracy if metric is Metric.ACCURACY else self.balanced_accuracy


def evaluate_bundle(model: BundleModel, source: DataSource, *, splits: tuple[Split, ...]) -> Evaluation:
    """Returns how a bundle does on the images of some splits.

    Raises:
        DataError: a class of the images is none of the bundle's labels.
    """
    places = {name: place for place, name in enumerate(model.labels)}
    unknown = next((name for name in source.classes if name not in places), None)
    if unknown is not None:
        named = ", ".join(model.labels[:_MOST_LABELS_NAMED]) + ", …" * (len(places) > _MOST_LABELS_NAMED)
        raise DataError(
            f"Every class of the images must be one of the bundle's labels ({named}), but {unknown!r} is not."
            f"{suggest(unknown, model.labels)}"
        )
    to_label = torch.tensor([places[name] for name in source.classes])
    pairs: Counter[tuple[int, int]] = Counter()
    with torch.inference_mode():
        for split in splits:
            for batch in source.batches(split, resolution=model.resolution, batch=_BATCH):
                predicted = model(batch.images).argmax(dim=1)
                pairs.update(zip(to_label[batch.labels].tolist(), predicted.tolist(), strict=True))
    return Evaluation(model.labels, pairs)
