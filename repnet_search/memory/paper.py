"""The `paper` account: TinyTL's and Rep-Net's own rules, only to reproduce published tables.

bytes = N · max_l(temporaries_l + stored before l + residual_l) + 4 · P + 1 · P_frozen, over the layers in the order
in which the published Rep-Net calls them [Cai2020tinytl, Yang2022repnet]. A convolution, linear or norm whose weight
trains stores its input, a ReLU 1 bit per element, any smoother activation 4 bytes, also in front of the first
connector, where no gradient passes. Pooling, resizing, sums, the loss, the backward pass, gradients and optimizer state
are left out, so this is no memory that a device could do with: budgets go by the arena (estimate.py).

[Cai2020tinytl] H. Cai et al., TinyTL: Reduce Memory, Not Parameters for Efficient On-Device Learning, NeurIPS 2020.
[Yang2022repnet] L. Yang, A. S. Rakin, D. Fan, Rep-Net: Efficient On-Device Learning via Feature Reprogramming, CVPR
2022.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from repnet_search.backbones import Activation
from repnet_search.errors import RepnetSearchError, SpecError
from repnet_search.graph import Op, OpKind, Trained, TrainingGraph, build_graph
from repnet_search.graph.tape import FLOAT_BYTES
from repnet_search.spec.resolve import ResolvedDesign

FROZEN_PARAMETER_BYTES = 1
# The rules are per image and read shapes alone. Batch norms, which the published modules have, need a batch to exist.
_GRAPH_BATCH = 2
_HEAD = "head"
# The published Rep-Net runs its first module on the pooled image before the stem.
_CALLED_FIRST = ("image", "module 1")


class PaperLayer(NamedTuple):
    """A layer in call order with its bytes per image: while it runs, and from then on for the backward pass."""

    place: str
    temporary_bytes: int
    stored_bytes: int
    residual_bytes: int


@dataclass(frozen=True, slots=True)
class PaperEstimate:
    """The paper account of a design; activations are per image."""

    total_bytes: int
    peak_activation_bytes: int
    stored_activation_bytes: int
    parameter_bytes: int
    trainable_parameters: int


def estimate_paper(
    resolved: ResolvedDesign, *, classes: int, batch: int, trained: Trained = Trained.DESIGN
) -> PaperEstimate:
    """Returns the paper account of a design or of a reference method.

    Args:
        resolved: the design in its explicit form.
        classes: outputs of the head.
        batch: images of a step.
        trained: what trains; anything but the design's own choice needs a design without connectors.

    Raises:
        SpecError: a batch below 1, an int8 backbone, which these rules do not know, or as `build_graph`.
    """
    if batch < 1:
        raise SpecError(f"A batch must hold at least 1 image, but got {batch}.")
    graph = build_graph(resolved, classes=classes, batch=_GRAPH_BATCH, trained=trained, folded=False)
    peak, stored = 0, 0
    for layer in list_paper_layers(graph):
        peak = max(peak, layer.temporary_bytes + stored + layer.residual_bytes)
        stored += layer.stored_bytes
    parameters = sum(
        parameter.elements * (FLOAT_BYTES if parameter.trains else FROZEN_PARAMETER_BYTES)
        for parameter in graph.parameters
    )
    return PaperEstimate(
        total_bytes=batch * peak + parameters,
        peak_activation_bytes=peak,
        stored_activation_bytes=stored,
        parameter_bytes=parameters,
        trainable_parameters=graph.parameter_count,
    )


def list_paper_layers(graph: TrainingGraph) -> tuple[PaperLayer, ...]:
    """Returns the layers of a step as the published profiler sees them, in its call order, per image.

    Args:
        graph: a step with its backbone's norms apart; its batch plays no part.

    Raises:
        RepnetSearchError: an operator of the forward pass has no rule; nothing is silently counted as 0.
    """
    forward = graph.ops[: graph.forward_ops]
    residuals = _residual_bytes(graph, forward)
    # Masks are counted for the whole network as soon as anything in front of the head is trained.
    masks = any(op.output_needs_gradient for op in forward if op.place != _HEAD)
    layers = []
    for op in sorted(forward, key=lambda op: op.place not in _CALLED_FIRST):
        rule = PAPER_RULES.get(op.kind)
        if rule is None:
            raise RepnetSearchError(f"The paper account has no rule for the operator '{op.kind.value}' at {op.place}.")
        for temporary, kept, mask in rule(graph, op):
            layers.append(PaperLayer(op.place, temporary, kept + mask * masks, residuals.get(op.place, 0)))
    return tuple(layers)


def _residual_bytes(graph: TrainingGraph, forward: list[Op]) -> dict[str, int]:
    """Returns the block's input for every block with a shortcut, which is held while the block runs."""
    inputs: dict[str, int] = {}
    for op in forward:
        inputs.setdefault(op.place, _image_bytes(graph, op.reads[0]))
    return {op.place: inputs[op.place] for op in forward if op.kind is OpKind.RESIDUAL_ADD}


