"""Runs a training step inside its planned arena: the proof that the planned bytes suffice.

Every operator of the op list has a reference kernel that sees nothing but the tensors that the operator names, as views
into one byte array of the planned size. Parameters, norm statistics, optimizer state, accumulated gradients and the
labels live outside, as the account counts them. The kernels' arithmetic may use torch temporaries: they are scratch of
these reference kernels, and a kernel that loops over elements has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from repnet_search.errors import SpecError
from repnet_search.graph import OpKind, Role, TrainingGraph
from repnet_search.measure import kernels_backward as backward
from repnet_search.measure import kernels_forward as forward
from repnet_search.measure import kernels_int8 as int8
from repnet_search.measure import kernels_smooth as smooth
from repnet_search.measure import kernels_streamed as streamed
from repnet_search.measure.arena_memory import ArenaMemory, OpAccess
from repnet_search.measure.codes import record_codes
from repnet_search.measure.int8_step import describe_int8_step
from repnet_search.measure.kernel_run import KernelRun
from repnet_search.measure.kinks import Sides, record_sides
from repnet_search.memory import Arena
from repnet_search.models.input_range import InputRange
from repnet_search.models.module import NORM_EPS
from repnet_search.models.quantised import QuantisedBackbone
from repnet_search.models.quantised_block import QuantisedConv
from repnet_search.spec import Recipe
from repnet_search.training.update import ParameterRule

KERNELS: Mapping[OpKind, Callable[[KernelRun], None]] = {
    OpKind.IMAGE_POOL: forward.average_pool,
    OpKind.CONV: forward.conv,
    OpKind.STREAMED_BLOCK: streamed.streamed_block,
    OpKind.BACKBONE_NORM: forward.backbone_norm,
    OpKind.ACTIVATION: smooth.activation,
    OpKind.SQUEEZE: smooth.squeeze,
    OpKind.CHANNEL_SCALE: smooth.channel_scale,
    OpKind.RESIDUAL_ADD: forward.residual_add,
    OpKind.MAX_POOL: forward.max_pool,
    OpKind.AVERAGE_POOL: forward.average_pool,
    OpKind.NORM: forward.norm,
    OpKind.RESIZE: forward.resize,
    OpKind.EXCHANGE: forward.exchange,
    OpKind.GLOBAL_POOL: forward.global_pool,
    OpKind.LINEAR: forward.linear,
    OpKind.LOSS: forward.loss,
    OpKind.LOSS_BACKWARD: backward.loss_backward,
    OpKind.LINEAR_BACKWARD: backward.linear_backward,
    OpKind.GLOBAL_POOL_BACKWARD: backward.global_pool_backward,
    OpKind.EXCHANGE_BACKWARD: backward.exchange_backward,
    OpKind.RESIZE_BACKWARD: backward.resize_backward,
    OpKind.NORM_BACKWARD: backward.norm_backward,
    OpKind.AVERAGE_POOL_BACKWARD: backward.average_pool_backward,
    OpKind.MAX_POOL_BACKWARD: backward.max_pool_backward,
    OpKind.RESIDUAL_ADD_BACKWARD: backward.residual_add_backward,
    OpKind.CHANNEL_SCALE_BACKWARD: smooth.channel_scale_backward,
    OpKind.SQUEEZE_BACKWARD: smooth.squeeze_backward,
    OpKind.ACTIVATION_BACKWARD: smooth.activation_backward,
    OpKind.BACKBONE_NORM_BACKWARD: backward.backbone_norm_backward,
    OpKind.STREAMED_BLOCK_BACKWARD: streamed.streamed_block_backward,
    OpKind.CONV_BACKWARD: backward.conv_backward,
    OpKind.GRADIENT_ADD: backward.gradient_add,
}

INT8_KERNELS: Mapping[OpKind, Callable[[KernelRun], None]] = {
    **KERNELS,
    OpKind.IMAGE_POOL: int8.image_pool,
    OpKind.CONV: int8.conv,
    OpKind.STREAMED_BLOCK: int8.streamed_block,
    OpKind.RESIDUAL_ADD: int8.residual_add,
    OpKind.MAX_POOL: int8.max_pool,
    OpKind.EXCHANGE: int8.exchange,
}


class ArenaExecutor:
    """Runs micro-batches of a step.

    `state` are the parameters, `gradients` those of the update; `sides` says where activations let gradients pass, and
    `codes` are what an int8 backbone computed, on the grids of `int8`.
    """

    def __init__(
        self,
        graph: TrainingGraph,
        arena: Arena,
        state: Mapping[str, Tensor],
        *,
        recipe: Recipe,
        input_range: InputRange,
        rate_scale: float = 1.0,
        norm_eps: float = NORM_EPS,
        forgets: bool = True,
        backbone: QuantisedBackbone | None = None,
    ) -> None:
        """Makes the arena, and copies of the parameters outside it.

        Args:
            graph: the step.
            arena: a placement of its buffers.
            state: every parameter and norm statistic by name, as RepNet's state has them.
            recipe: the update, fused where it accumulates nothing.
            input_range: what the image's bytes mean.
            rate_scale: a factor on the learning rate.
            norm_eps: ε of the backbone's norms, where they are not folded.
            forgets: whether a buffer is poisoned right after its last use.
            backbone: the codes of an int8 backbone and the grids of its tensors; its biases are those of `state`.

        Raises:
            SpecError: the step's backbone is int8 and there is no `backbone`.
        """
        features = [tensor for tensor in graph.tensors if tensor.role is Role.BACKBONE]
        if backbone is None and any(tensor.size_bytes == tensor.elements for tensor in features):
            raise SpecError("A step with an int8 backbone needs its codes and grids, but got none; pass the backbone.")
        self.state = {name: value.detach().clone() for name, value in state.items()}
        self.gradients: dict[str, Tensor] = {}
        self.sides: Sides = {}
        self.codes: Sides = {}
        self.int8 = None if backbone is None else describe_int8_step(graph, backbone)
        if backbone is not None:
            self.state |= _real_weights(backbone)
        self._graph = graph
        self._memory = ArenaMemory(graph, arena, forgets=forgets)
        self._recipe = recipe
        self._rate_scale = rate_scale
        self._rule = ParameterRule(recipe.optimizer)
        self._input_range = input_range
        self._norm_eps = norm_eps

    @property
    def touched_bytes(self) -> int:
        """The end of the highest buffer that a kernel asked for, its size rounded up as the plan has it."""
        return self._memory.touched_bytes

    @torch.no_grad()
    def run(self, images: Tensor, labels: Tensor) -> float:
        """Returns the loss of one micro-batch, after its forward and backward pass with the fused update.

        Args:
            images: uint8 (N, 3, H, W).
            labels: int64 (N,).
        """
        self._memory.load_image(images)
        loss = float("nan")
        for index, op in enumerate(self._graph.ops):
            access = OpAccess(self._memory, index)
            run = KernelRun(
                graph=self._graph,
                op=op,
                access=access,
                state=self.state,
                labels=labels,
                input_range=self._input_range,
                norm_eps=self._norm_eps,
                deliver=self._deliver,
                int8=self.int8,
            )
            (KERNELS if self.int8 is None else INT8_KERNELS)[op.kind](run)
            if op.kind is OpKind.LOSS:
                loss = float(access.read(op.writes[1]))
            if self.int8 is not None and op.writes and op.writes[0] in self.int8.grids:
                record_codes(self.codes, run)
            else:
                record_sides(self.sides, self._graph, op, access)
            access.finish()
        return loss

    @torch.no_grad()
    def step(self, micro_batches: int) -> None:
        """Updates all parameters from the mean of so many micro-batches' gradients; a fused rule has done so."""
        if self._recipe.accumulate == 1:
            return
        for name, gradient in self.gradients.items():
            self._update(name, gradient.div_(micro_batches).clone())

    def _deliver(self, name: str, gradient: Tensor) -> None:
        """Records a gradient, and updates its parameter or adds to what has been accumulated."""
        if self._recipe.accumulate > 1:
            self.gradients[name] = self.gradients[name] + gradient if name in self.gradients else gradient.clone()
        else:
            self.gradients[name] = gradient.clone()
            self._update(name, gradient)

    def _update(self, name: str, gradient: Tensor) -> None:
        recipe = self._recipe
        lr = recipe.lr * (recipe.head_lr_ratio if name.startswith("head.") else 1.0)
        self._rule.update(self.state[name], gradient, lr=lr * self._rate_scale)


def _real_weights(backbone: QuantisedBackbone) -> dict[str, Tensor]:
    """Returns what the codes of an int8 backbone's weights stand for, by the names that the op list has for them."""
    convs = {name: module for name, module in backbone.named_modules() if isinstance(module, QuantisedConv)}
    return {f"backbone.{name}.weight": conv.real_weight for name, conv in convs.items()}
