"""A folder of images: its layout, its classes and files, all checked before anything is trained."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from repnet_search.data.decode import SKIP_HINT, SUFFIXES, BrokenImageError, describe_read_error, quiet_pillow
from repnet_search.data.file_index import FileIndex
from repnet_search.data.source import Split
from repnet_search.data.stores import printable
from repnet_search.errors import DataError, suggest

MAX_CLASSES = 10_000

_SPLIT_FOLDERS = {
    "train": Split.TRAIN,
    "val": Split.VALIDATION,
    "valid": Split.VALIDATION,
    "validation": Split.VALIDATION,
    "test": Split.TEST,
}
# Not read as splits, but two "classes" of these names are most likely splits that would quietly become labels.
_NEAR_SPLIT_FOLDERS = frozenset({*_SPLIT_FOLDERS, "training", "testing", "eval", "evaluation", "dev"})
_LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_LAYOUT_HINT = "give a folder with one folder of images per class (DIR/CLASS/*.jpg or DIR/train/CLASS/*.jpg)"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image file.

    Attributes:
        path: where it lies.
        label: the index of its class.
        name: its path relative to its class's folder, with slashes.
    """

    path: str
    label: int
    name: str


@dataclass(frozen=True, slots=True)
class Scan:
    """What a folder holds.

    Attributes:
        classes: the sorted class names.
        files: the usable files per split that has a folder of its own; TRAIN is always there.
        skipped: why each file that was left out cannot be used, by its path relative to the folder.
    """

    classes: tuple[str, ...]
    files: Mapping[Split, list[ImageFile]]
    skipped: Mapping[str, str]


def scan_folder(root: Path, *, index: FileIndex, skip_broken: bool) -> Scan:
    """Returns the classes and image files in `root`; reads the headers that the index does not have.

    Raises:
        DataError: the folder, its layout or a file in it cannot be used.
    """
    _check_root(root)
    bases = _split_bases(root)
    classes = _class_names(root, bases=bases)
    files: dict[Split, list[ImageFile]] = {}
    unusable: dict[str, str] = {}
    with quiet_pillow():
        for split, base in bases.items():
            unusable |= dict.fromkeys(_loose_images(base), "lies in no class's folder")
            found = [file for label, name in enumerate(classes) for file in _walk(base / name, label=label)]
            reasons = {file.path: reason for file in found if (reason := _why_unusable(file.path, index))}
            unusable |= reasons
            files[split] = [file for file in found if file.path not in reasons]
            _check_all_classes_have_files(found, classes=classes, base=base)
    index.save()
    skipped = {printable(index.relative(path).replace(os.sep, "/")): reason for path, reason in unusable.items()}
    if skipped and not skip_broken:
        raise _unusable_error(root, unusable=skipped)
    for split, base in bases.items():
        _check_all_classes_have_files(files[split], classes=classes, base=base)
    return Scan(classes, files, dict(sorted(skipped.items())))


def _check_root(root: Path) -> None:
    """Raises DataError unless `root` is a folder."""
    if not root.exists():
        if root.name == "digits":
            raise DataError("The embedded digits are what is used without --data; leave it out.")
        near = suggest(root.name, _names_beside(root))
        raise DataError(f"The images must be in a folder, but '{root}' does not exist; {_LAYOUT_HINT}.{near}")
    if not root.is_dir():
        raise DataError(f"The images must be in a folder or an .npz file, but '{root}' is a file; {_LAYOUT_HINT}.")


def _names_beside(root: Path) -> list[str]:
    """Returns the names in the folder that `root` would be in; none where it cannot be read."""
    try:
        return os.listdir(root.parent)
    except OSError:
        return []


def _split_bases(root: Path) -> dict[Split, Path]:
    """Returns the folder of each split that has one; {TRAIN: root} where the classes lie in `root` itself."""
    folders = _folders(root)
    splits = [name for name in folders if name.casefold() in _SPLIT_FOLDERS]
    train = next((name for name in splits if name.casefold() == "train"), None)
    others = [name for name in folders if name not in splits]
    if train is None or (others and _loose_images(root / train)):  # then "train" is a class, beside "bus" and "car"
        if folders and all(name.casefold() in _NEAR_SPLIT_FOLDERS for name in folders):
            raise DataError(
                f"Splits must be named train, val and test, but '{root}' holds {_listed(folders)}, which would be read "
                f"as classes; rename these folders."
            )
        return {Split.TRAIN: root}
    if others:
        raise DataError(
            f"Beside train/ only val/ and test/ may stand, but '{root}' also holds '{others[0]}'; move it away."
        )
    return _by_rule(root, splits)


def _by_rule(root: Path, names: list[str]) -> dict[Split, Path]:
    """Returns the folder of each split: without a test/ folder, val/ is the test set."""
    bases: dict[Split, Path] = {}
    for name in names:
        split = _SPLIT_FOLDERS[name.casefold()]
        if split in bases:
            raise DataError(
                f"A split has one folder, but '{root}' holds '{bases[split].name}' and '{name}'; keep one of them."
            )
        bases[split] = root / name
    if Split.TEST not in bases and Split.VALIDATION in bases:
        bases[Split.TEST] = bases.pop(Split.VALIDATION)
    return bases


