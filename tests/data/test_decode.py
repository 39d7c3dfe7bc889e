"""One image file: every pixel format, orientation and kind of damage."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from repnet_search.data import decode
from repnet_search.data.decode import (
    BrokenImageError,
    ImageFacts,
    check_image,
    decode_image,
    quiet_pillow,
    resize_pixels,
)
from repnet_search.errors import DataError


def _decoded(image: Image.Image, path: Path, *, resolution: int = 8, **options: Any) -> NDArray[np.uint8]:
    """Returns what decode_image gives for an image that is saved first."""
    image.save(path, **options)
    check_image(str(path))
    return decode_image(str(path), resolution=resolution)


@pytest.mark.parametrize("suffix", ["bmp", "gif", "jpeg", "jpg", "png", "ppm", "tif", "tiff", "webp"])
def test_each_format_decodes_to_three_channels_of_bytes(tmp_path: Path, suffix: str) -> None:
    pixels = _decoded(Image.new("RGB", (20, 12), (200, 100, 50)), tmp_path / f"image.{suffix}")
    assert pixels.shape == (3, 8, 8)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.reshape(3, -1).T.astype(int) - (200, 100, 50)).max() <= 4


@pytest.mark.parametrize(
    ("mode", "colour"), [("L", 90), ("1", 1), ("LA", (90, 255)), ("P", 5), ("CMYK", (0, 0, 0, 165))]
)
def test_each_mode_becomes_grey_rgb(tmp_path: Path, mode: str, colour: int | tuple[int, ...]) -> None:
    image = Image.new(mode, (8, 8), colour)
    if mode == "P":
        image.putpalette([90] * 768)
    pixels = _decoded(image, tmp_path / f"image.{'tif' if mode == 'CMYK' else 'png'}")
    assert np.unique(pixels).tolist() == [255 if mode == "1" else 90]


def test_transparency_shows_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 4, 8))
    pixels = _decoded(image, tmp_path / "image.png")
    assert pixels[:, 0, 0].tolist() == [255, 0, 0]
    assert pixels[:, 0, 7].tolist() == [255, 255, 255]


def test_a_palette_with_a_transparent_colour_shows_white(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.paste(0, (0, 0, 4, 8))
    pixels = _decoded(image, tmp_path / "image.png", transparency=0)
    assert pixels[:, 0, 0].tolist() == [255, 255, 255]
    assert pixels[:, 0, 7].tolist() == [40, 50, 60]


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.repeat(np.array([[0, 257 * 100, 257 * 200, 65535]], dtype=np.uint16), 4, axis=0)
    path = tmp_path / f"image.{suffix}"
    if suffix == "pgm":
        path.write_bytes(b"P5 4 4 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(path)
    check_image(str(path))
    assert decode_image(str(path), resolution=4)[0, 0].tolist() == [0, 100, 200, 255]


def test_pixels_without_a_known_range_are_refused(tmp_path: Path) -> None:
    Image.new("F", (4, 4), 0.5).save(tmp_path / "float.tif")
    with pytest.raises(BrokenImageError, match="has floating-point pixels"):
        check_image(str(tmp_path / "float.tif"))
    Image.new("I", (4, 4), 70000).save(tmp_path / "int.tif")
    with pytest.raises(BrokenImageError, match="has pixels from 70000 to 70000, more than 16 bits hold"):
        decode_image(str(tmp_path / "int.tif"), resolution=4)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), "black")
    image.paste("white", (0, 0, 8, 4))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise: the upper half becomes the right one
    pixels = _decoded(image, tmp_path / "image.jpg", exif=exif, quality=100)
    assert pixels[0, :, 7].min() > 240
    assert pixels[0, :, 0].max() < 15


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (20, 20)])
def test_the_result_is_a_resize_of_the_shorter_side_and_a_centre_crop(tmp_path: Path, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    half = image.resize((size[0] // 2, size[1] // 2), Image.Resampling.BILINEAR)
    left, top = (half.width - 10) // 2, (half.height - 10) // 2
    expected = np.asarray(half.crop((left, top, left + 10, top + 10))).transpose(2, 0, 1)
    pixels = _decoded(image, tmp_path / "image.png", resolution=10)
    assert np.abs(pixels.astype(int) - expected).max() <= 1  # Pillow rounds once per direction


def test_shrinking_is_antialiased(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64), dtype=np.uint8)
    stripes[:, ::2] = 255
    pixels = _decoded(Image.fromarray(stripes), tmp_path / "image.png")
    assert np.abs(pixels[:, :, 1:-1].astype(int) - 127).max() <= 2


def test_a_large_jpeg_decoded_in_draft_mode_looks_the_same(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(800), np.arange(1000)) * 255 // 1800
    image = Image.fromarray(ramp.astype(np.uint8)).convert("RGB")
    exact = _decoded(image, tmp_path / "image.png", resolution=50).astype(int)
    draft = _decoded(image, tmp_path / "image.jpg", resolution=50, quality=95).astype(int)
    assert np.abs(exact - draft).max() <= 3


def test_a_long_strip_is_no_problem(tmp_path: Path) -> None:
    assert _decoded(Image.new("L", (50_000, 1)), tmp_path / "image.png", resolution=96).shape == (3, 96, 96)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", r"is empty \(0 bytes\)"), (b"no image" * 9, "is not an image that can be read")]
)
def test_a_file_without_an_image_is_broken(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "image.jpg").write_bytes(content)
    with pytest.raises(BrokenImageError, match=reason):
        check_image(str(tmp_path / "image.jpg"))


@pytest.mark.parametrize("suffix", ["bmp", "gif", "jpg", "png", "ppm", "tif", "webp"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6])
def test_a_truncated_file_is_broken_at_its_header_or_its_data(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"image.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    def use() -> None:
        check_image(str(path))
        decode_image(str(path), resolution=8)

    with pytest.raises(BrokenImageError):
        use()


def test_missing_files_links_to_nothing_and_pipes_are_broken(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to("nowhere.png")
    with pytest.raises(BrokenImageError, match=r"cannot be read \(No such file"):
        check_image(str(tmp_path / "link.png"))
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BrokenImageError, match="is not a regular file"):
        check_image(str(tmp_path / "pipe.png"))


def test_a_decompression_bomb_is_broken_and_its_warning_is_kept_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.png"
    Image.new("L", (100, 100), 9).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(BrokenImageError, match=r"is too large to be decoded safely \(.*pixels"):
        check_image(str(path))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quiet_pillow():
            check_image(str(path))
            assert np.unique(decode_image(str(path), resolution=8)).tolist() == [9]


def test_running_out_of_memory_is_not_called_a_broken_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", fail)
    (tmp_path / "image.png").write_bytes(b"x")
    with pytest.raises(MemoryError):
        check_image(str(tmp_path / "image.png"))
    with pytest.raises(MemoryError):
        decode_image(str(tmp_path / "image.png"), resolution=8)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize(("orientation", "corner"), list(enumerate([0, 1, 3, 2, 0, 1, 3, 2], start=1)))
def test_every_orientation_of_every_format_that_has_one(
    tmp_path: Path, suffix: str, orientation: int, corner: int
) -> None:
    image = Image.new("L", (32, 16))
    image.paste(255, (0, 0, 16, 8))  # the upper left quarter
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"jpg": {"quality": 100}, "webp": {"lossless": True}}.get(suffix, {})
    pixels = _decoded(image, tmp_path / f"image.{suffix}", exif=exif, **options)
    bright = [bool(pixels[0, y, x] > 127) for y in (1, 6) for x in (1, 6)]
    assert bright == [place == corner for place in range(4)]


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_per_channel_keep_the_upper_eight(tmp_path: Path, colour_type: int, channels: int) -> None:
    values = np.full((4, 4, channels), 65535, dtype=">u2")
    values[:, :, : channels - (channels % 2 == 0)] = 257 * 60

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 4, 4, 16, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in values))
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    assert np.unique(decode_image(str(path), resolution=4)).tolist() == [60]


def test_cmyk_jpegs_are_not_inverted(tmp_path: Path) -> None:
    pixels = _decoded(Image.new("RGB", (8, 8), (200, 100, 50)).convert("CMYK"), tmp_path / "image.jpg", quality=100)
    assert np.abs(pixels[:, 0, 0].astype(int) - (200, 100, 50)).max() <= 2


@pytest.mark.parametrize("suffix", ["gif", "png", "tif", "webp"])
def test_of_several_frames_the_first_is_shown(tmp_path: Path, suffix: str) -> None:
    blue = Image.new("RGB", (8, 8), "blue")
    pixels = _decoded(Image.new("RGB", (8, 8), "red"), tmp_path / f"i.{suffix}", save_all=True, append_images=[blue])
    assert pixels[0].min() > 240
    assert pixels[1:].max() < 15


@pytest.mark.parametrize("shape", [(9, 13), (9, 13, 1), (9, 13, 2), (13, 9, 3), (9, 13, 4)])
def test_an_array_gives_what_the_same_pixels_in_a_file_give(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    image = Image.fromarray(pixels[:, :, 0] if shape[2:] == (1,) else pixels)
    assert np.array_equal(resize_pixels(pixels, resolution=8), _decoded(image, tmp_path / "image.png"))


def test_the_header_tells_size_and_format(tmp_path: Path) -> None:
    Image.new("LA", (20, 12)).save(tmp_path / "image.png")
    assert check_image(str(tmp_path / "image.png")) == ImageFacts(width=20, height=12, mode="LA")


def test_an_image_that_memory_cannot_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_LARGE_PIXELS", 100)
    monkeypatch.setattr(decode, "free_memory_bytes", lambda: 8 * 1024)
    assert _decoded(Image.new("RGB", (32, 32)), tmp_path / "fits.png").shape == (3, 8, 8)
    with pytest.raises(DataError, match=r"'.*large\.png' of 64×64 pixels needs 32\.0 KiB, of which 8\.0 KiB are free"):
        _decoded(Image.new("RGB", (64, 64)), tmp_path / "large.png")
    # JPEG is decoded at an eighth of its size.
    assert _decoded(Image.new("RGB", (128, 128)), tmp_path / "large.jpg").shape == (3, 8, 8)
