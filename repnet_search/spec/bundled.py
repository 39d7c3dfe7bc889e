"""Files that travel with the package: the search spaces and the study browser's pages.

In a source tree both folders stand at the top; a wheel carries them inside the package.
"""

from __future__ import annotations

from pathlib import Path

from repnet_search.errors import SpecError, suggest
from repnet_search.spec.files import load_spec
from repnet_search.spec.space import SpaceSpec

_PACKAGE = Path(__file__).resolve().parents[1]


def bundled_folder(name: str) -> Path:
    """Returns the folder of the wheel, or the one of the source tree."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def list_spaces() -> tuple[Path, ...]:
    """Returns the files of the search spaces that come with the package."""
    return tuple(sorted(bundled_folder("search_spaces").glob("*.yaml")))


def load_space(name_or_path: str) -> SpaceSpec:
    """Returns a search space: one of `list_spaces` by its name, or a file.

    Raises:
        SpecError: there is neither, or the file is not a space.
    """
    bundled = {path.stem: path for path in list_spaces()}
    path = Path(name_or_path)
    if name_or_path in bundled and not path.is_file():
        path = bundled[name_or_path]
    elif not path.exists() and path.suffix == "":
        raise SpecError(
            f"A space is a YAML file or one of {', '.join(bundled)}, but got {name_or_path!r}."
            + suggest(name_or_path, bundled)
        )
    return load_spec(SpaceSpec, path)
