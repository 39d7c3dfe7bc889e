"""A contact sheet: a few training images of each class, as a network gets to see them."""

from __future__ import annotations

import base64
import html
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from repnet_search.data import DataSource, Split, StoredImages
from repnet_search.data.decode import BrokenImageError, quiet_pillow
from repnet_search.report.memory_plot import check_plot_path
from repnet_search.spec.files import save_bytes

CELL_PIXELS = 64
GAP_PIXELS = 4
PER_CLASS = 10
MOST_CLASSES = {".png": 20, ".html": 200}
_NAME_LETTERS = 28
_LETTER_INCHES, _MARGIN_INCHES, _DOTS_PER_INCH = 0.08, 0.15, 130

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One class: its name, its images in all splits, and some of its training images, uint8 of n 3 R R."""

    name: str
    images: int
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class ContactSheet:
    """Some classes of a source under a title."""

    title: str
    rows: tuple[SheetRow, ...]


def save_contact_sheet(path: Path, source: DataSource) -> None:
    """Writes the contact sheet, as an HTML page that needs no network or as PNG by the file's suffix.

    Raises:
        UsageError: another suffix.
    """
    suffix = check_plot_path(path)
    sheet = create_sheet(source, most_classes=MOST_CLASSES[suffix])
    save_bytes(path, _draw_png(sheet) if suffix == ".png" else _draw_html(sheet).encode())


def create_sheet(source: DataSource, *, most_classes: int) -> ContactSheet:
    """Returns up to PER_CLASS training images of each class; of many classes, some spread evenly over their order."""
    count = len(source.classes)
    labels = np.unique(np.linspace(0, count - 1, min(count, most_classes)).round().astype(int)).tolist()
    totals = [sum(counts) for counts in zip(*(source.class_counts(split) for split in Split), strict=True)]
    found = _pick_images(source, labels)
    rows = tuple(SheetRow(source.classes[label], totals[label], found[label]) for label in labels)
    shown = f"{count} classes" if len(labels) == count else f"{len(labels)} of {count} classes"
    return ContactSheet(
        f"{source.name}: {shown}, {sum(totals)} images; some training images of each, centre square at "
        f"{CELL_PIXELS} px",
        rows,
    )


def _pick_images(source: DataSource, labels: list[int]) -> dict[int, Pixels]:
    """Returns some images per label, spread over the class; unreadable ones are left out."""
    if not isinstance(source, StoredImages):
        loaded = source.load(Split.TRAIN, resolution=CELL_PIXELS)
        return {label: loaded.images[loaded.labels == label][:PER_CLASS].numpy() for label in labels}
    rows: dict[int, list[int]] = {label: [] for label in labels}
    for item in source.items(Split.TRAIN):
        if item.label in rows:
            rows[item.label].append(item.row)
    with quiet_pillow():
        return {label: _stack(list(_decode_some(source, found))) for label, found in rows.items()}


def _decode_some(source: StoredImages, rows: list[int]) -> Iterator[Pixels]:
    for row in rows[:: max(1, len(rows) // PER_CLASS)][:PER_CLASS]:
        try:
            yield source.store.decode(row, resolution=CELL_PIXELS)
        except BrokenImageError:
            continue


def _stack(images: list[Pixels]) -> Pixels:
    return np.stack(images) if images else np.empty((0, 3, CELL_PIXELS, CELL_PIXELS), dtype=np.uint8)


def _strip(row: SheetRow) -> Pixels:
    """Returns a row's images beside each other on white, H W 3."""
    step = CELL_PIXELS + GAP_PIXELS
    strip = np.full((CELL_PIXELS, PER_CLASS * step - GAP_PIXELS, 3), 255, dtype=np.uint8)
    for place, pixels in enumerate(row.pixels):
        strip[:, place * step : place * step + CELL_PIXELS] = pixels.transpose(1, 2, 0)
    return strip


def _draw_png(sheet: ContactSheet) -> bytes:
    """Returns the sheet as the bytes of a PNG; one pixel of an image is one pixel there."""
    from matplotlib.figure import Figure

    from repnet_search.report.memory_png import render_png

    step = CELL_PIXELS + GAP_PIXELS
    gap = ((0, GAP_PIXELS), (0, 0), (0, 0))
    mosaic = np.concatenate([np.pad(_strip(row), gap, constant_values=255) for row in sheet.rows])
    names = [f"{_short(row.name)}  ({row.images})" for row in sheet.rows]
    names_inches = _LETTER_INCHES * max(map(len, names)) + 2 * _MARGIN_INCHES
    height, width = mosaic.shape[0] / _DOTS_PER_INCH, mosaic.shape[1] / _DOTS_PER_INCH
    title_inches = 0.45
    whole = (names_inches + width + _MARGIN_INCHES, title_inches + height + _MARGIN_INCHES)
    figure = Figure(figsize=whole)
    axes = figure.add_axes(
        (names_inches / whole[0], _MARGIN_INCHES / whole[1], width / whole[0], height / whole[1]), frameon=False
    )
    axes.imshow(mosaic, interpolation="nearest", aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([index * step + CELL_PIXELS / 2 for index in range(len(names))], names, fontsize=9)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)  # a $ in a name is no formula
    axes.tick_params(length=0)
    figure.text(_MARGIN_INCHES / whole[0], 1 - 0.2 / whole[1], sheet.title, fontsize=10, va="center", parse_math=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font lacks, which it shows as boxes
        return render_png(figure)


def _draw_html(sheet: ContactSheet) -> str:
    """Returns the sheet as one HTML page."""
    lines = [
        f"<tr><td>{html.escape(row.name)}</td><td class=n>{row.images}</td><td>"
        f'<img alt="{html.escape(row.name)}" src="data:image/png;base64,{_encode(_strip(row))}"></td></tr>'
        for row in sheet.rows
    ]
    title = html.escape(sheet.title)
    style = "body{font:14px sans-serif;margin:24px}td,th{padding:2px 12px 2px 0;text-align:left}.n{text-align:right}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
        f"<h1 style='font-size:16px'>{title}</h1><table><tr><th>class<th class=n>images<th></tr>"
        + "\n".join(lines)
        + "</table></html>\n"
    )


def _encode(pixels: Pixels) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def _short(name: str) -> str:
    return name if len(name) <= _NAME_LETTERS else name[: _NAME_LETTERS - 1] + "…"
