"""What autograd really keeps for the backward pass, measured with hooks on the running model.

Tensors that an autograd function puts on its `ctx` as attributes are not seen by these hooks; neither stock operators
nor the lean runtime's functions do that, and the live-bytes tracker would see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from repnet_search.memory.liveness import align
from repnet_search.models.lean_runtime import LeanRuntime
from repnet_search.models.quantised import QuantisedBackbone
from repnet_search.models.repnet import RepNet


def measure_kept_bytes(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Returns the bytes of distinct storages that a stock step's forward pass saves, parameters and buffers left out.

    Args:
        model: logits (N, K) from images.
        images: as the model takes them, (N, 3, H, W).
        labels: int64 (N,).
    """
    own = [*model.parameters(), *model.buffers()]
    saved = _collect_saved(lambda: functional.cross_entropy(model(images), labels), left_out=own)
    return sum(saved)


def measure_lean_kept_bytes(runtime: LeanRuntime, images: Tensor, labels: Tensor) -> int:
    """Returns the same of a step on the lean runtime, each storage aligned as the arena account has it.

    The labels are the caller's and left out, as in that account.
    """
    own = [*runtime.model.parameters(), *runtime.model.buffers(), labels]
    return sum(align(size) for size in _collect_saved(lambda: runtime.loss(images, labels), left_out=own))


def _collect_saved(forward: Callable[[], object], *, left_out: Iterable[Tensor]) -> list[int]:
    """Returns the bytes of each distinct storage that autograd saves."""
    own = {value.untyped_storage().data_ptr() for value in left_out}
    saved: dict[int, Tensor] = {}  # holding the tensors keeps their addresses from being used again

    def pack(value: Tensor) -> Tensor:
        # With its grad_fn a saved value would hold the graph that holds it, a cycle that no garbage collector sees.
        value = value.detach()
        if value.untyped_storage().data_ptr() not in own:
            saved[value.untyped_storage().data_ptr()] = value
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        forward()
    return [value.untyped_storage().nbytes() for value in saved.values()]


def measure_macs(model: RepNet, images: Tensor) -> int:
    """Returns the multiply-accumulates of convolutions and linears in one forward pass, as fvcore counts them.

    It does not see into the autograd functions of an int8 backbone; there torch's own counter does, by 2 per product.
    """
    import warnings

    if isinstance(model.backbone, QuantisedBackbone):
        from torch.utils.flop_counter import FlopCounterMode

        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(images)
        return int(counter.get_total_flops()) // 2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fvcore imports torch.jit's deprecated parts
        from fvcore.nn import FlopCountAnalysis

        counts = FlopCountAnalysis(model, images).unsupported_ops_warnings(False).by_operator()
    return sum(int(counts[name]) for name in ("conv", "linear", "addmm") if name in counts)
