"""The contact sheet shows each class's images under its name."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repnet_search.data import EmbeddedDigits, ImageFolders
from repnet_search.errors import UsageError
from repnet_search.report.contact_sheet import CELL_PIXELS, PER_CLASS, create_sheet, save_contact_sheet

COLOURS = {"a<b>": (200, 30, 30), "x$y$z": (30, 200, 30), "日本": (30, 30, 200)}


@pytest.fixture
def colours(tmp_path: Path) -> ImageFolders:
    """Returns three classes of one colour each, of 5, 20 and 35 images."""
    for place, (name, colour) in enumerate(COLOURS.items()):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(5 + 15 * place):
            Image.new("RGB", (8, 8), colour).save(tmp_path / "data" / name / f"{index}.png")
    return ImageFolders(tmp_path / "data")


def test_a_row_per_class_with_images_of_its_own(colours: ImageFolders) -> None:
    sheet = create_sheet(colours, most_classes=20)
    assert [(row.name, row.images) for row in sheet.rows] == [("a<b>", 5), ("x$y$z", 20), ("日本", 35)]
    assert "3 classes, 60 images" in sheet.title
    for row in sheet.rows:
        assert 1 <= len(row.pixels) <= PER_CLASS
        assert row.pixels.shape[1:] == (3, CELL_PIXELS, CELL_PIXELS)
        assert np.unique(row.pixels.reshape(len(row.pixels), 3, -1), axis=2)[0, :, 0].tolist() == list(
            COLOURS[row.name]
        )


def test_of_many_classes_some_are_shown() -> None:
    sheet = create_sheet(EmbeddedDigits(), most_classes=4)
    assert [row.name for row in sheet.rows] == ["0", "3", "6", "9"]
    assert "digits: 4 of 10 classes, 1797 images" in sheet.title


def test_the_png_holds_every_colour_in_its_row(colours: ImageFolders, tmp_path: Path) -> None:
    save_contact_sheet(tmp_path / "sheet.png", colours)
    with Image.open(tmp_path / "sheet.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    places = [np.argwhere((pixels == colour).all(axis=2)) for colour in COLOURS.values()]
    rows = [(found[:, 0].min(), found[:, 0].max()) for found in places]
    assert rows[0][1] < rows[1][0] <= rows[1][1] < rows[2][0]
    assert all(bottom - top == CELL_PIXELS - 1 for top, bottom in rows)  # shown pixel by pixel
    assert len({found[:, 1].min() for found in places}) == 1


def test_the_page_needs_no_network_and_quotes_names(colours: ImageFolders, tmp_path: Path) -> None:
    save_contact_sheet(tmp_path / "sheet.html", colours)
    page = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    assert "http" not in page
    assert "<td>a&lt;b&gt;</td>" in page
    assert "<td>日本</td>" in page
    strips = [Image.open(io.BytesIO(base64.b64decode(text))) for text in re.findall(r"base64,([^\"]+)", page)]
    assert [strip.getpixel((5, 5)) for strip in strips] == list(COLOURS.values())


def test_another_suffix_is_refused(colours: ImageFolders, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.html or \.png"):
        save_contact_sheet(tmp_path / "sheet.pdf", colours)
