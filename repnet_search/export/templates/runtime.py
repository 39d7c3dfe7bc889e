"""What a bundle's model.py computes with: create_model_file copies from here the functions that a design needs.

A copy stands alone, so nothing of repnet_search is imported here. b is the backbone's feature, r the Rep-Net's stream,
s a module's output, q centred int8 codes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d, group_norm, interpolate


def conv(weights: dict[str, Tensor], key: str, x: Tensor, *, stride: int = 1, groups: int = 1) -> Tensor:
    """Returns a convolution; zeros around the map, half a kernel wide."""
    weight = weights[f"{key}.weight"]
    return conv2d(x, weight, weights.get(f"{key}.bias"), stride, weight.shape[-1] // 2, groups=groups)


def norm(weights: dict[str, Tensor], key: str, x: Tensor, *, groups: int) -> Tensor:
    """Returns a group norm with scale and shift."""
    return group_norm(x, groups, weights[f"{key}.weight"], weights[f"{key}.bias"], eps=1e-5)


def output_norm(weights: dict[str, Tensor], key: str, x: Tensor, *, groups: int) -> Tensor:
    """Returns a group norm with a shift alone; the connector's gamma is its scale."""
    return group_norm(x, groups, eps=1e-5) + weights[f"{key}.bias"].view(-1, 1, 1)


def resize(x: Tensor, size: int) -> Tensor:
    """Returns a map of another side: bilinear, pixel centres at halves, no antialiasing."""
    return interpolate(x, size=(size, size), mode="bilinear", align_corners=False)


def standardise(weight: Tensor) -> Tensor:
    """Returns a weight with mean 0 and variance 1 per output channel."""
    flat = weight.reshape(1, len(weight), -1)
    return batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6).reshape_as(weight)


class Grid(NamedTuple):
    """The values that an int8 tensor can have: scale * (code - zero_point), codes from -128 to 127.

    Below, q stands for centred codes, code - zero_point: whole numbers that torch keeps in floats.
    """

    scale: float
    zero_point: int


def quantise(x: Tensor, grid: Grid) -> Tensor:
    """Returns the nearest centred codes of an image, which a device looks up by the byte."""
    return torch.round(x / grid.scale).clamp(-128 - grid.zero_point, 127 - grid.zero_point)


def real(q: Tensor, grid: Grid) -> Tensor:
    """Returns what centred codes stand for."""
    return q * grid.scale


def requantise(x: Tensor, grid: Grid) -> Tensor:
    """Returns centred codes of float64 values in steps of the grid: the nearest whole number, halves up, clamped."""
    return torch.floor(x + 0.5).clamp(-128 - grid.zero_point, 127 - grid.zero_point).float()


def merge(x: Tensor, grid: Grid) -> Tensor:
    """Returns centred codes of what a connector has written to the backbone's feature."""
    return requantise(x.double() / grid.scale, grid)


def prepare_conv8(weights: dict[str, Tensor], key: str, source: Grid, output: Grid) -> None:
    """Makes a bias a whole number, and the factor from sums to the output's grid mantissa * 2^-shift.

    So a device has, per output channel, int8 weights, an int32 bias, an int32 mantissa and a shift.
    """
    step = weights[f"{key}.scale"].double() * source.scale
    fraction, exponent = torch.frexp(step / output.scale)
    weights[f"{key}.bias"] = torch.round(weights[f"{key}.bias"].double() / step)
    weights[f"{key}.mantissa"] = torch.round(fraction * 2**23)
    weights[f"{key}.shift"] = 23 - exponent
    weights[f"{key}.factor"] = torch.ldexp(weights[f"{key}.mantissa"], -weights[f"{key}.shift"])


def conv8(weights: dict[str, Tensor], key: str, q: Tensor, output: Grid, *, stride: int = 1, groups: int = 1) -> Tensor:
    """Returns an int8 convolution's centred codes; the clamp is its ReLU or ReLU6 too.

    On a device: sum = bias + q * weight in int32, then (sum * mantissa + (1 << (shift - 1))) >> shift in int64.
    """
    sums = whole_sums(q, weights[f"{key}.weight"], stride=stride, groups=groups)
    bias, factor = weights[f"{key}.bias"].view(-1, 1, 1), weights[f"{key}.factor"].view(-1, 1, 1)
    return requantise((sums + bias) * factor, output)


def whole_sums(q: Tensor, weight: Tensor, *, stride: int, groups: int) -> Tensor:
    """Returns the sums of products of whole numbers as float64, which holds them exactly."""
    return conv2d(q.double(), weight.double(), None, stride, weight.shape[-1] // 2, groups=groups)


def add8(q: Tensor, mantissa: int, other: Tensor, other_mantissa: int, shift: int, output: Grid) -> Tensor:
    """Returns the sum of two int8 tensors on their own grids: (q * mantissa + other * other_mantissa) * 2^-shift."""
    return requantise((q.double() * mantissa + other.double() * other_mantissa) * 2.0**-shift, output)


def read_tensors(path: Path, device: str) -> dict[str, Tensor]:
    """Returns a file's tensors, copied: in a file they may lie unaligned, which torch sums up otherwise."""
    return {name: value.clone() for name, value in load_file(path, device=device).items()}


def read_image(path: str, resolution: int) -> Tensor:
    """Returns an image's centre square as in training, uint8 of (3, resolution, resolution); transparency is white."""
    from PIL import Image, ImageOps

    with open(path, "rb") as file, Image.open(file) as stored:
        stored.draft(None, (2 * resolution, 2 * resolution))  # a large JPEG is decoded at a fraction of its size
        stored.load()
        image = ImageOps.exif_transpose(stored)
    if image.mode.startswith("I"):
        raise ValueError(f"{path} has 16 bits per pixel; convert it to 8.")
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    left, top = max(image.width - image.height, 0) / 2, max(image.height - image.width, 0) / 2
    box = (left, top, image.width - left, image.height - top)
    square = image.convert("RGB").resize((resolution, resolution), Image.Resampling.BILINEAR, box=box)
    pixels = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8)
    return pixels.view(resolution, resolution, 3).permute(2, 0, 1)


def read_labels(folder: Path) -> list[str]:
    """Returns the label of each output."""
    return (folder / "labels.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")


def print_labels(model: torch.nn.Module, labels: list[str], paths: list[str], *, resolution: int) -> None:
    """Prints the likeliest label of each image and its softmax in percent."""
    if not paths or "--help" in paths:
        sys.exit(f"Usage: python {sys.argv[0]} IMAGE...")
    with torch.inference_mode():
        for path in paths:
            try:
                image = read_image(path, resolution)
            except (OSError, ValueError) as error:
                sys.exit(f"An image must be a file that Pillow reads, but {path} is not one: {error}")
            shares = model(image[None])[0].softmax(0)
            print(f"{path}: {labels[int(shares.argmax())]} ({100 * float(shares.max()):.1f} %)")
