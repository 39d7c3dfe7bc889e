"""What a kernel is given: its operator, access to what the operator names, the parameters, and where gradients go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from repnet_search.backbones import Activation, Block
from repnet_search.graph import NormLayer, Op, OpKind, Role, TrainingGraph
from repnet_search.measure.arena_memory import OpAccess
from repnet_search.measure.int8_step import Int8Step, encode
from repnet_search.models.input_range import InputRange


@dataclass(frozen=True, slots=True)
class KernelRun:
    """One run of one operator.

    Args:
        graph: the step, for shapes and for the forward operator's geometry.
        op: the operator.
        access: the bytes that it may touch.
        state: every parameter and norm statistic by name; they live outside the arena.
        labels: int64 (N,), which live outside the arena as well.
        input_range: what the image's bytes mean.
        norm_eps: ε of the backbone's norms, where they are not folded.
        deliver: takes a parameter's name and its gradient, and updates the parameter or accumulates.
        int8: the grids and codes of an int8 backbone.
    """

    graph: TrainingGraph
    op: Op
    access: OpAccess
    state: dict[str, Tensor]
    labels: Tensor
    input_range: InputRange
    norm_eps: float
    deliver: Callable[[str, Tensor], None]
    int8: Int8Step | None = None

    @property
    def forward(self) -> Op:
        """The forward operator that a backward operator belongs to."""
        return self.graph.ops[self.op.of]

    def read(self, tensor: int) -> Tensor:
        """Returns a tensor's real values, float32 in its shape; an image's bytes are normalised as they are read."""
        if self.int8 is not None and tensor in self.int8.grids:
            return self.codes(tensor) * self.int8.grids[tensor].scale
        if self.graph.tensors[tensor].role is Role.IMAGE:
            return self.input_range.normalise(self.access.read_bytes(tensor))
        return self.access.read(tensor)

    def write(self, tensor: int) -> Tensor:
        """Returns a float32 tensor to be changed in place."""
        return self.access.write(tensor)

    @property
    def int8_step(self) -> Int8Step:
        """What is known of the int8 tensors, where the backbone is int8."""
        assert self.int8 is not None
        return self.int8

    def codes(self, tensor: int) -> Tensor:
        """Returns an int8 tensor's centred codes, whole float32 numbers; an image gets them as it is read."""
        grid = self.int8_step.grids[tensor]
        if self.role(tensor) is Role.IMAGE:
            return grid.quantise(self.input_range.normalise(self.access.read_bytes(tensor)))
        return self.access.read_codes(tensor).float() - grid.zero_point

    def store(self, tensor: int, codes: Tensor) -> None:
        """Writes centred codes into an int8 tensor."""
        self.access.write_codes(tensor).copy_(encode(codes, self.int8_step.grids[tensor]))

    def with_role(self, tensors: tuple[int, ...], role: Role) -> int | None:
        """Returns the first of some tensors that has a role."""
        return next((tensor for tensor in tensors if self.graph.tensors[tensor].role is role), None)

    def parameter(self, position: int) -> Tensor:
        """Returns one of the operator's parameters, as it is before the operator has delivered its gradient."""
        return self.state[self.op.parameters[position].name]

    def bias(self) -> Tensor | None:
        """Returns the second parameter where there is one."""
        return self.parameter(1) if len(self.op.parameters) > 1 else None

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Returns a tensor's shape."""
        return self.graph.tensors[tensor].shape

    def in_place(self, one: int, other: int) -> bool:
        """Whether two tensors share their storage."""
        return self.graph.tensors[one].storage == self.graph.tensors[other].storage

    def norm_of(self, statistics: int) -> Op:
        """Returns the norm that wrote some statistics, for its geometry and its bias."""
        return next(op for op in self.graph.ops if op.kind is OpKind.NORM and statistics in op.writes)

    @property
    def norm(self) -> NormLayer:
        """The geometry of a norm."""
        assert isinstance(self.op.layer, NormLayer)
        return self.op.layer

    @property
    def block(self) -> Block:
        """The geometry of a streamed block."""
        assert isinstance(self.op.layer, Block)
        return self.op.layer

    def role(self, tensor: int) -> Role:
        """Returns what a tensor is for."""
        return self.graph.tensors[tensor].role

    def statistics(self, tensor: int, batch: int) -> tuple[Tensor, Tensor]:
        """Returns means and 1/σ, (N, groups) each; a batch norm's, which all images share, as (N, C)."""
        value = self.read(tensor)
        mean, rstd = (value.view(1, -1) if value.dim() == 1 else value).chunk(2, dim=1)
        return mean.expand(batch, -1).contiguous(), rstd.expand(batch, -1).contiguous()

    def keep_mask(self, output: Tensor, activation: Activation) -> None:
        """Writes the mask of an activated output, where the operator has one."""
        mask = self.with_role(self.op.writes, Role.MASK)
        if mask is not None:
            self.access.write_bits(mask, passes(output, activation).flatten())

    def keep_channel(self, channel: Tensor, mask: int, activation: Activation, *, place: int) -> None:
        """Writes the bits of one channel of one image, the `place`-th of all."""
        self.access.write_bits(mask, passes(channel, activation).flatten(), start=place * channel.numel())

    def mask_channel(self, channel: Tensor, mask: int, *, place: int) -> None:
        """Clamps the gradient of one channel of one image, the `place`-th of all, in place."""
        bits = self.access.read_bits(mask, start=place * channel.numel(), count=channel.numel())
        channel.mul_(bits.view_as(channel))

    def passing(self, kept: int, activation: Activation) -> Tensor:
        """Returns where a gradient passes an activation, from its mask or from its kept output; bool."""
        if self.role(kept) is Role.MASK:
            return self.access.read_bits(kept)
        return passes(self.read(kept), activation)

    def contribute(self, target: int, gradient: Tensor) -> None:
        """Writes a gradient, or adds it where the operator reads what is there."""
        if target in self.op.reads:
            self.write(target).add_(gradient)
        else:
            self.write(target).copy_(gradient)

    def gradient_sums(self, *sizes: int) -> tuple[Tensor, ...]:
        """Returns zeros to sum up gradients of several parameters at once: side by side in the arena's buffer.

        Without a buffer each sum is applied as soon as its channel is done; these are scratch of the reference kernel.
        """
        buffer = self.with_role(self.op.writes, Role.WEIGHT_GRADIENT)
        held = torch.empty(sum(sizes)) if buffer is None else self.write(buffer)[: sum(sizes)]
        sums: tuple[Tensor, ...] = held.zero_().split(sizes)
        return sums

    def train(self, position: int, gradient: Tensor) -> None:
        """Delivers a parameter's gradient if it trains; through the arena where the step has a buffer for it.

        Without such a buffer every element of the gradient is applied as soon as it is summed up; the tensor that is
        passed here is scratch of the reference kernel.
        """
        parameter = self.op.parameters[position]
        if not parameter.trains:
            return
        gradient = gradient.reshape(self.state[parameter.name].shape)
        buffer = self.with_role(self.op.writes, Role.WEIGHT_GRADIENT)
        if buffer is not None and not self._is_held(gradient, buffer):
            held = self.write(buffer)[: gradient.numel()].view_as(gradient)
            gradient = held.copy_(gradient)
        self.deliver(parameter.name, gradient)

    def _is_held(self, gradient: Tensor, buffer: int) -> bool:
        """Whether a gradient lies in a buffer already."""
        start = self.write(buffer).data_ptr()
        return start <= gradient.data_ptr() < start + self.graph.tensors[buffer].size_bytes


def activate_(value: Tensor, activation: Activation) -> Tensor:
    """Activates a tensor in place, and returns it."""
    match activation:
        case Activation.NONE:
            return value
        case Activation.RELU:
            return value.clamp_(min=0)
        case Activation.RELU6:
            return value.clamp_(0, 6)
        case Activation.HARD_SWISH:
            return value.mul_((value + 3).clamp_(0, 6)).div_(6)
        case Activation.SILU:
            return value.mul_(torch.sigmoid(value))
        case Activation.HARD_SIGMOID:
            return value.add_(3).clamp_(0, 6).div_(6)
        case Activation.SIGMOID:
            return value.sigmoid_()


def passes(output: Tensor, activation: Activation) -> Tensor:
    """Returns where a gradient passes an activation, from the activated output; bool.

    Of h-swish and the hard sigmoid, where their curved or sloping part is; what has no kink passes everywhere.
    """
    match activation:
        case Activation.RELU:
            return output > 0
        case Activation.RELU6:
            return (output > 0) & (output < 6)
        case Activation.HARD_SWISH:
            return (output != 0) & (output < 3)
        case Activation.HARD_SIGMOID:
            return (output > 0) & (output < 1)
        case _:
            return torch.ones_like(output, dtype=torch.bool)
