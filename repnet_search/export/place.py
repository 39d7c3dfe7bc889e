"""Where a bundle goes: found out before the work whose result it holds, and never over anything but a bundle.

with hold_place(folder, force=False) as place:
    ...                                        # hours of training
    save_bundle(place, ...)                    # the folder has its name only from here on
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from repnet_search.errors import RepnetSearchError
from repnet_search.export.manifest import LEFT_BY_PYTHON

BUNDLE_FILES = frozenset(
    {
        "backbone.safetensors",
        "bundle.json",
        "calibration.json",
        "card.md",
        "design.yaml",
        "labels.txt",
        "manifest.json",
        "model.onnx",
        "model.py",
        "plan.h",
        "plan.json",
        "trained.safetensors",
    }
)
_OF_FORMAT_1 = frozenset({"README.md", "memory.json"})
_MARKS = {"manifest.json": {"format", "written_by", "files"}, "bundle.json": {"format", "design_id", "labels"}}
"""What says that a folder is a bundle: the manifest, or in format 1 bundle.json; and what is in it."""
_NEW, _OLD = "new", "old"


@dataclass(frozen=True, slots=True)
class BundlePlace:
    """A folder that can be written: the bundle grows in `draft`, beside it, until `finish` gives it its name."""

    folder: Path
    draft: Path
    force: bool

    def finish(self) -> None:
        """Gives the draft its name; a bundle that is there is moved aside first, and back where that fails.

        Raises:
            RepnetSearchError: the folder has meanwhile become something that is not replaced.
        """
        check_place(self.folder, force=self.force)
        aside = self.draft.with_name(_OLD)
        replaces = self.folder.exists()
        if replaces:
            self.folder.rename(aside)
        try:
            self.draft.rename(self.folder)
        except BaseException:
            if replaces:
                aside.rename(self.folder)
            raise


@contextmanager
def hold_place(folder: Path, *, force: bool) -> Iterator[BundlePlace]:
    """Yields the place of a bundle that is yet to be made; what is not finished leaves nothing.

    Args:
        folder: where to; its parents are made.
        force: whether a bundle that is there is replaced.

    Raises:
        RepnetSearchError: `check_place` refuses the folder, or it cannot be written.
    """
    try:
        check_place(folder, force=force)
        missing = [parent for parent in folder.parents if not parent.exists()]
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise RepnetSearchError(f"The folder {folder} cannot be written: {error.strerror}.") from error
    try:
        draft = beside / _NEW
        draft.mkdir()
        yield BundlePlace(folder, draft, force)
    finally:
        if folder.exists() or not (beside / _OLD).exists():  # else the bundle that was there is nowhere but in it
            shutil.rmtree(beside, ignore_errors=True)
        with suppress(OSError):  # the first that holds something ends it
            for parent in missing:
                parent.rmdir()


def check_place(folder: Path, *, force: bool) -> None:
    """Refuses a folder that a bundle must not take.

    Raises:
        RepnetSearchError: it is the current folder or holds it, is a file or a link, or is not empty without `force`,
            or with it and is no bundle.
    """
    # A link first: what it points to is somewhere else, and none of ours to replace.
    if folder.is_symlink():
        raise RepnetSearchError(f"A bundle needs a folder of its own, but {folder} is a link; name another one.")
    if folder.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise RepnetSearchError(
            f"A bundle needs a folder of its own, but {folder} is the current folder or holds it; name another one."
        )
    if not folder.exists():
        return
    if not folder.is_dir():
        raise RepnetSearchError(f"A bundle needs a folder of its own, but {folder} is a file; name another one.")
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise RepnetSearchError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    if not names:
        return
    if not force:
        raise RepnetSearchError(f"The folder {folder} exists already; name another one, or replace it with --force.")
    _refuse_foreign(folder, names)


def _refuse_foreign(folder: Path, names: list[str]) -> None:
    """Refuses to replace what is not wholly a bundle: --force must not cost anybody their own files."""
    if not _is_marked(folder):
        raise RepnetSearchError(
            f"--force replaces a bundle, but {folder} is none (it has no manifest.json of ours); name another folder."
        )
    known = BUNDLE_FILES | _OF_FORMAT_1 | {LEFT_BY_PYTHON}
    foreign = next((name for name in names if name not in known), None)
    if foreign is not None:
        raise RepnetSearchError(
            f"--force replaces a bundle, but {folder} also holds {foreign}, which would be lost; move it away, or name "
            "another folder."
        )


def _is_marked(folder: Path) -> bool:
    """Returns whether one of a folder's files is a bundle's mark that we wrote."""
    return any(keys <= _keys(folder / name) for name, keys in _MARKS.items())


def _keys(path: Path) -> set[str]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    return set(value) if isinstance(value, dict) else set()
