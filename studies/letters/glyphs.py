"""The classes of the drawn pre-training images, and each one's clean mask: letters, shapes and textures, no digits."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CANVAS_PIXELS = 96
_MIDDLE = CANVAS_PIXELS / 2
_FONT_PIXELS = 62

# Both cases share one class where only the size tells them apart: every glyph is scaled to its own bounding box. Coarse
# and blurred, the five narrow ones are all one upright stroke.
LETTER_CLASSES = (
    *("Cc", "IJijl", "Kk", "Oo", "Pp", "Ss", "Uu", "Vv", "Ww", "Xx", "Yy", "Zz"),
    *"ABDEFGHLMNQRTabdefghmnqrt",
)

Point: TypeAlias = tuple[float, float]
Stroke: TypeAlias = list[Point]
Rng: TypeAlias = np.random.Generator


@functools.cache
def _font() -> Any:  # ImageFont or FreeTypeFont, by Pillow's build
    return ImageFont.load_default(_FONT_PIXELS)


def draw_letter(letters: str, *, rng: Rng) -> Image.Image:
    """Returns the mask (mode L, 96 px square, ink 255) of one of the letters, thin to very bold."""
    mask = Image.new("L", (CANVAS_PIXELS, CANVAS_PIXELS))
    letter = letters[int(rng.integers(len(letters)))]
    pen = ImageDraw.Draw(mask)
    pen.text((_MIDDLE, _MIDDLE), letter, fill=255, font=_font(), anchor="mm", stroke_width=int(rng.integers(0, 6)))
    return mask


def _around(radius: float, *, degrees: float, squash: float = 1.0) -> Point:
    angle = math.radians(degrees)
    return _MIDDLE + radius * math.cos(angle), _MIDDLE + radius * squash * math.sin(angle)


def _polygon(corners: int, *, rng: Rng) -> list[Stroke]:
    turn, squash = rng.uniform(0, 360), rng.uniform(0.7, 1.0)
    points = [_around(36, degrees=turn + 360 * i / corners, squash=squash) for i in range(corners)]
    return [[*points, points[0], points[1]]]


def _plus(rng: Rng) -> list[Stroke]:
    x, y = _MIDDLE + rng.uniform(-8, 8, size=2)
    return [[(x, 12), (x, 84)], [(12, y), (84, y)]]


def _star(rng: Rng) -> list[Stroke]:
    turn, rays = rng.uniform(0, 60), int(rng.integers(3, 5))
    angles = [turn + 180 * i / rays for i in range(rays)]
    return [[_around(36, degrees=angle), _around(36, degrees=angle + 180)] for angle in angles]


def _arc(rng: Rng) -> list[Stroke]:
    start, span, squash = rng.uniform(0, 360), rng.uniform(100, 200), rng.uniform(0.5, 1.0)
    return [[_around(36, degrees=start + span * i / 20, squash=squash) for i in range(21)]]


def _line(rng: Rng) -> list[Stroke]:
    # Upright lines belong to the class of I and l.
    angle = rng.uniform(-50, 50)
    return [[_around(38, degrees=angle), _around(38, degrees=angle + 180)]]


def _parallels(rng: Rng) -> list[Stroke]:
    angle, gap = rng.uniform(0, 180), rng.uniform(20, 35)
    return [
        [_around(38, degrees=angle + side * gap), _around(38, degrees=angle + 180 - side * gap)] for side in (-1, 1)
    ]


def _spiral(rng: Rng) -> list[Stroke]:
    start, turns, hand = rng.uniform(0, 360), rng.uniform(1.6, 2.5), rng.choice([-1, 1])
    return [[_around(4 + 34 * i / 40, degrees=start + hand * 360 * turns * i / 40) for i in range(41)]]


def _zigzag(rng: Rng) -> list[Stroke]:
    peaks, height = int(rng.integers(5, 8)), rng.uniform(10, 30)
    return [[(10 + 76 * i / peaks, _MIDDLE + height * (-1) ** i) for i in range(peaks + 1)]]


def _wave(rng: Rng) -> list[Stroke]:
    waves, height, phase = rng.uniform(1.2, 2.5), rng.uniform(12, 28), rng.uniform(0, 6.28)
    return [[(10 + 76 * i / 40, _MIDDLE + height * math.sin(phase + waves * 6.28 * i / 40)) for i in range(41)]]


def _two_rings(rng: Rng) -> list[Stroke]:
    squash = rng.uniform(0.6, 1.0)
    return [[_around(r, degrees=i * 15, squash=squash) for i in range(26)] for r in (38, rng.uniform(12, 20))]


def _scribble(rng: Rng) -> list[Stroke]:
    knots = rng.uniform(12, 84, size=(int(rng.integers(5, 8)), 2))
    points: Stroke = []
    for i in range(len(knots) - 2):
        # Quadratic pieces between the middles of neighbouring knots: a smooth stroke, like a pen's.
        start, bend, end = (knots[i] + knots[i + 1]) / 2, knots[i + 1], (knots[i + 1] + knots[i + 2]) / 2
        for t in np.linspace(0, 1, 9):
            x, y = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
            points.append((float(x), float(y)))
    return [points]


STROKE_SHAPES: dict[str, Callable[[Rng], list[Stroke]]] = {
    "triangle": lambda rng: _polygon(3, rng=rng),
    "square": lambda rng: _polygon(4, rng=rng),
    "plus": _plus,
    "star": _star,
    "arc": _arc,
    "line": _line,
    "parallels": _parallels,
    "spiral": _spiral,
    "zigzag": _zigzag,
    "wave": _wave,
    "two rings": _two_rings,
    "scribble": _scribble,
}


def draw_strokes(name: str, *, rng: Rng) -> Image.Image:
    """Returns the mask (mode L, 96 px square, ink 255) of one of `STROKE_SHAPES`, drawn with a pen of random width."""
    mask = Image.new("L", (CANVAS_PIXELS, CANVAS_PIXELS))
    pen = ImageDraw.Draw(mask)
    width = int(rng.integers(5, 10 if name in ("spiral", "two rings", "zigzag") else 15))
    for stroke in STROKE_SHAPES[name](rng):
        pen.line(stroke, fill=255, width=width, joint="curve")
    return mask


def draw_disc(*, rng: Rng) -> Image.Image:
    """Returns the mask (mode L, 96 px square, ink 255) of a filled ellipse or polygon."""
    mask = Image.new("L", (CANVAS_PIXELS, CANVAS_PIXELS))
    corners = int(rng.choice([3, 4, 5, 40]))
    ImageDraw.Draw(mask).polygon(_polygon(corners, rng=rng)[0], fill=255)
    return mask


TEXTURES = ("level stripes", "upright stripes", "rising stripes", "falling stripes", "checks", "dots", "rings", "blobs")


def draw_texture(name: str, *, rng: Rng) -> Image.Image:
    """Returns the mask (mode L, 96 px square, 0..255) of one of `TEXTURES`, with random period and phase."""
    if name == "blobs":
        cells = int(rng.integers(4, 10))
        noise = Image.fromarray(rng.integers(0, 256, size=(cells, cells), dtype=np.uint8))
        smooth = np.asarray(noise.resize((CANVAS_PIXELS, CANVAS_PIXELS), Image.Resampling.BICUBIC), dtype=np.float64)
        return Image.fromarray(np.clip((smooth - 127) * 4 + 127, 0, 255).astype(np.uint8))
    y, x = np.mgrid[0:CANVAS_PIXELS, 0:CANVAS_PIXELS] * (2 * math.pi / rng.uniform(14, 40))
    a, b = rng.uniform(0, 2 * math.pi, size=2)
    fields = {
        "level stripes": lambda: np.sin(y + a),
        "upright stripes": lambda: np.sin(x + a),
        "rising stripes": lambda: np.sin((x + y) * 0.7 + a),
        "falling stripes": lambda: np.sin((x - y) * 0.7 + a),
        "checks": lambda: np.sin(x * 0.7 + a) * np.sin(y * 0.7 + b) * 3,
        "dots": lambda: np.sin(x + a) + np.sin(y + b) - 0.8,
        "rings": lambda: np.sin(np.hypot(x - x.mean() + a - 3, y - y.mean() + b - 3)),
    }
    return Image.fromarray(np.clip(127 + fields[name]() * rng.uniform(150, 600), 0, 255).astype(np.uint8))


CLASS_NAMES = (*LETTER_CLASSES, *STROKE_SHAPES, "disc", *TEXTURES)


def draw_mask(class_name: str, *, rng: Rng) -> Image.Image:
    """Returns a clean mask (mode L, 96 px square, ink 255) of the class, one of `CLASS_NAMES`."""
    if class_name in TEXTURES:
        return draw_texture(class_name, rng=rng)
    if class_name in STROKE_SHAPES:
        return draw_strokes(class_name, rng=rng)
    return draw_disc(rng=rng) if class_name == "disc" else draw_letter(class_name, rng=rng)
