"""A traced network's nodes as steps that a block table knows; what it does not know is refused by its name."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from repnet_search.backbones import Activation
from repnet_search.errors import SpecError

WHOLE = "its own forward"
"""Where something is that no submodule does."""


class StepKind(StrEnum):
    """What a node does; SKIP passes its input on, NUMBER is no tensor (a size, say)."""

    INPUT = "input"
    OUTPUT = "output"
    CONV = "convolution"
    LINEAR = "linear layer"
    NORM = "norm"
    ACTIVATION = "activation"
    ADD = "sum"
    SCALE = "product"
    GLOBAL_POOL = "global average pool"
    MAX_POOL = "max pool"
    FLATTEN = "flattening"
    SKIP = "nothing"
    NUMBER = "number"


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A node: what it does, to which other nodes' values, its place in the module tree, its module and activation."""

    kind: StepKind
    node: fx.Node
    sources: tuple[fx.Node, ...]
    paths: tuple[str, ...]
    module: nn.Module | None = None
    activation: Activation = Activation.NONE

    @property
    def where(self) -> str:
        """The innermost module that it belongs to, for a sentence."""
        return self.paths[-1] if self.paths else WHOLE


class NotCutError(SpecError):
    """A network that cannot be cut into blocks: says at which module, why, and what to do where that is no block."""

    def __init__(self, where: str, why: str, *, way_out: str = "") -> None:
        super().__init__(f"{where}: {why}")
        self.where, self.why, self.way_out = where, why, way_out


_MODULES: Mapping[type[nn.Module], StepKind] = {
    nn.Conv2d: StepKind.CONV,
    nn.Linear: StepKind.LINEAR,
    nn.BatchNorm2d: StepKind.NORM,
    nn.BatchNorm1d: StepKind.NORM,
    nn.Flatten: StepKind.FLATTEN,
    nn.Identity: StepKind.SKIP,
    nn.Dropout: StepKind.SKIP,
    nn.Dropout2d: StepKind.SKIP,
    nn.Softmax: StepKind.SKIP,
    nn.LogSoftmax: StepKind.SKIP,
}
_ACTIVATION_MODULES: Mapping[type[nn.Module], Activation] = {
    nn.ReLU: Activation.RELU,
    nn.ReLU6: Activation.RELU6,
    nn.Hardswish: Activation.HARD_SWISH,
    nn.SiLU: Activation.SILU,
    nn.Hardsigmoid: Activation.HARD_SIGMOID,
    nn.Sigmoid: Activation.SIGMOID,
}
_FUNCTIONS: Mapping[Any, StepKind] = {
    operator.add: StepKind.ADD,
    operator.iadd: StepKind.ADD,
    torch.add: StepKind.ADD,
    "add": StepKind.ADD,
    "add_": StepKind.ADD,
    operator.mul: StepKind.SCALE,
    operator.imul: StepKind.SCALE,
    torch.mul: StepKind.SCALE,
    "mul": StepKind.SCALE,
    "mul_": StepKind.SCALE,
    torch.flatten: StepKind.FLATTEN,
    "flatten": StepKind.FLATTEN,
    "contiguous": StepKind.SKIP,
    functional.dropout: StepKind.SKIP,
    "size": StepKind.NUMBER,
    getattr: StepKind.NUMBER,
    operator.getitem: StepKind.NUMBER,
}
_ACTIVATION_FUNCTIONS: Mapping[Any, Activation] = {
    torch.relu: Activation.RELU,
    functional.relu: Activation.RELU,
    "relu": Activation.RELU,
    "relu_": Activation.RELU,
    functional.relu6: Activation.RELU6,
    functional.hardswish: Activation.HARD_SWISH,
    functional.silu: Activation.SILU,
    functional.hardsigmoid: Activation.HARD_SIGMOID,
    torch.sigmoid: Activation.SIGMOID,
    functional.sigmoid: Activation.SIGMOID,
    "sigmoid": Activation.SIGMOID,
}
_MAPS_AXES = ((2, 3), (-2, -1), (3, 2), (-1, -2))


class _Tracer(fx.Tracer):
    """Takes torchvision's stochastic depth, which does nothing in evaluation, for one operator."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Returns whether a module is not looked into."""
        return super().is_leaf_module(m, module_qualified_name) or type(m).__name__ == "StochasticDepth"


