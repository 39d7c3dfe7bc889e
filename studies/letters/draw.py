"""Draws the pre-training images: masks of `glyphs`, warped, coarsened, coloured and made noisy.

python -m studies.letters.draw --sheet FILE.png    one row of examples per class, to look at
"""

from __future__ import annotations

import argparse
import functools
import math
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from studies.letters.glyphs import CANVAS_PIXELS, CLASS_NAMES, TEXTURES, Rng, draw_mask

IMAGE_PIXELS = 48
# 8 cells to a side bend smoothly enough that no edge between them shows at 48 px.
_MESH_CELLS = 8
_CHUNK_IMAGES = 250


def _bend(rng: Rng, *, strength: float) -> NDArray[np.float64]:
    """Returns smooth random shifts, (9, 9, 2), in halves of the frame."""
    knots = rng.normal(0, strength, size=(2, 4, 4)).astype(np.float32)
    side = _MESH_CELLS + 1
    layers = [np.asarray(Image.fromarray(layer).resize((side, side), Image.Resampling.BICUBIC)) for layer in knots]
    shifts: NDArray[np.float64] = np.stack(layers, axis=-1).astype(np.float64)
    return shifts


def _affine(rng: Rng) -> NDArray[np.float64]:
    """Returns a random matrix, (2, 2): rotation up to about 25 degrees after shear and a change of proportions."""
    angle = float(np.clip(rng.normal(0, 10), -25, 25))
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    slant, stretch = float(np.clip(rng.normal(0, 0.18), -0.45, 0.45)), math.exp(rng.normal(0, 0.16))
    slanted: NDArray[np.float64] = np.array([[c, -s], [s, c]]) @ np.array([[1, slant], [0, 1]])
    stretched: NDArray[np.float64] = slanted * np.array([stretch, 1 / stretch])
    return stretched


def _source_grid(mask: Image.Image, *, fills_frame: bool, rng: Rng) -> NDArray[np.float64]:
    """Returns for each mesh corner of the picture, (9, 9, 2), the place on the mask, in pixels, that it shows."""
    left, top, right, bottom = mask.getbbox() or (0, 0, CANVAS_PIXELS, CANVAS_PIXELS)
    half = max(right - left, bottom - top) / 2
    # Most glyphs nearly fill the frame, as in data sets of single characters; some are small.
    fill = rng.uniform(0.8, 1.02) if rng.random() < 0.5 else rng.uniform(0.5, 1.0)
    scale = rng.uniform(0.45, 0.75) if fills_frame else 1 / fill
    axis = np.linspace(-1, 1, _MESH_CELLS + 1)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    depth = 1 + grid @ rng.normal(0, 0.1, size=2)
    grid = (grid / depth[..., None] + _bend(rng, strength=0.09)) @ _affine(rng).T * scale
    grid += rng.normal(0, 0.07, size=2)
    places: NDArray[np.float64] = grid * half + np.array([(left + right) / 2, (top + bottom) / 2])
    return places


def warp_mask(mask: Image.Image, *, fills_frame: bool, rng: Rng) -> Image.Image:
    """Returns the mask bent, turned, slanted, scaled and moved, at the same 96 px."""
    grid = _source_grid(mask, fills_frame=fills_frame, rng=rng)
    step = CANVAS_PIXELS // _MESH_CELLS
    mesh = []
    for row in range(_MESH_CELLS):
        for column in range(_MESH_CELLS):
            corners = (grid[row, column], grid[row + 1, column], grid[row + 1, column + 1], grid[row, column + 1])
            box = (column * step, row * step, (column + 1) * step, (row + 1) * step)
            mesh.append((box, tuple(float(value) for corner in corners for value in corner)))
    return mask.transform(mask.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)


