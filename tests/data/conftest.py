"""Small image folders for the tests of repnet_search.data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

MakeClass = Callable[..., Path]


def write_image(path: Path, *, value: int = 0, size: tuple[int, int] = (8, 8)) -> Path:
    """Returns the path of an image of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value % 256, value // 256 % 256, 7)).save(path)
    return path


@pytest.fixture
def make_class(tmp_path: Path) -> MakeClass:
    """Returns a function that writes `count` images into tmp_path/folder."""

    def make(folder: str, *, count: int, suffix: str = ".png") -> Path:
        for index in range(count):
            write_image(tmp_path / folder / f"{index:03d}{suffix}", value=index)
        return tmp_path / folder

    return make


@pytest.fixture
def flowers(tmp_path: Path, make_class: MakeClass) -> Path:
    """Returns a folder with three classes of 10, 20 and 30 images."""
    for index, name in enumerate(("daisy", "rose", "tulip")):
        make_class(name, count=10 * (index + 1))
    return tmp_path
