"""The eager account against autograd's own hooks, on the stock runtime."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from repnet_search.errors import RepnetSearchError
from repnet_search.graph import Op, OpKind, build_graph
from repnet_search.measure.kept import measure_kept_bytes
from repnet_search.memory import count_kept_bytes
from repnet_search.memory.eager import EAGER_RULES
from repnet_search.models.repnet import RepNet
from repnet_search.spec import Norm, resolve
from repnet_search.training.task import Task
from tests.designs import random_resolved, six_connectors

ALL_NORMS = (Norm.GROUP, Norm.LAYER, Norm.NONE, Norm.BATCH)
INPUT_BYTES = 131_072


@pytest.mark.parametrize("seed", range(50))
def test_kept_bytes_equal_what_hooks_measure(seed: int, task: Task) -> None:
    random = Random(seed)
    resolved = random_resolved(random, norms=ALL_NORMS)
    batch = random.choice([2, 3, 4])
    counted = count_kept_bytes(build_graph(resolved, classes=10, batch=batch))
    model = RepNet(resolved, task.weights.tensors, classes=10)
    size = resolved.design.resolution
    measured = measure_kept_bytes(model, torch.randn(batch, 3, size, size), torch.arange(batch))
    assert counted == measured


def test_every_forward_operator_has_a_rule() -> None:
    assert set(EAGER_RULES) == {kind for kind in OpKind if kind.is_forward} - {OpKind.STREAMED_BLOCK}


def test_an_operator_without_a_rule_is_an_error() -> None:
    graph = build_graph(resolve(six_connectors()), classes=10)
    graph.ops[0] = Op(OpKind.GRADIENT_ADD, "nowhere", (0,), (1,))
    with pytest.raises(RepnetSearchError, match="no rule for the operator 'gradient add' at nowhere"):
        count_kept_bytes(graph)


def _frozen(layer: nn.Module) -> nn.Module:
    return layer.requires_grad_(False)


# What torch keeps per operator: a new torch that keeps something else must be noticed (pytorch/pytorch#133566).
PINNED: list[tuple[str, Callable[[Tensor], Tensor], int]] = [
    ("conv2d, frozen", _frozen(nn.Conv2d(16, 16, 1)), INPUT_BYTES),
    ("conv2d, depthwise, frozen", _frozen(nn.Conv2d(16, 16, 3, padding=1, groups=16)), INPUT_BYTES),
    ("relu", functional.relu, INPUT_BYTES),
    ("relu6", functional.relu6, INPUT_BYTES),
    ("avg_pool2d", lambda x: functional.avg_pool2d(x, 2), INPUT_BYTES),
    ("adaptive_avg_pool2d(1)", lambda x: functional.adaptive_avg_pool2d(x, 1), 0),
    ("add", lambda x: x + torch.ones(1, 16, 1, 1), 0),
    ("interpolate", lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), 0),
    ("group_norm(2)", lambda x: functional.group_norm(x, 2), INPUT_BYTES + 2 * 2 * 2 * 4),
]


@pytest.mark.parametrize(("operator", "keeps"), [case[1:] for case in PINNED], ids=[case[0] for case in PINNED])
def test_what_stock_torch_keeps(operator: Callable[[Tensor], Tensor], keeps: int) -> None:
    x = torch.randn(2, 16, 32, 32, requires_grad=True)
    own = {p.untyped_storage().data_ptr() for p in operator.parameters()} if isinstance(operator, nn.Module) else set()
    saved: dict[int, Tensor] = {}

    def pack(value: Tensor) -> Tensor:
        if value.untyped_storage().data_ptr() not in own:
            saved[value.untyped_storage().data_ptr()] = value
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        operator(x)
    assert sum(value.untyped_storage().nbytes() for value in saved.values()) == keeps