def coarsen(mask: Image.Image, *, rng: Rng) -> NDArray[np.float64]:
    """Returns the mask at 48 px, (48, 48) in 0..1, in most cases by way of only 8 to 16 px a side, or blurred."""
    kind = rng.random()
    if kind < 0.55:
        side = int(rng.integers(8, 17))
        small = mask.resize((side, side), Image.Resampling.BOX)
    elif kind < 0.8:
        small = mask.resize((IMAGE_PIXELS, IMAGE_PIXELS), Image.Resampling.BOX)
        small = small.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 2.5))))
    else:
        small = mask.resize((IMAGE_PIXELS, IMAGE_PIXELS), Image.Resampling.BOX)
    return np.asarray(small.resize((IMAGE_PIXELS, IMAGE_PIXELS), Image.Resampling.BILINEAR), dtype=np.float64) / 255


def _two_colours(rng: Rng) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the colours of ink and ground, each (3,) in 0..255, at least 70 levels apart on average."""
    if rng.random() < 0.5:
        low, high = rng.uniform(0, 60), rng.uniform(150, 255)
        ink, ground = (low, high) if rng.random() < 0.5 else (high, low)
        return np.full(3, ink), np.full(3, ground)
    while True:
        inks, grounds = rng.uniform(0, 255, size=(2, 3))
        if abs(float((inks - grounds).mean())) >= 70:
            return inks, grounds


def colour(mask: NDArray[np.float64], *, rng: Rng) -> NDArray[np.uint8]:
    """Returns the picture, (48, 48, 3), of a mask (48, 48) in 0..1: two colours, at times uneven light and noise."""
    ink, ground = _two_colours(rng)
    picture = ground + mask[..., None] * (ink - ground)
    if rng.random() < 0.3:
        light = Image.fromarray(rng.normal(0, 30, size=(3, 3)).astype(np.float32))
        picture += np.asarray(light.resize((IMAGE_PIXELS, IMAGE_PIXELS), Image.Resampling.BICUBIC))[..., None]
    if rng.random() < 0.5:
        picture += rng.normal(0, rng.uniform(2, 22), size=(IMAGE_PIXELS, IMAGE_PIXELS, int(rng.choice([1, 3]))))
    return np.clip(picture, 0, 255).astype(np.uint8)


def draw_image(index: int, *, seed: int) -> NDArray[np.uint8]:
    """Returns image `index`, (48, 48, 3), of class `index % len(CLASS_NAMES)`; the same one for the same seed."""
    rng = np.random.default_rng([seed, index])
    name = CLASS_NAMES[index % len(CLASS_NAMES)]
    mask = warp_mask(draw_mask(name, rng=rng), fills_frame=name in TEXTURES, rng=rng)
    return colour(coarsen(mask, rng=rng), rng=rng)


def _draw_chunk(first: int, *, stop: int, seed: int) -> NDArray[np.uint8]:
    return np.stack([draw_image(index, seed=seed) for index in range(first, min(first + _CHUNK_IMAGES, stop))])


def draw_pool(count: int, *, seed: int, processes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Returns images (N, 3, 48, 48) and their classes (N,); `processes` changes the time only."""
    draw = functools.partial(_draw_chunk, stop=count, seed=seed)
    with ProcessPoolExecutor(processes) as pool:
        chunks = list(pool.map(draw, range(0, count, _CHUNK_IMAGES)))
    images = np.ascontiguousarray(np.concatenate(chunks).transpose(0, 3, 1, 2))
    return images, np.arange(count) % len(CLASS_NAMES)


def save_sheet(path: Path, *, seed: int, columns: int = 24) -> None:
    """Writes a PNG with one row of `columns` examples per class."""
    count = len(CLASS_NAMES)
    sheet = np.zeros((count * IMAGE_PIXELS, columns * IMAGE_PIXELS, 3), dtype=np.uint8)
    for index in range(count * columns):
        row, column = (index % count) * IMAGE_PIXELS, (index // count) * IMAGE_PIXELS
        sheet[row : row + IMAGE_PIXELS, column : column + IMAGE_PIXELS] = draw_image(index, seed=seed)
    Image.fromarray(sheet).save(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw a contact sheet of the pre-training images.")
    parser.add_argument("--sheet", type=Path, required=True, help="the PNG to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    save_sheet(options.sheet, seed=options.seed)
