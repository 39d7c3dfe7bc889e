"""One training step of a design as a list of operators and tensors."""

from repnet_search.graph.build import build_graph
from repnet_search.graph.ops import Op, OpKind, Role, Tensor, TrainingGraph

__all__ = ["Op", "OpKind", "Role", "Tensor", "TrainingGraph", "build_graph"]
