"""What autograd really keeps for the backward pass, measured with hooks on the running model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def measure_kept_bytes(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Returns the bytes of distinct storages that a step's forward pass saves, parameters and buffers left out.

    Tensors that an autograd function puts on its `ctx` as attributes are not seen by these hooks; stock operators do
    not do that.

    Args:
        model: logits (N, K) from images.
        images: as the model takes them, (N, 3, H, W).
        labels: int64 (N,).
    """
    own = {value.untyped_storage().data_ptr() for value in [*model.parameters(), *model.buffers()]}
    saved: dict[int, Tensor] = {}  # holding the tensors keeps their addresses from being used again

    def pack(value: Tensor) -> Tensor:
        if value.untyped_storage().data_ptr() not in own:
            saved[value.untyped_storage().data_ptr()] = value
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        functional.cross_entropy(model(images), labels)
    return sum(value.untyped_storage().nbytes() for value in saved.values())


def measure_macs(model: nn.Module, images: Tensor) -> int:
    """Returns the multiply-accumulates of convolutions and linears in one forward pass, as fvcore counts them."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fvcore imports torch.jit's deprecated parts
        from fvcore.nn import FlopCountAnalysis

        counts = FlopCountAnalysis(model, images).unsupported_ops_warnings(False).by_operator()
    return sum(int(counts[name]) for name in ("conv", "linear", "addmm") if name in counts)
