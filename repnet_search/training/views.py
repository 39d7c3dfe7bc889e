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


class Views:
    """Views by row number: the originals first, then their copies; each is made when it is asked for."""

    def __init__(self, images: ImageSet, *, views: int, seed: int) -> None:
        """Draws the copies' turns, scales and shifts.

        Args:
            images: N images with their labels, perhaps mapped from a file larger than memory.
            views: how many of each, the original included.
            seed: of the turns (at most 10 degrees), scales (10 %) and shifts (8 % of the side).
        """
        random = torch.Generator().manual_seed(seed)
        self._images = images.images
        self._grids = [_random_affine(len(images), random) for _ in range(views - 1)]
        self.labels = images.labels.repeat(views)

    def __len__(self) -> int:
        """Returns the number of views of all images, views·N."""
        return len(self.labels)

    @property
    def originals(self) -> Tensor | None:
        """Returns all views where they are the images themselves, uint8 of N 3 H W, else None."""
        return None if self._grids else self._images

    def load(self, start: int, stop: int) -> Tensor:
        """Returns the views from `start` to before `stop`, uint8 of (stop − start, 3, H, W)."""
        parts = []
        while start < stop:
            view, first = divmod(start, len(self._images))
            last = min(first + stop - start, len(self._images))
            part = self._images[first:last]
            parts.append(_warp(part, self._grids[view - 1][first:last]) if view else part)
            start += last - first
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def create_views(images: ImageSet, *, views: int, seed: int) -> ImageSet:
    """Returns `views` times as many images (views·N, 3, H, W) uint8, all in memory; see `Views`."""
    if views == 1:
        return images  # perhaps mapped from a file larger than memory
    made = Views(images, views=views, seed=seed)
    parts = [made.load(start, min(start + _CHUNK, len(made))) for start in range(0, len(made), _CHUNK)]
    return ImageSet(torch.cat(parts), made.labels)


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
