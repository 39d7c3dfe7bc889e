"""The vocabulary of a training step: operators, and the tensors that they read and write.

A `TrainingGraph` is one training step at one micro-batch as a list of operators in the order in which they run, the
forward pass first. It says enough to count the step, to place it and to run it: its readers (memory/, the lean runtime
in models/, the executor in measure/) need nothing else, and none of them knows what a design is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from repnet_search.backbones import Activation, Block, Conv
from repnet_search.spec.design import Exchange, Norm
from repnet_search.spec.target import Schedule, Slopes


class OpKind(StrEnum):
    """An operator of the training step; each forward one that is on the gradient path has its backward one."""

    IMAGE_POOL = "image pool"
    CONV = "conv"
    STREAMED_BLOCK = "streamed block"
    BACKBONE_NORM = "backbone norm"
    ACTIVATION = "activation"
    SQUEEZE = "squeeze"
    CHANNEL_SCALE = "channel scale"
    RESIDUAL_ADD = "residual add"
    MAX_POOL = "max pool"
    AVERAGE_POOL = "average pool"
    NORM = "norm"
    RESIZE = "resize"
    EXCHANGE = "exchange"
    GLOBAL_POOL = "global pool"
    LINEAR = "linear"
    LOSS = "loss"
    LOSS_BACKWARD = "loss backward"
    LINEAR_BACKWARD = "linear backward"
    GLOBAL_POOL_BACKWARD = "global pool backward"
    EXCHANGE_BACKWARD = "exchange backward"
    RESIZE_BACKWARD = "resize backward"
    NORM_BACKWARD = "norm backward"
    AVERAGE_POOL_BACKWARD = "average pool backward"
    MAX_POOL_BACKWARD = "max pool backward"
    RESIDUAL_ADD_BACKWARD = "residual add backward"
    CHANNEL_SCALE_BACKWARD = "channel scale backward"
    SQUEEZE_BACKWARD = "squeeze backward"
    ACTIVATION_BACKWARD = "activation backward"
    BACKBONE_NORM_BACKWARD = "backbone norm backward"
    STREAMED_BLOCK_BACKWARD = "streamed block backward"
    CONV_BACKWARD = "conv backward"
    GRADIENT_ADD = "gradient add"

    @property
    def is_forward(self) -> bool:
        """Whether the operator belongs to the forward pass."""
        return self in FORWARD_KINDS


FORWARD_KINDS = frozenset(list(OpKind)[: list(OpKind).index(OpKind.LOSS) + 1])


class Role(StrEnum):
    """What a tensor is for, as tables and pictures group it."""

    IMAGE = "image"
    BACKBONE = "backbone feature"
    REPNET = "rep-net feature"
    MASK = "mask"
    STATISTICS = "norm statistics"
    LOSS = "logits and loss"
    GRADIENT = "activation gradient"
    WEIGHT_GRADIENT = "weight gradient"
    WEIGHT = "standardised weight"
    WORKSPACE = "workspace"


class Trained(StrEnum):
    """What trains: what the design says, or a whole network's norms and head, or everything (reference methods)."""

    DESIGN = "design"
    NORMS_AND_HEAD = "norms and head"
    EVERYTHING = "everything"


class Parameter(NamedTuple):
    """A weight that an operator reads: its name in the model's state, its elements, and whether it trains."""

    name: str
    elements: int
    trains: bool


@dataclass(frozen=True, slots=True)
class NormLayer:
    """A norm over `channels`: its kind, and its groups where it has any."""

    kind: Norm
    groups: int
    channels: int


Layer = Conv | Block | NormLayer | Exchange | int | None
"""What an operator computes: the int is the side of a pool's window."""


@dataclass(slots=True)
class Tensor:
    """A value of the step, of `shape` with the batch first where it has one.

    In-place results share the `storage` (a tensor index) of the value that they overwrite.
    """

    name: str
    shape: tuple[int, ...]
    elements: int
    size_bytes: int
    role: Role
    storage: int


@dataclass(slots=True)
class Op:
    """An operator: what it reads and writes (tensor indices), and what the readers' rules ask about it.

    Args:
        kind: what it is.
        place: the block or module that it belongs to.
        reads: the tensors that it needs.
        writes: the tensors that it makes or changes; the result first, then masks, statistics and workspaces. An int8
            exchange's backward operator names b's gradient behind the result: it masks it in place.
        layer: its geometry.
        parameters: the weights that it reads, the weight first.
        activation: what is fused behind it; of a channel scale, what makes its input map again from what is kept.
        input_needs_gradient: whether autograd tracks its first input.
        output_needs_gradient: whether autograd tracks its output.
        standardised: whether it standardises its weight first.
        macs: multiply-accumulates, of the whole micro-batch.
        of: the index of the forward operator that a backward operator belongs to.
    """

    kind: OpKind
    place: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    layer: Layer = None
    parameters: tuple[Parameter, ...] = ()
    activation: Activation = Activation.NONE
    input_needs_gradient: bool = False
    output_needs_gradient: bool = False
    standardised: bool = False
    macs: int = 0
    of: int = -1

    @property
    def weight_trains(self) -> bool:
        """Whether its first parameter trains, which is what decides if a convolution keeps its input."""
        return bool(self.parameters) and self.parameters[0].trains

    @property
    def conv(self) -> Conv:
        """The geometry of a convolution."""
        assert isinstance(self.layer, Conv)
        return self.layer


@dataclass
class TrainingGraph:
    """One training step: tensors, operators in order, and how many of them are the forward pass."""

    tensors: list[Tensor]
    ops: list[Op]
    forward_ops: int
    batch: int
    parameters: tuple[Parameter, ...]
    """Every parameter that the step reads, frozen or not, in forward order."""
    norm_state_elements: int
    """Running statistics of batch norms that train."""
    schedule: Schedule = Schedule.LAYER
    slopes: Slopes = Slopes.EXACT

    @cached_property
    def parameter_count(self) -> int:
        """Trainable elements in all."""
        return sum(parameter.elements for parameter in self.parameters if parameter.trains)

    @property
    def forward_macs(self) -> int:
        """Multiply-accumulates of the forward pass."""
        return sum(op.macs for op in self.ops[: self.forward_ops])

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole step."""
        return sum(op.macs for op in self.ops)

    def image(self) -> Tensor:
        """Returns the image, which is the first tensor."""
        return self.tensors[0]
