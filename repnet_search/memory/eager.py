"""The `eager` account: what stock PyTorch keeps for the backward pass, operator by operator.

The rules were measured with torch.autograd.graph.saved_tensors_hooks on torch 2.13 (a pinned test notices a torch that
keeps something else). A frozen convolution keeps its whole input needlessly (pytorch/pytorch#133566), ReLU6 its input
beside it, and average pooling its input although only the shape is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from repnet_search.backbones import Activation
from repnet_search.errors import RepnetSearchError
from repnet_search.graph import Op, OpKind, TrainingGraph
from repnet_search.graph.tape import FLOAT_BYTES

LABEL_BYTES = 8
WINNER_BYTES = 8

Kept = tuple[str, int]
"""A key that is the same for the same storage, and its bytes."""


def count_kept_bytes(graph: TrainingGraph) -> int:
    """Returns the bytes that stock PyTorch keeps for a step: distinct storages, parameters left out, all in fp32.

    Raises:
        RepnetSearchError: an operator of the forward pass has no rule; nothing is silently counted as 0.
    """
    kept: dict[str, int] = {}
    for index, op in enumerate(graph.ops[: graph.forward_ops]):
        rule = EAGER_RULES.get(op.kind)
        if rule is None:
            raise RepnetSearchError(f"The eager account has no rule for the operator '{op.kind.value}' at {op.place}.")
        for key, size in rule(graph, op):
            kept[key if key.startswith("tensor") else f"op {index} {key}"] = size
    return sum(kept.values())


def _tensor(graph: TrainingGraph, index: int) -> Kept:
    return f"tensor {index}", graph.tensors[index].elements * FLOAT_BYTES


def _nothing(_: TrainingGraph, __: Op) -> Iterator[Kept]:
    return iter(())


def _conv(graph: TrainingGraph, op: Op) -> Iterator[Kept]:
    """Its input whenever anything here is tracked, and what its activation keeps."""
    if not op.output_needs_gradient:
        return
    yield _tensor(graph, op.reads[0])
    yield from _activated(graph, op)
    if op.standardised:
        # Standardised by batch_norm over output channels: mean and 1/σ, and the convolution keeps the result.
        yield "standardised", FLOAT_BYTES * (op.parameters[0].elements + 2 * op.conv.out_channels)


def _backbone_norm(graph: TrainingGraph, op: Op) -> Iterator[Kept]:
    """Its input, frozen or not; mean and 1/σ where it takes them from the batch; the activation as of a convolution."""
    if not op.output_needs_gradient:
        return
    yield "before norm", graph.tensors[op.reads[0]].elements * FLOAT_BYTES
    yield "batch statistics", 2 * FLOAT_BYTES * op.parameters[0].elements if op.weight_trains else 0
    yield from _activated(graph, op)


def _activated(graph: TrainingGraph, op: Op) -> Iterator[Kept]:
    """ReLU6 and the hard sigmoid keep their input, ReLU and the sigmoid their output."""
    if op.activation in (Activation.RELU6, Activation.HARD_SIGMOID):
        yield "before activation", _tensor(graph, op.writes[0])[1]
    elif op.activation in (Activation.RELU, Activation.SIGMOID):
        yield _tensor(graph, op.writes[0])


def _smooth(graph: TrainingGraph, op: Op) -> Iterator[Kept]:
    """H-swish and SiLU keep their input, which is nobody else's; the key is not that of what may overwrite it here."""
    yield "before activation", graph.tensors[op.reads[0]].elements * FLOAT_BYTES


def _channel_scale(graph: TrainingGraph, op: Op) -> Iterator[Kept]:
    """A product keeps both factors."""
    if op.output_needs_gradient:
        yield _tensor(graph, op.reads[0])
        yield _tensor(graph, op.reads[1])


def _residual_add(graph: TrainingGraph, op: Op) -> Iterator[Kept]:
    if op.output_needs_gradient:
        yield from _activated(graph, op)


def _max_pool(graph: TrainingGraph, op: Op) -> Iterator[Kept]:
    """Its input, and the place of every maximum as int64."""
    if op.input_needs_gradient:
        yield _tensor(graph, op.reads[0])
        yield "winners", WINNER_BYTES * graph.tensors[op.writes[0]].elements


def _average_pool(graph: TrainingGraph, op: Op) -> Iterator[Kept]:
    if op.input_needs_gradient:
        yield _tensor(graph, op.reads[0])


def _norm(graph: TrainingGraph, op: Op) -> Iterator[Kept]:
    yield _tensor(graph, op.reads[0])
    yield _tensor(graph, op.writes[1])
    if op.activation is Activation.RELU:
        yield _tensor(graph, op.writes[0])


def _exchange(graph: TrainingGraph, op: Op) -> Iterator[Kept]:
    """γ⊙s keeps s; an exchange that only reads keeps nothing."""
    if op.weight_trains:
        yield _tensor(graph, op.reads[1])


def _linear(graph: TrainingGraph, op: Op) -> Iterator[Kept]:
    yield _tensor(graph, op.reads[0])


def _loss(graph: TrainingGraph, op: Op) -> Iterator[Kept]:
    """log-softmax, labels and the total weight."""
    yield _tensor(graph, op.writes[0])
    yield "labels", LABEL_BYTES * graph.batch + FLOAT_BYTES


EAGER_RULES: dict[OpKind, Callable[[TrainingGraph, Op], Iterator[Kept]]] = {
    OpKind.IMAGE_POOL: _nothing,
    OpKind.CONV: _conv,
    OpKind.BACKBONE_NORM: _backbone_norm,
    OpKind.ACTIVATION: _smooth,
    OpKind.SQUEEZE: _nothing,
    OpKind.CHANNEL_SCALE: _channel_scale,
    OpKind.RESIDUAL_ADD: _residual_add,
    OpKind.MAX_POOL: _max_pool,
    OpKind.AVERAGE_POOL: _average_pool,
    OpKind.NORM: _norm,
    OpKind.RESIZE: _nothing,
    OpKind.EXCHANGE: _exchange,
    OpKind.GLOBAL_POOL: _nothing,
    OpKind.LINEAR: _linear,
    OpKind.LOSS: _loss,
}
"""The rule of every forward operator that PyTorch has; a streamed block is none."""
