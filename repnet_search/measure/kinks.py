"""On which side of a ReLU's kinks every value falls, in a step inside its arena and in the model.

A value within rounding of a kink falls on either side with another order of summation; both gradients are right, and
they differ by all that flows through it. So a comparison of gradients needs to know of such values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from repnet_search.backbones import Activation
from repnet_search.graph import Op, OpKind, Role, TrainingGraph
from repnet_search.measure.arena_memory import OpAccess
from repnet_search.measure.kernel_run import passes
from repnet_search.models.backbone import FrozenBlock, FrozenConv
from repnet_search.models.module import RepNetModule
from repnet_search.models.repnet import RepNet

Sides = dict[str, list[Tensor]]
"""By the name of the layer in front of the activation, one flat bool tensor per micro-batch: where gradients pass."""


def record_sides(sides: Sides, graph: TrainingGraph, op: Op, access: OpAccess) -> None:
    """Adds what an operator on the gradient path has activated, right after it ran."""
    if not (op.kind.is_forward and op.output_needs_gradient):
        return
    if op.kind is OpKind.STREAMED_BLOCK:
        masks = [tensor for tensor in op.writes if graph.tensors[tensor].role is Role.MASK]
        for parameter, mask in zip(op.parameters[::2], masks, strict=False):
            sides.setdefault(parameter.name.removesuffix(".weight"), []).append(access.read_bits(mask))
    elif op.activation is not Activation.NONE and op.kind is not OpKind.CHANNEL_SCALE:
        output = access.read(op.writes[0])
        sides.setdefault(_name(graph, op), []).append(passes(output, op.activation).flatten())


def _name(graph: TrainingGraph, op: Op) -> str:
    """Returns the name of the layer in front of an operator's activation, or of a residual add's block."""
    if op.kind is OpKind.ACTIVATION:
        op = next(other for other in graph.ops if op.reads[0] in other.writes)
    if op.parameters:
        return op.parameters[0].name.removesuffix(".weight")
    return f"backbone.{op.place.replace('block ', 'blocks.')}"


@contextmanager
def watch_sides(model: RepNet) -> Iterator[Sides]:
    """Collects what a model activates while the context lasts."""
    sides: Sides = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, FrozenConv) or (isinstance(module, FrozenBlock) and module.residual):
            handles.append(module.register_forward_hook(partial(_append, sides, name, module.activation)))
        if isinstance(module, RepNetModule):
            for index, layer in enumerate(module.layers):
                if isinstance(layer, nn.ReLU):
                    key = f"{name}.layers.{index - 1}"
                    handles.append(layer.register_forward_hook(partial(_append, sides, key, Activation.RELU)))
    try:
        yield sides
    finally:
        for handle in handles:
            handle.remove()


def _append(
    sides: Sides, name: str, activation: Activation, _module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor
) -> None:
    sides.setdefault(name, []).append(passes(output.detach(), activation).flatten())


def count_flips(found: Mapping[str, list[Tensor]], expected: Mapping[str, list[Tensor]]) -> int:
    """Returns how many values of `found` fall on another side than those of `expected`."""
    return sum(
        int(torch.ne(one, other).sum())
        for name, values in found.items()
        for one, other in zip(values, expected[name], strict=True)
    )
