"""What every data source offers: named splits, image sets, and an identity of what is trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import torch


class Split(StrEnum):
    """The three uses of an image; a search trains and validates, and reads the test set once, at its end."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class DataKind(StrEnum):
    """Where images come from."""

    EMBEDDED = "embedded"
    FOLDER = "folder"
    NPZ = "npz"
    TORCHVISION = "torchvision"


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images and their labels; sets that a source keeps are shared, so nobody writes into them.

    Attributes:
        images: uint8 of N 3 H W, values 0 to 255.
        labels: int64 of N, indices into the source's `classes`.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        """Returns the number of images, N."""
        return self.labels.shape[0]


class DataSource(Protocol):
    """Labelled images in three fixed splits, decoded at whatever resolution a design asks for."""

    @property
    def name(self) -> str:
        """Returns "digits", or the name of the folder, file or data set."""
        ...

    @property
    def kind(self) -> DataKind:
        """Returns where the images come from."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Returns the class names; labels index into them."""
        ...

    @property
    def validation_held_out(self) -> bool:
        """Returns whether the validation images were taken from the training images, not given as such."""
        ...

    @property
    def skipped(self) -> tuple[str, ...]:
        """Returns the sorted relative paths of the files left out so far (only with skip_broken)."""
        ...

    def class_counts(self, split: Split) -> list[int]:
        """Returns the number of images of each class in `split`, less those found broken so far."""
        ...

    def sha256(self) -> str:
        """Returns the hex digest of the training and validation images, their labels and splits.

        It depends neither on the resolution nor on where the images lie.
        """
        ...

    def count(self, split: Split) -> int:
        """Returns the number of images in `split`, less those found broken so far."""
        ...

    def load(self, split: Split, *, resolution: int) -> ImageSet:
        """Returns the whole split at `resolution` x `resolution` pixels; training and validation sets are kept.

        Raises:
            DataError: an image cannot be decoded.
        """
        ...

    def batches(self, split: Split, *, resolution: int, batch: int) -> Iterator[ImageSet]:
        """Yields the split in sets of at most `batch` images and keeps none of them.

        Raises:
            DataError: an image cannot be decoded.
        """
        ...