class _Layer(NamedTuple):
    """What a rule says of one layer: bytes while it runs, kept because its weight trains, and of its mask."""

    temporary_bytes: int
    kept_bytes: int = 0
    mask_bytes: int = 0


def _elements(graph: TrainingGraph, index: int) -> int:
    """Returns the elements of a tensor for one image."""
    return math.prod(graph.tensors[index].shape[1:])


def _image_bytes(graph: TrainingGraph, index: int) -> int:
    return FLOAT_BYTES * _elements(graph, index)


def _nothing(_: TrainingGraph, __: Op) -> Iterator[_Layer]:
    return iter(())


def _activation(graph: TrainingGraph, op: Op) -> Iterator[_Layer]:
    """An activation layer of its own behind the operator: while it runs its input, and then 1 bit per element.

    (Hard) sigmoids, h-swish and SiLU store 4 bytes per element.
    """
    if op.activation is not Activation.NONE:
        elements = _elements(graph, op.writes[0])
        mask = (elements + 7) // 8 if op.activation.is_clamp else FLOAT_BYTES * elements
        yield _Layer(FLOAT_BYTES * elements, mask_bytes=mask)


def _conv(graph: TrainingGraph, op: Op) -> Iterator[_Layer]:
    """While it runs its input and, as if its groups ran one after the other, one group's output."""
    size = _image_bytes(graph, op.reads[0])
    yield _Layer(size + _image_bytes(graph, op.writes[0]) // op.conv.groups, kept_bytes=size if op.weight_trains else 0)
    yield from _activation(graph, op)


def _backbone_norm(graph: TrainingGraph, op: Op) -> Iterator[_Layer]:
    """A backbone's norm works with fixed statistics unless its scale trains: a trained shift needs nothing."""
    size = _image_bytes(graph, op.reads[0])
    yield _Layer(size, kept_bytes=size if op.weight_trains else 0)
    yield from _activation(graph, op)


def _module_norm(graph: TrainingGraph, op: Op) -> Iterator[_Layer]:
    """A module's norm always trains; the last one's scale, γ, is the published norm's own."""
    size = _image_bytes(graph, op.reads[0])
    yield _Layer(size, kept_bytes=size)
    yield from _activation(graph, op)


def _linear(graph: TrainingGraph, op: Op) -> Iterator[_Layer]:
    size = _image_bytes(graph, op.reads[0])
    yield _Layer(size + _image_bytes(graph, op.writes[0]), kept_bytes=size)


PAPER_RULES: dict[OpKind, Callable[[TrainingGraph, Op], Iterator[_Layer]]] = {
    OpKind.IMAGE_POOL: _nothing,
    OpKind.CONV: _conv,
    OpKind.BACKBONE_NORM: _backbone_norm,
    OpKind.ACTIVATION: _activation,
    OpKind.SQUEEZE: _nothing,
    OpKind.CHANNEL_SCALE: _nothing,
    OpKind.RESIDUAL_ADD: _activation,
    OpKind.MAX_POOL: _nothing,
    OpKind.AVERAGE_POOL: _nothing,
    OpKind.NORM: _module_norm,
    OpKind.RESIZE: _nothing,
    OpKind.EXCHANGE: _nothing,
    OpKind.GLOBAL_POOL: _nothing,
    OpKind.LINEAR: _linear,
    OpKind.LOSS: _nothing,
}
"""The layers that an operator is in the published profiler; it knows no streamed block."""
