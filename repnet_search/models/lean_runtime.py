"""The lean runtime: a Rep-Net's forward pass walked operator by operator along its op list.

It runs what the arena account counts under the schedule `layer`: the same operators in the same order, in place where
the op list is, every value dropped after its last reader, and kept for the backward pass is what the op list keeps.
The parameters are the RepNet's own, so a model may train on one runtime and predict on the other.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from repnet_search.backbones import Activation
from repnet_search.graph import NormLayer, Op, OpKind, Slopes, TrainingGraph, build_graph
from repnet_search.models.backbone import activate as activated
from repnet_search.models.lean import (
    ActivatedSum,
    AveragePool,
    CrossEntropy,
    FrozenConv,
    GlobalPool,
    MaxPool,
    activate,
    apply,
    frozen_conv,
)
from repnet_search.models.lean_module import OutputNormValues, StandardisedConv, WriteExchange, output_norm
from repnet_search.models.lean_smooth import ChannelScale, CoarseActivation
from repnet_search.models.module import OutputBatchNorm, OutputNorm
from repnet_search.models.repnet import RepNet
from repnet_search.models.winners import max_pool
from repnet_search.spec.design import Exchange, Norm
from repnet_search.spec.resolve import ResolvedDesign

Values = dict[int, Tensor]
"""The tensors that are alive, by their index in the op list."""


class LeanRuntime:
    """Trains a RepNet with the memory of the arena account."""

    def __init__(self, model: RepNet, resolved: ResolvedDesign, *, slopes: Slopes = Slopes.EXACT) -> None:
        """Prepares one function per operator.

        Args:
            model: whose parameters are used; on its final device already.
            resolved: its design.
            slopes: how the slopes of smooth activations are kept.
        """
        # The operators do not depend on the batch, but batch norms refuse a batch of one.
        self.graph = build_graph(resolved, classes=model.head.out_features, batch=2, slopes=slopes)
        self.model = model
        self._parameters = dict(model.named_parameters()) | dict(model.named_buffers())
        self._norms: dict[int, OutputNormValues] = {}
        self._total_weight = torch.empty_like(model.head.weight[0, 0])
        self._labels: Tensor | None = None
        forward = self.graph.ops[: self.graph.forward_ops]
        self._raw = _raw_outputs(self.graph)
        drops = _last_reads(self.graph, self._raw)
        # Not bound to this object: in a cycle it would hold its model until the garbage collector comes round.
        self._steps = [(KERNELS[op.kind], op, drops[index]) for index, op in enumerate(forward)]

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Returns the mean cross-entropy of normalised images (N, 3, H, W) with int64 labels (N,)."""
        self._labels = labels
        values: Values = {0: images}
        for kernel, op, drops in self._steps:
            kernel(self, op, values)
            for tensor in drops:
                values.pop(tensor, None)
        self._labels = None
        self._norms.clear()
        return values[self.graph.ops[self.graph.forward_ops - 1].writes[1]]

    def _weights(self, op: Op) -> list[Tensor]:
        return [self._parameters[parameter.name] for parameter in op.parameters]

    def _image_pool(self, op: Op, values: Values) -> None:
        values[op.writes[0]] = functional.avg_pool2d(values[op.reads[0]], _window(op))

    def _conv(self, op: Op, values: Values) -> None:
        x, output = op.reads[0], op.writes[0]
        if op.weight_trains:
            values[output] = self._module_conv(op, values[x])
        elif op.output_needs_gradient:
            values[output] = apply(FrozenConv, values[x], *self._weights(op), op.conv)
        else:
            weight, bias = self._weights(op)
            values[output] = frozen_conv(values[x], weight, bias, op.conv)

    def _module_conv(self, op: Op, x: Tensor) -> Tensor:
        weight, *biases = self._weights(op)
        bias = biases[0] if biases else None
        if op.standardised:
            output: Tensor = apply(StandardisedConv, x, weight, bias, op.conv)
        else:
            output = functional.conv2d(x, weight, bias, padding=op.conv.kernel // 2, groups=op.conv.groups)
        return functional.relu_(output) if op.activation is Activation.RELU else output

    def _residual_add(self, op: Op, values: Values) -> None:
        shortcut, branch = (values[index] for index in op.reads)
        if op.activation is Activation.NONE:
            values[op.writes[0]] = branch.add_(shortcut)
        elif op.output_needs_gradient:
            values[op.writes[0]] = apply(ActivatedSum, branch, shortcut, op.activation)
        else:
            values[op.writes[0]] = activate(branch.add_(shortcut), op.activation)

    def _activation(self, op: Op, values: Values) -> None:
        x = values[op.reads[0]]
        coarse = self.graph.tensors[op.writes[0]].storage == self.graph.tensors[op.reads[0]].storage
        values[op.writes[0]] = apply(CoarseActivation, x, op.activation) if coarse else activated(x, op.activation)

    def _squeeze(self, op: Op, values: Values) -> None:
        values[op.writes[0]] = functional.adaptive_avg_pool2d(values[op.reads[0]], 1)

    def _channel_scale(self, op: Op, values: Values) -> None:
        x, gate, *kept = (values[index] for index in op.reads)
        if op.output_needs_gradient:
            values[op.writes[0]] = apply(ChannelScale, x, gate, kept[0] if kept else x, op.activation)
        else:
            values[op.writes[0]] = x.mul_(gate)

    def _max_pool(self, op: Op, values: Values) -> None:
        x = values[op.reads[0]]
        values[op.writes[0]] = apply(MaxPool, x) if op.input_needs_gradient else max_pool(x, with_winners=False)[0]

    def _average_pool(self, op: Op, values: Values) -> None:
        values[op.writes[0]] = apply(AveragePool, values[op.reads[0]], _window(op))

    def _norm(self, op: Op, values: Values) -> None:
        assert isinstance(op.layer, NormLayer)
        x, norm = values[op.reads[0]], self._module(op)
        if isinstance(norm, OutputNorm | OutputBatchNorm):
            if self._writes(op):
                values[op.writes[0]], self._norms[op.reads[0]] = output_norm(x, norm.bias, norm)
            else:
                values[op.writes[0]] = norm(x)
            return
        values[op.writes[0]] = functional.relu_(norm(x))

    def _module(self, op: Op) -> nn.Module:
        """Returns the torch module that an operator's parameters belong to."""
        return self.model.get_submodule(op.parameters[0].name.rpartition(".")[0])

    def _writes(self, op: Op) -> bool:
        """Whether the connector of a module's operator writes."""
        return self.model.shapes[int(op.place.removeprefix("module ")) - 1].exchange.writes

    def _resize(self, op: Op, values: Values) -> None:
        size = self.graph.tensors[op.writes[0]].shape[-2:]
        # What a writing connector's gradient passes through is its exchange's business.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._writes(op)):
            values[op.writes[0]] = functional.interpolate(
                values[op.reads[0]], size=list(size), mode="bilinear", align_corners=False
            )

    def _exchange(self, op: Op, values: Values) -> None:
        feature, s = (values[index] for index in op.reads)
        if op.layer is Exchange.TO_REPNET:
            values[op.writes[0]] = s.add_(feature)
            return
        raw = self._raw[op.place]
        norm = self._norms.pop(raw, None) or OutputNormValues(Norm.NONE, 0, values[raw], None, None, None)
        (gamma,) = self._weights(op)
        merged, stream = apply(WriteExchange, feature, norm.raw, norm.bias, gamma, s, norm)
        values[op.writes[0]] = merged
        if op.layer is Exchange.TO_BACKBONE:
            values[op.reads[1]] = stream

    def _global_pool(self, op: Op, values: Values) -> None:
        values[op.writes[0]] = apply(GlobalPool, *(values[index] for index in op.reads))

    def _linear(self, op: Op, values: Values) -> None:
        values[op.writes[0]] = functional.linear(values[op.reads[0]], *self._weights(op))

    def _loss(self, op: Op, values: Values) -> None:
        values[op.writes[1]] = apply(CrossEntropy, values[op.reads[0]], self._labels, self._total_weight)


def _window(op: Op) -> int:
    assert isinstance(op.layer, int)
    return op.layer


def _raw_outputs(graph: TrainingGraph) -> dict[str, int]:
    """Returns for each module its last convolution's output, which a writing exchange reads."""
    return {op.place: op.writes[0] for op in graph.ops[: graph.forward_ops] if op.kind is OpKind.CONV}


def _last_reads(graph: TrainingGraph, raw: dict[str, int]) -> list[tuple[int, ...]]:
    """Returns for each forward operator the tensors that nobody reads behind it in the forward pass."""
    last: dict[int, int] = {}
    for index, op in enumerate(graph.ops[: graph.forward_ops]):
        touched = op.reads + op.writes
        if op.kind is OpKind.EXCHANGE:
            touched += (raw[op.place],)
        last |= dict.fromkeys(touched, index)
    last.pop(graph.ops[graph.forward_ops - 1].writes[1])
    return [tuple(tensor for tensor, at in last.items() if at == index) for index in range(graph.forward_ops)]


KERNELS: dict[OpKind, Callable[[LeanRuntime, Op, Values], None]] = {
    OpKind.IMAGE_POOL: LeanRuntime._image_pool,
    OpKind.CONV: LeanRuntime._conv,
    OpKind.ACTIVATION: LeanRuntime._activation,
    OpKind.SQUEEZE: LeanRuntime._squeeze,
    OpKind.CHANNEL_SCALE: LeanRuntime._channel_scale,
    OpKind.RESIDUAL_ADD: LeanRuntime._residual_add,
    OpKind.MAX_POOL: LeanRuntime._max_pool,
    OpKind.AVERAGE_POOL: LeanRuntime._average_pool,
    OpKind.NORM: LeanRuntime._norm,
    OpKind.RESIZE: LeanRuntime._resize,
    OpKind.EXCHANGE: LeanRuntime._exchange,
    OpKind.GLOBAL_POOL: LeanRuntime._global_pool,
    OpKind.LINEAR: LeanRuntime._linear,
    OpKind.LOSS: LeanRuntime._loss,
}
"""The function of every forward operator of a frozen, folded backbone under the schedule `layer`."""
