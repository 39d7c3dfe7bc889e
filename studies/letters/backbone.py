"""The backbone to pre-train: torchvision's MobileNetV2 at width 0.35 without its last, 1280-channel convolution."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from repnet_search.models.vision import torchvision

WIDTH = 0.35
FEATURE_CHANNELS = 112
_BLOCK_COUNT = 18
_METADATA = {"input_range": "-1,1", "resolution": "48", "name": "letters"}


class LettersNet(nn.Module):
    """Blocks 0 to 17 of MobileNetV2 (`features`, with torchvision's key names), global average pool, linear head."""

    def __init__(self, class_count: int) -> None:
        """Makes the net with torchvision's random start and `class_count` logits."""
        super().__init__()
        whole = torchvision.models.mobilenet_v2(width_mult=WIDTH)
        self.features = nn.Sequential(*list(whole.features)[:_BLOCK_COUNT])
        self.head = nn.Linear(FEATURE_CHANNELS, class_count)

    def pool(self, images: Tensor) -> Tensor:
        """Returns features (N, 112) of images (N, 3, H, W) in -1..1."""
        features: Tensor = self.features(images)
        return features.mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits (N, K) of images (N, 3, H, W) in -1..1."""
        logits: Tensor = self.head(self.pool(images))
        return logits


def scale_input(images: Tensor) -> Tensor:
    """Returns images of 0..255, any type, as float32 in -1..1."""
    return images.float() / 127.5 - 1


def save_features(net: LettersNet, *, path: Path) -> None:
    """Writes the weights of `features`, fp32, without the head and the batch counters, under a temporary name first."""
    state = {
        name: value.detach().to(torch.float32).contiguous()
        for name, value in net.state_dict().items()
        if name.startswith("features.") and not name.endswith("num_batches_tracked")
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(save(state, metadata=_METADATA))
    os.replace(temporary, path)
