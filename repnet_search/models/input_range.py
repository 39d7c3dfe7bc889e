"""What range of values a backbone wants its image in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from repnet_search.errors import UsageError

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class InputRange:
    """An affine map per channel from bytes 0..255: `value = byte * scale + shift`; `text` is how it was written."""

    text: str
    scale: tuple[float, float, float]
    shift: tuple[float, float, float]

    def normalise(self, images: Tensor) -> Tensor:
        """Returns uint8 images (N, 3, H, W) as float32 in this range."""
        scale = torch.tensor(self.scale, device=images.device).view(1, 3, 1, 1)
        shift = torch.tensor(self.shift, device=images.device).view(1, 3, 1, 1)
        return images.float() * scale + shift


def parse_input_range(text: str) -> InputRange:
    """Returns the input range that "imagenet" (mean and deviation per channel) or "LOW,HIGH" means.

    Raises:
        UsageError: the text is neither.

    >>> parse_input_range("-1,1").shift
    (-1.0, -1.0, -1.0)
    """
    if text == "imagenet":
        scale = tuple(1 / (255 * std) for std in _IMAGENET_STD)
        shift = tuple(-mean / std for mean, std in zip(_IMAGENET_MEAN, _IMAGENET_STD, strict=True))
        return InputRange(text, (scale[0], scale[1], scale[2]), (shift[0], shift[1], shift[2]))
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise UsageError(
            f"An input range is 'imagenet' or LOW,HIGH with LOW below HIGH, such as -1,1, but got {text!r}."
        )
    step = (high - low) / 255
    return InputRange(text, (step, step, step), (low, low, low))
