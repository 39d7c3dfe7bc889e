"""The tape: tensors and operators of a step as they are emitted, and the backward pass as a stack of closures.

The backward pass runs in exactly the reverse order of the forward pass. A tensor's gradient begins with its first
contribution and later ones are added in place.
"""

from __future__ import annotations

from collections.abc import Callable

from repnet_search.graph.ops import Op, OpKind, Role, Tensor

FLOAT_BYTES = 4


class Tape:
    """Collects a step's tensors and operators; `batch` multiplies every activation."""

    def __init__(self, *, batch: int, backbone_bytes: int) -> None:
        self.batch = batch
        self.backbone_bytes = backbone_bytes
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []
        self.parameters: list[int] = []
        self.norm_state_elements = 0
        self._backward: list[Callable[[], None]] = []
        self._needs_gradient: set[int] = set()
        self._gradients: dict[int, int] = {}

    def tensor(self, name: str, elements: int, role: Role, *, element_bytes: int = FLOAT_BYTES) -> int:
        """Returns a new tensor in a storage of its own, `elements` per sample."""
        total = elements * self.batch
        self.tensors.append(Tensor(name, total, total * element_bytes, role, len(self.tensors)))
        return len(self.tensors) - 1

    def mask(self, of: int) -> int:
        """Returns a new mask of 1 bit per element of a tensor."""
        elements = self.tensors[of].elements
        name = f"{self.tensors[of].name} mask"
        self.tensors.append(Tensor(name, elements, (elements + 7) // 8, Role.MASK, len(self.tensors)))
        return len(self.tensors) - 1

    def buffer(self, name: str, elements: int, role: Role) -> int:
        """Returns a new tensor whose size does not depend on the batch, such as a weight's gradient."""
        self.tensors.append(Tensor(name, elements, elements * FLOAT_BYTES, role, len(self.tensors)))
        return len(self.tensors) - 1

    def in_place(self, name: str, over: int) -> int:
        """Returns a tensor that overwrites another."""
        old = self.tensors[over]
        self.tensors.append(Tensor(name, old.elements, old.size_bytes, old.role, old.storage))
        return len(self.tensors) - 1

    def emit(self, op: Op) -> None:
        """Appends an operator."""
        self.ops.append(op)

    def on_backward(self, action: Callable[[], None]) -> None:
        """Registers what the backward pass does for the operator just emitted."""
        self._backward.append(action)

    def run_backward(self) -> None:
        """Emits the backward pass."""
        while self._backward:
            self._backward.pop()()

    def track(self, tensor: int) -> None:
        """Marks a tensor as needing a gradient."""
        self._needs_gradient.add(tensor)

    def needs_gradient(self, tensor: int) -> bool:
        """Returns whether a tensor is on the gradient path."""
        return tensor in self._needs_gradient

    def train(self, *elements: int) -> tuple[int, ...]:
        """Registers trainable tensors by their element counts, and returns these."""
        self.parameters.extend(elements)
        return elements

    def gradient(self, of: int) -> int | None:
        """Returns the gradient tensor of a value, None while nothing has contributed."""
        return self._gradients.get(of)

    def contribute(self, to: int) -> tuple[int, tuple[int, ...]]:
        """Returns the gradient tensor that an operator writes for a value, and what it must read to add to it."""
        existing = self._gradients.get(to)
        if existing is not None:
            return existing, (existing,)
        value = self.tensors[to]
        name = f"gradient of {value.name}"
        new = self.tensor(name, value.elements // self.batch, Role.GRADIENT)
        self._gradients[to] = new
        return new, ()

    def pass_on(self, gradient: int, to: int, place: str) -> None:
        """Gives a gradient to a value unchanged: as an alias, or added to what is there already."""
        existing = self._gradients.get(to)
        if existing is None:
            self._gradients[to] = gradient
        else:
            self.emit(Op(OpKind.GRADIENT_ADD, place, (gradient, existing), (existing,)))