def list_steps(module: nn.Module) -> list[Step]:
    """Returns a network's steps in order of execution.

    Raises:
        NotCutError: it has no one tensor as input and output, cannot be traced, or does what no block table knows.
    """
    try:
        graph = _Tracer().trace(module)
    except Exception as error:
        detail = str(error).strip().splitlines()
        why = f"torch.fx cannot trace it ({detail[0] if detail else type(error).__name__})"
        raise NotCutError(WHOLE, why, way_out="take what depends on values, such as an 'if', out of forward") from error
    if sum(node.op == "placeholder" and not node.args for node in graph.nodes) != 1:
        way_out = "give a network whose forward takes the images alone"
        raise NotCutError(WHOLE, "it must take one tensor of images and nothing else", way_out=way_out)
    modules = dict(module.named_modules())
    return [_step(node, modules) for node in graph.nodes]


def _step(node: fx.Node, modules: Mapping[str, nn.Module]) -> Step:
    paths = tuple(path.partition("@")[0] for path in node.meta.get("nn_module_stack", {}))
    sources = tuple(node.all_input_nodes)
    if node.op == "placeholder":
        return Step(StepKind.INPUT, node, (), paths)
    if node.op == "output":
        if not isinstance(node.args[0], fx.Node):
            kind = type(node.args[0]).__name__.removeprefix("immutable_")
            why = f"it must return one tensor, but returns a {kind}"
            raise NotCutError(WHOLE, why, way_out="return the logits alone")
        return Step(StepKind.OUTPUT, node, sources, paths)
    if node.op == "call_module":
        target = str(node.target)
        return _module_step(node, modules[target], (*(path for path in paths if path != target), target))
    if node.op == "get_attr":
        raise NotCutError(str(node.target), "it is a tensor of the network's own, which no block has")
    return _function_step(node, paths)


def _module_step(node: fx.Node, module: nn.Module, paths: tuple[str, ...]) -> Step:
    sources = tuple(node.all_input_nodes)
    kind, activation = _MODULES.get(type(module)), _ACTIVATION_MODULES.get(type(module), Activation.NONE)
    if activation is not Activation.NONE:
        kind = StepKind.ACTIVATION
    if type(module).__name__ == "StochasticDepth":
        kind = StepKind.SKIP
    if isinstance(module, nn.AdaptiveAvgPool2d) and _pair(module.output_size) == (1, 1):
        kind = StepKind.GLOBAL_POOL
    if isinstance(module, nn.MaxPool2d) and _is_known_max_pool(module):
        kind = StepKind.MAX_POOL
    if kind is None:
        raise NotCutError(paths[-1], f"{_describe(module)} is nothing that a block can hold")
    return Step(kind, node, sources, paths, module, activation)


def _function_step(node: fx.Node, paths: tuple[str, ...]) -> Step:
    sources = tuple(node.all_input_nodes)
    kind, activation = _FUNCTIONS.get(node.target), _ACTIVATION_FUNCTIONS.get(node.target, Activation.NONE)
    if activation is not Activation.NONE:
        kind = StepKind.ACTIVATION
    if node.target in (functional.adaptive_avg_pool2d,) and _pair(_argument(node, 1, "output_size")) == (1, 1):
        kind = StepKind.GLOBAL_POOL
    if node.target in (torch.mean, "mean") and _pair(_argument(node, 1, "dim")) in _MAPS_AXES:
        kind = StepKind.GLOBAL_POOL
    if node.target in ("view", "reshape") and len(node.args) == 3 and node.args[2] == -1:
        kind, sources = StepKind.FLATTEN, sources[:1]
    if kind in (StepKind.ADD, StepKind.SCALE) and len(sources) != 2:
        kind = None
    name = getattr(node.target, "__name__", str(node.target))
    if kind is None:
        where = paths[-1] if paths else WHOLE
        raise NotCutError(where, f"the operation {name!r} in its forward is nothing that a block can hold")
    return Step(kind, node, sources, paths, None, activation)


def _argument(node: fx.Node, position: int, name: str) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name)


def _pair(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def _is_known_max_pool(module: nn.MaxPool2d) -> bool:
    """Whether it is the one pool that blocks have: 3×3, stride 2, padding 1."""
    numbers = (module.kernel_size, module.stride, module.padding, module.dilation)
    known = ((3, 3), (2, 2), (1, 1), (1, 1))
    return tuple(map(_pair, numbers)) == known and not (module.ceil_mode or module.return_indices)


def _describe(module: nn.Module) -> str:
    if isinstance(module, nn.MaxPool2d):
        return f"a max pool of side {module.kernel_size} (3 with stride 2 and padding 1 is the one known)"
    return f"{type(module).__name__}({module.extra_repr()})" if module.extra_repr() else type(module).__name__
