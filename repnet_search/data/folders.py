"""A user's folders of images: DIR/CLASS/* or DIR/train/CLASS/* with val/ and test/ beside it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from repnet_search.data.decode import BrokenImageError, decode_image, quiet_pillow
from repnet_search.data.scan import SKIP_HINT, ImageFile, Scan, scan_folder
from repnet_search.data.source import ImageSet, Split
from repnet_search.data.splits import SHARE, assign_splits, name_key, proxy_counts
from repnet_search.errors import DataError

_DECODING_THREADS = 2


class ImageFolders:
    """Images in folders, one per class; decoded when they are asked for.

    Test set: test/, else val/, else 20 % of each class. Validation: val/ where there is also test/, else 20 % of
    what is left to train. A hash of the file's name decides (see splits.py), never a seed.
    """

    def __init__(self, path: Path, *, proxy_images: int | None = None, skip_broken: bool = False) -> None:
        """Lists the files and reads their headers, but no pixels.

        Args:
            path: DIR with DIR/CLASS/* or DIR/train/CLASS/* in it.
            proxy_images: training and validation images together that are used; None uses all.
            skip_broken: whether files that cannot be used are left out and noted, instead of refused.

        Raises:
            DataError: the folder cannot be used as it is, or proxy_images is too small.
        """
        self._root = Path(path)
        self._skip_broken = skip_broken
        scan = scan_folder(self._root, skip_broken=skip_broken)
        self.name = os.path.basename(os.path.abspath(path)) or "images"
        self.classes = scan.classes
        self._files = _split_files(scan, proxy_images=proxy_images)
        self._skipped = set(scan.skipped)
        self._undecodable: set[str] = set()
        self._kept: dict[tuple[Split, int], ImageSet] = {}
        self._sha256: str | None = None

    @property
    def skipped(self) -> tuple[str, ...]:
        """Returns the sorted paths, relative to the folder, of the files left out so far."""
        return tuple(sorted(self._skipped))

    def sha256(self) -> str:
        """Returns the hex digest of the training and validation files, their classes and splits.

        A file that skip_broken leaves out only when it is decoded still counts, so the digest never changes.
        """
        if self._sha256 is None:
            digest = hashlib.sha256()
            for line in sorted(self._identities()):
                digest.update(line)
            self._sha256 = digest.hexdigest()
        return self._sha256

    def count(self, split: Split) -> int:
        """Returns the number of images in `split`, less those found broken so far."""
        return len(self._usable(split))

    def load(self, split: Split, *, resolution: int) -> ImageSet:
        """Returns the whole split; training and validation sets are decoded once per resolution and kept.

        Raises:
            DataError: an image cannot be decoded, or (with skip_broken) a class has none left.
        """
        if (split, resolution) in self._kept:
            return self._kept[split, resolution]
        loaded = self._decode(self._usable(split), resolution=resolution)
        if split is not Split.TEST:
            self._check_classes_left(loaded, split=split)
            self._kept[split, resolution] = loaded
        return loaded

    def batches(self, split: Split, *, resolution: int, batch: int) -> Iterator[ImageSet]:
        """Yields the split in sets of at most `batch` images and keeps none of them.

        Raises:
            DataError: an image cannot be decoded.
        """
        files = self._usable(split)
        for start in range(0, len(files), batch):
            decoded = self._decode(files[start : start + batch], resolution=resolution)
            if len(decoded):
                yield decoded

    def _usable(self, split: Split) -> list[ImageFile]:
        """Returns the split's files without those found broken so far."""
        return [file for file in self._files[split] if file.path not in self._undecodable]

    def _identities(self) -> Iterator[bytes]:
        """Yields one line per training and validation file: split, class, name and the sha256 of its bytes."""
        for split in (Split.TRAIN, Split.VALIDATION):
            for file in self._files[split]:
                try:
                    content = hashlib.sha256(Path(file.path).read_bytes()).hexdigest()
                except OSError as error:
                    raise self._unusable_error(file, reason=f"cannot be read ({error.strerror})") from error
                parts = (name_key(split), name_key(self.classes[file.label]), name_key(file.name), content.encode())
                yield b"\0".join(parts) + b"\n"

    def _decode(self, files: list[ImageFile], *, resolution: int) -> ImageSet:
        """Returns the files' images in their order, into one tensor that is allocated beforehand."""
        images = torch.empty((len(files), 3, resolution, resolution), dtype=torch.uint8)
        pixels = images.numpy()

        def fill(row: int) -> BrokenImageError | None:
            try:
                pixels[row] = decode_image(files[row].path, resolution=resolution)
            except BrokenImageError as error:
                return error
            return None

        kept = []
        pool = ThreadPoolExecutor(_DECODING_THREADS)
        try:
            with quiet_pillow():
                for row, error in enumerate(pool.map(fill, range(len(files)))):
                    if error is None:
                        kept.append(row)
                    else:
                        self._leave_out(files[row], error=error)
        finally:
            pool.shutdown(cancel_futures=True)  # an error or Ctrl-C must not wait for thousands of images
        labels = torch.tensor([files[row].label for row in kept], dtype=torch.int64)
        return ImageSet(images if len(kept) == len(files) else images[kept], labels)

    def _leave_out(self, file: ImageFile, *, error: BrokenImageError) -> None:
        """Notes a file that cannot be decoded, or raises DataError unless broken files are skipped."""
        if not self._skip_broken:
            raise self._unusable_error(file, reason=str(error)) from error
        self._undecodable.add(file.path)
        self._skipped.add(os.path.relpath(file.path, self._root).replace(os.sep, "/"))

    def _unusable_error(self, file: ImageFile, *, reason: str) -> DataError:
        """Returns the error that names one file."""
        return DataError(
            f"Every image must be readable, but '{file.path}' {reason}; repair it or move it away, {SKIP_HINT}."
        )

    def _check_classes_left(self, loaded: ImageSet, *, split: Split) -> None:
        """Raises DataError where all of a class's images in a split turned out to be broken."""
        missing = sorted(set(range(len(self.classes))) - set(loaded.labels.tolist()))
        if missing:
            raise DataError(
                f"Every class needs images in every split, but all {split} images of '{self.classes[missing[0]]}' "
                f"in '{self._root}' are broken; repair them or add others."
            )


def _split_files(scan: Scan, *, proxy_images: int | None) -> dict[Split, list[ImageFile]]:
    """Returns the files of all three splits, of a proxy where proxy_images is given, by label and name."""
    hold_out_test, hold_out_validation = Split.TEST not in scan.files, Split.VALIDATION not in scan.files
    pools = {split: _by_class(files, classes=len(scan.classes)) for split, files in scan.files.items()}
    _check_enough(scan, needed=1 + hold_out_test + hold_out_validation, per_class=pools[Split.TRAIN])
    splits: dict[Split, list[list[ImageFile]]] = {split: [] for split in Split}
    for pool, per_class in pools.items():
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
    flat = {split: [file for files in per_class for file in files] for split, per_class in splits.items()}
    return {split: sorted(files, key=lambda file: (file.label, file.name)) for split, files in flat.items()}


def _by_class(files: list[ImageFile], *, classes: int) -> list[dict[str, ImageFile]]:
    """Returns the files by name for each class."""
    found: list[dict[str, ImageFile]] = [{} for _ in range(classes)]
    for file in files:
        found[file.label][file.name] = file
    return found


def _check_enough(scan: Scan, *, needed: int, per_class: list[dict[str, ImageFile]]) -> None:
    """Raises DataError unless each class has one image for each split that is taken from it."""
    for name, files in zip(scan.classes, per_class, strict=True):
        if len(files) < needed:
            uses = "train, validate and test" if needed == 3 else "train and validate"
            raise DataError(
                f"Every class needs at least {needed} images, one each to {uses}, but '{name}' has {len(files)}; "
                f"add images to it or remove its folder."
            )


def _take_proxy(
    splits: dict[Split, list[list[ImageFile]]], *, proxy_images: int, validation_share: float | None
) -> None:
    """Cuts the training and validation files down to proxy_images in all."""
    train, validation = proxy_counts(
        train=[len(files) for files in splits[Split.TRAIN]],
        validation=[len(files) for files in splits[Split.VALIDATION]],
        proxy_images=proxy_images,
        validation_share=validation_share,
    )
    for split, counts in ((Split.TRAIN, train), (Split.VALIDATION, validation)):
        splits[split] = [files[:count] for files, count in zip(splits[split], counts, strict=True)]
