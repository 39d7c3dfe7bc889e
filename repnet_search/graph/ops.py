"""The vocabulary of a training step: operators, and the tensors that they read and write.

A `TrainingGraph` is one training step at one micro-batch as a list of operators in the order in which they run, the
forward pass first. Its readers (memory/) turn it into bytes; none of them knows what a design is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from repnet_search.backbones import Activation


class OpKind(StrEnum):
    """An operator of the training step; each forward one has its backward one."""

    IMAGE_POOL = "image pool"
    CONV = "conv"
    RESIDUAL_ADD = "residual add"
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
    RESIDUAL_ADD_BACKWARD = "residual add backward"
    CONV_BACKWARD = "conv backward"
    GRADIENT_ADD = "gradient add"


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


@dataclass(slots=True)
class Tensor:
    """A value of the step. In-place results share the `storage` (a tensor index) of the value that they overwrite."""

    name: str
    elements: int
    size_bytes: int
    role: Role
    storage: int


@dataclass(slots=True)
class Op:
    """An operator: what it reads and writes (tensor indices), and what the readers' rules ask about it.

    `place` names the block or module; `trainable` are the elements of each trainable tensor that it owns, the weight's
    first. `input_needs_gradient` and `output_needs_gradient` say whether autograd tracks its first input and its
    output.
    """

    kind: OpKind
    place: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    trainable: tuple[int, ...] = ()
    weight_trains: bool = False
    input_needs_gradient: bool = False
    output_needs_gradient: bool = False
    activation: Activation = Activation.NONE
    standardised_weights: int = 0
    standardised_channels: int = 0
    macs: int = 0


@dataclass(slots=True)
class TrainingGraph:
    """One training step: tensors, operators in order, and how many of them are the forward pass."""

    tensors: list[Tensor]
    ops: list[Op]
    forward_ops: int
    batch: int
    parameters: tuple[int, ...]
    """Elements of every trainable tensor, in forward order."""
    norm_state_elements: int
    """Running statistics of batch norms."""

    @property
    def parameter_count(self) -> int:
        """Trainable elements in all."""
        return sum(self.parameters)

    @property
    def forward_macs(self) -> int:
        """Multiply-accumulates of the forward pass."""
        return sum(op.macs for op in self.ops[: self.forward_ops])

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole step."""
        return sum(op.macs for op in self.ops)
