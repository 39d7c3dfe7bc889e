"""Weights files for tests: what `create_random_weights` draws, as torchvision would have saved it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from repnet_search.models.weights import create_random_weights
from repnet_search.spec import BackboneSpec
from repnet_search.spec.table import get_table


def save_random_weights(path: Path, backbone: BackboneSpec, *, seed: int = 0, gain: float = 1.0) -> Path:
    """Returns the path of a new file; a gain of 0 makes a backbone that lets nothing but its biases through."""
    table = get_table(backbone)
    folded = create_random_weights(table, seed=seed)
    state: dict[str, Tensor] = {}
    for conv in table.convs():
        state[f"{conv.key}.weight"] = folded[f"{conv.key}.weight"]
        state[f"{conv.norm_key}.weight"] = torch.full((conv.out_channels,), gain)
        state[f"{conv.norm_key}.bias"] = folded[f"{conv.key}.bias"]
        state[f"{conv.norm_key}.running_mean"] = torch.zeros(conv.out_channels)
        state[f"{conv.norm_key}.running_var"] = torch.ones(conv.out_channels)
    save_file(state, path)
    return path
