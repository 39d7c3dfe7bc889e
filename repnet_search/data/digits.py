"""The embedded digits: 1797 handwritten digits of 8 x 8 pixels (UCI, CC BY 4.0), so that a first run needs no data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib import resources

import numpy as np
import torch
from torch.nn import functional

from repnet_search.data.source import DataKind, ImageSet, Split
from repnet_search.data.splits import proxy_counts

TRAIN_PER_CLASS = 10
VALIDATION_PER_CLASS = 40


class EmbeddedDigits:
    """The embedded digits: per class 10 train, 40 validate, the rest is the test set.

    The order within a class is by the hash of the position in the file, not the file's, which goes writer by writer:
    ten neighbours would all be of the same hands.
    """

    def __init__(self, *, proxy_images: int | None = None) -> None:
        """Reads the file.

        Args:
            proxy_images: training and validation images together that are used; None uses all 500.

        Raises:
            DataError: proxy_images is too small.
        """
        self.name = "digits"
        self.kind = DataKind.EMBEDDED
        self.classes = tuple(str(digit) for digit in range(10))
        self.validation_held_out = True
        self.skipped: tuple[str, ...] = ()
        self._images, self._labels = _load_digits()
        self._indices = _split_indices(self._labels, proxy_images=proxy_images)
        self._kept: dict[tuple[Split, int], ImageSet] = {}

    def sha256(self) -> str:
        """Returns the hex digest of the training and validation images, their labels and splits."""
        digest = hashlib.sha256()
        for split in (Split.TRAIN, Split.VALIDATION):
            indices = self._indices[split]
            digest.update(f"{split}\0{len(indices)}\0".encode())
            digest.update(self._labels[indices].numpy().astype("<i8").tobytes())
            digest.update(self._images[indices].numpy().tobytes())
        return digest.hexdigest()

    def count(self, split: Split) -> int:
        """Returns the number of images in `split`."""
        return len(self._indices[split])

    def class_counts(self, split: Split) -> list[int]:
        """Returns the number of images of each digit in `split`."""
        return torch.bincount(self._labels[self._indices[split]], minlength=10).tolist()

    def load(self, split: Split, *, resolution: int) -> ImageSet:
        """Returns the whole split; training and validation sets are resized once per resolution and kept."""
        if (split, resolution) in self._kept:
            return self._kept[split, resolution]
        parts = list(self.batches(split, resolution=resolution, batch=256))
        loaded = ImageSet(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))
        if split is not Split.TEST:
            self._kept[split, resolution] = loaded
        return loaded

    def batches(self, split: Split, *, resolution: int, batch: int) -> Iterator[ImageSet]:
        """Yields the split in sets of at most `batch` images."""
        for indices in torch.split(self._indices[split], batch):
            yield ImageSet(_resize(self._images[indices], resolution=resolution), self._labels[indices])


def _load_digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the images (uint8 of N 8 8, 0 to 255) and the labels (int64 of N)."""
    with (
        resources.files("repnet_search.data").joinpath("embedded", "digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        values, labels = arrays["images"], arrays["labels"]
    # The file's values are 0 to 16; + 8 rounds to the nearest.
    images = ((values.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def _split_indices(labels: torch.Tensor, *, proxy_images: int | None) -> dict[Split, torch.Tensor]:
    """Returns the indices into the file of each split, class by class."""
    per_class = [
        torch.tensor(sorted(torch.nonzero(labels == digit).flatten().tolist(), key=_row_key)) for digit in range(10)
    ]
    train, validation = [TRAIN_PER_CLASS] * 10, [VALIDATION_PER_CLASS] * 10
    if proxy_images is not None:
        train, validation = proxy_counts(
            train=train, validation=validation, proxy_images=proxy_images, validation_share=None
        )
    first, last = TRAIN_PER_CLASS, TRAIN_PER_CLASS + VALIDATION_PER_CLASS
    return {
        Split.TRAIN: torch.cat([rows[:count] for rows, count in zip(per_class, train, strict=True)]),
        Split.VALIDATION: torch.cat([rows[first : first + n] for rows, n in zip(per_class, validation, strict=True)]),
        Split.TEST: torch.cat([rows[last:] for rows in per_class]),
    }


def _row_key(row: int) -> bytes:
    return hashlib.sha256(str(row).encode()).digest()


def _resize(images: torch.Tensor, *, resolution: int) -> torch.Tensor:
    """Returns grey images of N H W as uint8 of N 3 resolution resolution, bilinear, with three equal channels."""
    size = (resolution, resolution)
    resized = functional.interpolate(images[:, None].float(), size=size, mode="bilinear", align_corners=False)
    return resized.round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
