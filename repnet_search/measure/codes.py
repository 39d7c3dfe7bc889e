"""The codes of an int8 backbone, in a step inside its arena and in the model: they must be the same to the last bit.

Of a streamed block's hidden maps, which never exist, the masks are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from repnet_search.graph import OpKind, Role
from repnet_search.measure.kernel_run import KernelRun
from repnet_search.measure.kinks import Sides
from repnet_search.models.quantisation import unclamped
from repnet_search.models.quantised import QuantisedMerge
from repnet_search.models.quantised_block import QuantisedBlock
from repnet_search.models.repnet import RepNet


def record_codes(codes: Sides, run: KernelRun) -> None:
    """Adds the codes that a forward operator has made, right after it ran.

    They are named after the convolution, block or γ that makes them.
    """
    op = run.op
    if op.kind is OpKind.IMAGE_POOL:  # r_0 is no module's output
        return
    names = [parameter.name.removesuffix(".weight") for parameter in op.parameters[::2]]
    if op.kind is OpKind.STREAMED_BLOCK:
        masks = [tensor for tensor in op.writes if run.role(tensor) is Role.MASK]
        for name, mask in zip(names, masks, strict=False):
            codes.setdefault(f"{name} mask", []).append(run.access.read_bits(mask))
    name = names[-1] if names else op.place.replace("block ", "backbone.blocks.")
    codes.setdefault(name, []).append(run.codes(op.writes[0]).flatten())


@contextmanager
def watch_codes(model: RepNet) -> Iterator[Sides]:
    """Collects the codes of a model's int8 backbone while the context lasts; of a float32 one there are none."""
    codes: Sides = {}
    handles = []
    gammas = {shape.after_block: f"gammas.{index}" for index, shape in enumerate(model.shapes)}
    for name, module in model.named_modules():
        if isinstance(module, QuantisedBlock) and not module.block.is_identity:
            handles.append(module.register_forward_hook(partial(_append_block, codes, name)))
        elif isinstance(module, QuantisedMerge):
            gamma = gammas[int(name.rpartition(".")[2])]
            handles.append(module.register_forward_hook(partial(_append_merge, codes, gamma)))
    try:
        yield codes
    finally:
        for handle in handles:
            handle.remove()


def _append_block(codes: Sides, name: str, block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    assert isinstance(block, QuantisedBlock)
    with torch.no_grad():
        _, made = block.run(inputs[0])
    names = [f"{name}.convs.{position}" for position in range(len(block.convs))]
    names += [f"{name}.shortcut"] * (block.shortcut is not None) + [name] * (block.sum is not None)
    for key, (values, grid) in zip(names, made, strict=True):
        codes.setdefault(key, []).append(values.flatten())
        codes.setdefault(f"{key} mask", []).append(unclamped(values, grid).flatten())
    if block.block.max_pool:
        codes.setdefault(name, []).append(block.output.centred(output.detach()).flatten())


def _append_merge(codes: Sides, name: str, merge: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
    assert isinstance(merge, QuantisedMerge)
    codes.setdefault(name, []).append(merge.params.centred(output.detach()).flatten())
