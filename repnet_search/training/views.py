"""A small fixed set of views of each training image: the image itself, and slightly turned, scaled and shifted copies.

Fixed, so that what the frozen backbone makes of them is computed once. A device makes such a view while it reads the
image from its storage into the image buffer, which costs no further memory.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from repnet_search.data import ImageSet

_TURN_DEGREES = 10.0
_SCALE = 0.1
_SHIFT = 0.08
_CHUNK = 256


def create_views(images: ImageSet, *, views: int, seed: int) -> ImageSet:
    """Returns `views` times as many images (views·N, 3, H, W) uint8: the originals first, then their copies.

    Args:
        images: N images with their labels.
        views: how many of each, the original included.
        seed: of the turns (at most 10 degrees), scales (10 %) and shifts (8 % of the side).
    """
    if views == 1:
        return images  # perhaps mapped from a file larger than memory
    random = torch.Generator().manual_seed(seed)
    copies = [images.images]
    for _ in range(views - 1):
        grid = _random_affine(len(images), random)
        copies += [
            _warp(part, matrix) for part, matrix in zip(images.images.split(_CHUNK), grid.split(_CHUNK), strict=True)
        ]
    return ImageSet(torch.cat(copies), images.labels.repeat(views))


def _random_affine(count: int, random: torch.Generator) -> Tensor:
    """Returns affine matrices (count, 2, 3) in the normalised coordinates of affine_grid."""
    turn, scale, shift_x, shift_y = torch.rand(4, count, generator=random) * 2 - 1
    angle = turn * math.radians(_TURN_DEGREES)
    factor = 1 + scale * _SCALE
    cosine, sine = angle.cos() * factor, angle.sin() * factor
    rows = [cosine, -sine, shift_x * 2 * _SHIFT, sine, cosine, shift_y * 2 * _SHIFT]
    return torch.stack(rows, dim=1).view(count, 2, 3)


def _warp(images: Tensor, matrices: Tensor) -> Tensor:
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    warped = functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return warped.round().to(torch.uint8)
