"""One image, in a file or an array: is it an image, and its pixels at a resolution."""

from __future__ import annotations

import errno
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps

from repnet_search.errors import DataError
from repnet_search.machine import free_memory_bytes
from repnet_search.units import format_size

DECODING = f"1, Pillow {PIL.__version__}"
"""What pixels depend on beside the file and the resolution; the number goes up where this module decodes otherwise."""

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""The endings of the files that are read as images; case does not matter."""

SKIP_HINT = "or leave such files out with --skip-broken"

_LARGE_PIXELS = 16_000_000
"""Only images that are larger are held against the free memory: the question costs as much as decoding a small one."""
_DECODED_BYTES = 8
"""Per pixel while one is decoded: Pillow keeps RGB in 4, and turning or converting an image takes a copy."""

# Only what the endings promise: Pillow would otherwise also try formats that start other programs (EPS).
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")


class BrokenImageError(Exception):
    """An image file cannot be used; the text continues the sentence "The file ...", for example "is empty"."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image's header says: its stored size in pixels and Pillow's name of its pixel format."""

    width: int
    height: int
    mode: str


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keeps Pillow's warnings (large images, odd EXIF, palettes) away, also where warnings are errors.

    The filter is the process's, so it is entered once around a loop and never in a thread of it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_image(path: str) -> ImageFacts:
    """Returns what the header says; nothing else is read.

    Raises:
        BrokenImageError: the file is empty, or is no image that can be read.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for its writer for ever
            raise BrokenImageError("is not a regular file")
        with Image.open(path, formats=_FORMATS) as image:
            facts = ImageFacts(image.width, image.height, image.mode)
    except (BrokenImageError, MemoryError):
        raise
    except Exception as error:  # Pillow raises whatever its parsers stumble on (SyntaxError, struct.error, ...)
        raise BrokenImageError(_reason(path, error)) from error
    if facts.mode == "F":
        raise BrokenImageError("has floating-point pixels, whose range is unknown")
    return facts


def _reason(path: str, error: Exception) -> str:
    """Returns why opening failed, as the rest of a sentence."""
    if isinstance(error, Image.DecompressionBombError):
        pixels = re.search(r"\d+", str(error))
        more = f"{pixels[0]} pixels, " if pixels else ""
        return f"is too large to be decoded safely ({more}more than Pillow's limit against decompression bombs)"
    if isinstance(error, OSError) and error.strerror:  # of the file system; Pillow's own errors have no strerror
        return describe_read_error(error)
    return "is empty (0 bytes)" if os.path.getsize(path) == 0 else "is not an image that can be read"


def describe_read_error(error: OSError) -> str:
    """Returns why the file system does not give a file, as the rest of a sentence."""
    return "is a link in a circle" if error.errno == errno.ELOOP else f"cannot be read ({error.strerror})"


def decode_image(path: str, *, resolution: int) -> NDArray[np.uint8]:
    """Returns the image's centre square as 3 x resolution x resolution values of 0 to 255.

    Its shorter side becomes `resolution` (bilinear, antialiased). Transparency shows white.

    Raises:
        BrokenImageError: the data is truncated or otherwise cannot be decoded.
        DataError: memory is too small for it now.
    """
    try:
        # From an open file: given a path, Pillow 13 maps an uncompressed TIFF into memory, and garbles a turned one.
        with open(path, "rb") as file, Image.open(file, formats=_FORMATS) as image:
            # JPEG alone: decodes at 1/2, 1/4 or 1/8 size, never below twice the target, so that antialiasing counts.
            image.draft(None, (2 * resolution, 2 * resolution))
            _check_room(image, path)
            image.load()  # Pillow turns a TIFF only then, and its size with it
            ImageOps.exif_transpose(image, in_place=True)
            square = _centre_square(image, resolution=resolution)
    except (BrokenImageError, DataError, MemoryError):
        raise
    except Exception as error:
        raise BrokenImageError(f"cannot be decoded ({str(error).rstrip('.')})") from error
    return np.asarray(square, dtype=np.uint8).transpose(2, 0, 1)


def _check_room(image: Image.Image, path: str) -> None:
    """Raises DataError where memory cannot hold an image's pixels.

    Not BrokenImageError: what is left out because of it would depend on what else the machine does.
    """
    if image.width * image.height < _LARGE_PIXELS:
        return
    needed_bytes, free_bytes = image.width * image.height * _DECODED_BYTES, free_memory_bytes()
    if free_bytes is not None and needed_bytes > free_bytes:
        name = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise DataError(
            f"An image must fit into memory to be decoded, but '{name}' of "
            f"{image.width}×{image.height} pixels needs {format_size(needed_bytes)}, of which "
            f"{format_size(free_bytes)} are free; make it smaller, or move it away."
        )


def resize_pixels(pixels: NDArray[np.uint8], *, resolution: int) -> NDArray[np.uint8]:
    """Returns an array's centre square as 3 x resolution x resolution, exactly as the same pixels in a file.

    Args:
        pixels: H W of grey, or H W C with C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
        resolution: the side in pixels.
    """
    image = Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    square = _centre_square(image, resolution=resolution)
    return np.asarray(square, dtype=np.uint8).transpose(2, 0, 1)


def _centre_square(image: Image.Image, *, resolution: int) -> Image.Image:
    """Returns the largest centred square as RGB, resized; crop and resize in one step: a long strip would grow huge."""
    if image.mode != "L" or image.has_transparency_data:  # opaque grey is resized first: the same for a third
        image = _to_rgb(image)
    left, top = max(image.width - image.height, 0) / 2, max(image.height - image.width, 0) / 2
    box = (left, top, image.width - left, image.height - top)
    return image.resize((resolution, resolution), Image.Resampling.BILINEAR, box=box).convert("RGB")


def _to_rgb(image: Image.Image) -> Image.Image:
    """Returns the image as RGB, whatever its mode."""
    if image.mode.startswith("I"):
        return _grey_of_16_bits(image).convert("RGB")
    if image.mode == "RGB" and not image.has_transparency_data:
        return image  # `convert` would copy it
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _grey_of_16_bits(image: Image.Image) -> Image.Image:
    """Returns 16-bit grey as 8 bits; Pillow's own `convert` would clip everything above 255 to white."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise BrokenImageError(f"has pixels from {values.min()} to {values.max()}, more than 16 bits hold")
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