def _class_names(root: Path, *, bases: Mapping[Split, Path]) -> tuple[str, ...]:
    """Returns the sorted class names, the same in every split's folder."""
    train = bases[Split.TRAIN]
    classes = _folders(train)
    if not classes:
        what = "images but no class folders" if _loose_images(train) else "no images"
        raise DataError(f"Each class needs a folder of its own, but '{train}' holds {what}; {_LAYOUT_HINT}.")
    if len(classes) == 1:
        inner = root / classes[0]
        deeper = train == root and len(_folders(inner)) > 1
        way_out = f"give '{inner}' if its folders are the classes" if deeper else "add a folder for another class"
        raise DataError(
            f"Training needs at least two classes, but '{train}' holds one folder, '{classes[0]}'; {way_out}."
        )
    if len(classes) > MAX_CLASSES:
        raise DataError(
            f"At most {MAX_CLASSES} classes can be trained, but '{train}' holds {len(classes)} folders; give a folder "
            f"with fewer, or one whose folders are the classes."
        )
    odd = next((name for name in classes if printable(name) != name), None)
    if odd is not None:
        raise DataError(f"Class names must be UTF-8, but '{printable(train / odd)}' is not; rename that folder.")
    for base in bases.values():
        _check_same_classes(classes, base=base, train=train)
    return tuple(classes)


def _check_same_classes(classes: list[str], *, base: Path, train: Path) -> None:
    """Raises DataError unless `base` has exactly the training classes."""
    here = set(_folders(base))
    for name in sorted(here.symmetric_difference(classes)):
        has, lacks = (base.name, train.name) if name in here else (train.name, base.name)
        raise DataError(
            f"Every split must have the same classes, but {has}/ has class '{name}' and {lacks}/ lacks it; "
            f"add its images to {lacks}/ or move them out of {has}/."
        )


def _check_all_classes_have_files(files: list[ImageFile], *, classes: tuple[str, ...], base: Path) -> None:
    """Raises DataError unless each class has at least one file."""
    missing = sorted(set(range(len(classes))) - {file.label for file in files})
    if missing:
        raise DataError(
            f"Every class needs images, but '{base / classes[missing[0]]}' holds none that can be used; "
            f"add some, or remove that folder."
        )


def _why_unusable(path: str, index: FileIndex) -> str | None:
    """Returns why the file cannot be used, or None."""
    if os.path.splitext(path)[1].lower() not in SUFFIXES:
        return _why_lost(path) or f"is no image file ({', '.join(sorted(suffix[1:] for suffix in SUFFIXES))})"
    try:
        index.check(path)
    except BrokenImageError as error:
        return str(error)
    return None


def _why_lost(path: str) -> str:
    """Returns why a link leads to no file; "" where the path is none."""
    try:
        os.stat(path)
    except OSError as error:
        return describe_read_error(error)
    return ""


def _unusable_error(root: Path, *, unusable: Mapping[str, str]) -> DataError:
    """Returns the error that names the first of the files that cannot be used."""
    path, reason = min(unusable.items())
    more = f" (as are {len(unusable) - 1} more files)" if len(unusable) > 1 else ""
    return DataError(
        f"Class folders must hold readable images alone, but '{root / path}' {reason}{more}; "
        f"repair it or move it away, {SKIP_HINT}."
    )


def _walk(folder: Path, *, label: int) -> Iterator[ImageFile]:
    """Yields the files in a class's folder and the folders in it; each real folder once, so that loops end.

    A link that leads to a folder above is not followed: it would make this class of all the others.
    """
    start = os.fspath(folder)
    above = [*Path(os.path.abspath(folder)).parents, *Path(os.path.realpath(folder)).parents]
    seen = {_identity(path) for path in above}
    waiting = deque([start])
    while waiting:
        current = waiting.popleft()
        identity = _identity(current)
        if identity in seen:
            continue
        seen.add(identity)
        for entry in _entries(current):
            if not _is_folder(entry):
                yield ImageFile(entry.path, label, entry.path[len(start) + 1 :].replace(os.sep, "/"))
            elif entry.is_symlink():
                waiting.append(entry.path)  # last, so that a folder keeps its own name where a link also leads to it
            else:
                waiting.appendleft(entry.path)


def _identity(folder: str | Path) -> tuple[int, int]:
    """Returns what two paths of the same folder share."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Returns whether the entry is a folder or leads to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """Returns what lies in a folder, by name, without hidden files and what systems leave behind."""
    try:
        with os.scandir(folder) as found:
            entries = [e for e in found if not e.name.startswith(".") and e.name.casefold() not in _LITTER]
    except OSError as error:
        raise DataError(
            f"Every folder must be readable, but '{folder}' is not ({error.strerror}); change its permissions."
        ) from error
    return sorted(entries, key=lambda entry: entry.name)


def _folders(folder: Path) -> list[str]:
    """Returns the names of the folders in a folder, sorted."""
    return [entry.name for entry in _entries(folder) if _is_folder(entry)]


def _loose_images(folder: Path) -> list[str]:
    """Returns the paths of the image files that lie in a folder itself; other files there do no harm."""
    entries = _entries(folder)
    return [e.path for e in entries if os.path.splitext(e.name)[1].lower() in SUFFIXES and not _is_folder(e)]


def _listed(names: list[str]) -> str:
    """Returns quoted names with commas."""
    return ", ".join(f"'{name}'" for name in names)
