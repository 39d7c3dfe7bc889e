"""The tape: tensors and operators of a step as they are emitted, and the backward pass as a stack of closures.

The backward pass runs in exactly the reverse order of the forward pass. A tensor's gradient begins with its first
contribution and later ones are added in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from repnet_search.graph.ops import Op, OpKind, Parameter, Role, Tensor

FLOAT_BYTES = 4


class Tape:
    """Collects a step's tensors and operators; `batch` is the first dimension of every activation."""

    def __init__(self, *, batch: int, backbone_bytes: int, whole_gradients: bool = False) -> None:
        """Starts an empty step.

        Args:
            batch: images of the micro-batch.
            backbone_bytes: bytes of an activation of the frozen backbone.
            whole_gradients: whether an update needs a parameter's whole gradient as a live buffer.
        """
        self.batch = batch
        self.backbone_bytes = backbone_bytes
        self.whole_gradients = whole_gradients
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []
        self.parameters: list[Parameter] = []
        self.norm_state_elements = 0
        self._backward: list[tuple[int, Callable[[Op], None]]] = []
        self._current = -1
        self._needs_gradient: set[int] = set()
        self._gradients: dict[int, int] = {}

    @property
    def quantised(self) -> bool:
        """Whether the frozen backbone's activations are int8."""
        return self.backbone_bytes == 1

    def tensor(self, name: str, shape: tuple[int, ...], role: Role, *, element_bytes: int = FLOAT_BYTES) -> int:
        """Returns a new tensor in a storage of its own; `shape` is one sample's."""
        elements = self.batch * math.prod(shape)
        index = len(self.tensors)
        self.tensors.append(Tensor(name, (self.batch, *shape), elements, elements * element_bytes, role, index))
        return index

    def mask(self, name: str, shape: tuple[int, ...]) -> int:
        """Returns a new mask of 1 bit per element; `shape` is one sample's."""
        elements = self.batch * math.prod(shape)
        index = len(self.tensors)
        self.tensors.append(Tensor(name, (self.batch, *shape), elements, (elements + 7) // 8, Role.MASK, index))
        return index

    def buffer(self, name: str, shape: tuple[int, ...], role: Role, *, element_bytes: int = FLOAT_BYTES) -> int:
        """Returns a new tensor whose size does not depend on the batch, such as a weight's gradient."""
        elements = math.prod(shape)
        index = len(self.tensors)
        self.tensors.append(Tensor(name, shape, elements, elements * element_bytes, role, index))
        return index

    def in_place(self, name: str, over: int, shape: tuple[int, ...] | None = None) -> int:
        """Returns a tensor that overwrites another, or with a `shape` (of one sample) only its beginning."""
        old = self.tensors[over]
        if shape is None:
            self.tensors.append(Tensor(name, old.shape, old.elements, old.size_bytes, old.role, old.storage))
        else:
            elements = self.batch * math.prod(shape)
            size = elements * (old.size_bytes // old.elements)
            self.tensors.append(Tensor(name, (self.batch, *shape), elements, size, old.role, old.storage))
        return len(self.tensors) - 1

    def emit(self, op: Op, backward: Callable[[Op], None] | None = None) -> Op:
        """Appends an operator; `backward` is what the backward pass does for it."""
        self.ops.append(op)
        op.of = self._current
        if backward is not None:
            self._backward.append((len(self.ops) - 1, backward))
        return op

    def run_backward(self) -> None:
        """Emits the backward pass."""
        while self._backward:
            self._current, action = self._backward.pop()
            action(self.ops[self._current])

    def track(self, tensor: int) -> None:
        """Marks a tensor as needing a gradient."""
        self._needs_gradient.add(tensor)

    def needs_gradient(self, tensor: int) -> bool:
        """Returns whether a tensor is on the gradient path."""
        return tensor in self._needs_gradient

    def parameter(self, name: str, elements: int, *, trains: bool) -> Parameter:
        """Registers a parameter, and returns it."""
        parameter = Parameter(name, elements, trains)
        self.parameters.append(parameter)
        return parameter

    def weight_gradient(self, op: Op, *, at_once: int = 1) -> tuple[int, ...]:
        """Returns the buffer that a rule needs which updates a parameter from its whole gradient; () otherwise.

        One tensor is updated after the other, so the largest decides; but of an operator's first `at_once` trained
        parameters the gradients come about together, so they are held together.
        """
        trained = [parameter.elements for parameter in op.parameters if parameter.trains]
        if not (trained and self.whole_gradients):
            return ()
        elements = max(sum(trained[:at_once]), *trained)
        return (self.buffer(f"weight gradient at {op.place}", (elements,), Role.WEIGHT_GRADIENT),)

    def gradient(self, of: int) -> int:
        """Returns the gradient tensor of a value that something has contributed to."""
        return self._gradients[of]

    def has_gradient(self, value: int) -> bool:
        """Returns whether something has contributed to a value's gradient."""
        return value in self._gradients

    def contribute(self, to: int) -> tuple[int, tuple[int, ...]]:
        """Returns the gradient tensor that an operator writes for a value, and what it must read to add to it."""
        existing = self._gradients.get(to)
        if existing is not None:
            return existing, (existing,)
        value = self.tensors[to]
        new = self.tensor(f"gradient of {value.name}", value.shape[1:], Role.GRADIENT)
        self._gradients[to] = new
        return new, ()

    def overwrite_gradient(self, of: int, to: int) -> int:
        """Returns the gradient of `to` as one that overwrites the gradient of `of`, element by element."""
        new = self.in_place(f"gradient of {self.tensors[to].name}", self._gradients[of])
        self._gradients[to] = new
        return new

    def pass_on(self, gradient: int, to: int, place: str, *, copies: bool = False) -> None:
        """Gives a gradient to a value unchanged: as an alias, as a copy, or added to what is there already."""
        existing = self._gradients.get(to)
        if existing is None and not copies:
            self._gradients[to] = gradient
        else:
            target, also_read = self.contribute(to)
            self.emit(Op(OpKind.GRADIENT_ADD, place, (gradient, *also_read), (target,)))
