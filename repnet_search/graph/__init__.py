"""One training step of a design as a list of operators and tensors."""

from repnet_search.graph.build import build_graph
from repnet_search.graph.ops import (
    NormLayer,
    Op,
    OpKind,
    Parameter,
    Role,
    Tensor,
    Trained,
    TrainingGraph,
)
from repnet_search.spec.target import Schedule, Slopes

__all__ = [
    "NormLayer",
    "Op",
    "OpKind",
    "Parameter",
    "Role",
    "Schedule",
    "Slopes",
    "Tensor",
    "Trained",
    "TrainingGraph",
    "build_graph",
]
