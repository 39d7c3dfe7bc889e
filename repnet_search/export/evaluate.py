"""A bundle on images: accuracy per class and the confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from repnet_search.data import DataSource, Split
from repnet_search.errors import DataError, suggest
from repnet_search.export.bundle import BundleModel

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Counts of (true, predicted) labels, shape (labels, labels)."""

    labels: tuple[str, ...]
    confusion: Tensor

    @property
    def images(self) -> int:
        """How many images were seen."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """The share of images put into their class."""
        return float(self.confusion.diagonal().sum()) / self.images

    @property
    def balanced_accuracy(self) -> float:
        """The mean accuracy of the classes that have images."""
        shares = [share for share in self.class_accuracies if share is not None]
        return sum(shares) / len(shares)

    @property
    def class_accuracies(self) -> list[float | None]:
        """The accuracy of each class, None where it has no image."""
        totals = self.confusion.sum(dim=1).tolist()
        hits = self.confusion.diagonal().tolist()
        return [hit / total if total else None for hit, total in zip(hits, totals, strict=True)]


def evaluate_bundle(model: BundleModel, source: DataSource, *, splits: tuple[Split, ...]) -> Evaluation:
    """Returns how a bundle does on the images of some splits.

    Raises:
        DataError: a class of the images is none of the bundle's labels.
    """
    unknown = [name for name in source.classes if name not in model.labels]
    if unknown:
        raise DataError(
            f"Every class of the images must be one of the bundle's labels ({', '.join(model.labels)}), but "
            f"{unknown[0]!r} is not.{suggest(unknown[0], model.labels)}"
        )
    to_label = torch.tensor([model.labels.index(name) for name in source.classes])
    count = len(model.labels)
    confusion = torch.zeros(count * count, dtype=torch.int64)
    with torch.inference_mode():
        for split in splits:
            for batch in source.batches(split, resolution=model.resolution, batch=_BATCH):
                predicted = model(batch.images).argmax(dim=1)
                confusion += torch.bincount(to_label[batch.labels] * count + predicted, minlength=count * count)
    return Evaluation(model.labels, confusion.view(count, count))
