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
from repnet_search.spec import BackboneSpec, Norm, resolve
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
    model = RepNet(resolved, task.weights_of(BackboneSpec()).tensors, classes=10)
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


def _bias_only(layer: nn.Module) -> nn.Module:
    layer.requires_grad_(False).get_parameter("bias").requires_grad_(True)
    return layer


def _inner(operator: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Returns an in-place operator behind a sum, which keeps nothing: a leaf cannot be changed in place."""
    return lambda x: operator(x + 1)


CHANNELS = 16
CONSTANT = torch.ones(1, CHANNELS, 1, 1)
TARGETS = torch.arange(2)

# What torch keeps per operator: a new torch that keeps something else must be noticed (pytorch/pytorch#133566, #95432).
PINNED: list[tuple[str, Callable[[Tensor], Tensor], int]] = [
    ("conv2d", nn.Conv2d(16, 16, 3, padding=1), INPUT_BYTES),
    ("conv2d, frozen", _frozen(nn.Conv2d(16, 16, 1)), INPUT_BYTES),
    ("conv2d, depthwise, frozen", _frozen(nn.Conv2d(16, 16, 3, padding=1, groups=16)), INPUT_BYTES),
    ("conv2d, bias trains", _bias_only(nn.Conv2d(16, 16, 1)), INPUT_BYTES),
    ("linear", nn.Linear(32, 4), INPUT_BYTES),
    ("linear, frozen", _frozen(nn.Linear(32, 4)), 0),
    ("batch_norm, eval, frozen", _frozen(nn.BatchNorm2d(16)).eval(), INPUT_BYTES),
    ("batch_norm, train", nn.BatchNorm2d(16), INPUT_BYTES + 8 * CHANNELS),
    ("batch_norm, train, no affine", nn.BatchNorm2d(16, affine=False), INPUT_BYTES + 8 * CHANNELS),
    ("relu", functional.relu, INPUT_BYTES),
    ("relu, in place", _inner(functional.relu_), INPUT_BYTES),
    ("relu6", functional.relu6, INPUT_BYTES),
    ("relu6, in place", _inner(lambda x: functional.relu6(x, inplace=True)), INPUT_BYTES),
    ("hardswish", functional.hardswish, INPUT_BYTES),
    ("hardswish, in place", _inner(lambda x: functional.hardswish(x, inplace=True)), INPUT_BYTES),
    ("silu", functional.silu, INPUT_BYTES),
    ("gelu", functional.gelu, INPUT_BYTES),
    ("hardsigmoid", functional.hardsigmoid, INPUT_BYTES),
    ("sigmoid", torch.sigmoid, INPUT_BYTES),
    ("avg_pool2d", lambda x: functional.avg_pool2d(x, 2), INPUT_BYTES),
    ("max_pool2d(2)", lambda x: functional.max_pool2d(x, 2), INPUT_BYTES + 8 * INPUT_BYTES // 16),
    ("adaptive_avg_pool2d(1)", lambda x: functional.adaptive_avg_pool2d(x, 1), 0),
    ("mean", lambda x: x.mean((2, 3)), 0),
    ("add", lambda x: x + CONSTANT, 0),
    ("times a scalar", lambda x: x * 2.0, 0),
    ("times a constant tensor", lambda x: x * CONSTANT, 4 * CHANNELS),
    ("times a gate", lambda x: x * x.mean((2, 3), keepdim=True), INPUT_BYTES + 2 * 4 * CHANNELS),
    ("interpolate", lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), 0),
    ("group_norm(2)", lambda x: functional.group_norm(x, 2), INPUT_BYTES + 2 * 2 * 2 * 4),
    ("cross_entropy", lambda x: functional.cross_entropy(x.flatten(1), TARGETS), INPUT_BYTES + 8 * 2 + 4),
]


def _measure(operator: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Returns the bytes of the distinct storages that an operator saves, its parameters and buffers left out."""
    own = set()
    if isinstance(operator, nn.Module):
        own = {value.untyped_storage().data_ptr() for value in [*operator.parameters(), *operator.buffers()]}
    saved: dict[int, Tensor] = {}

    def pack(value: Tensor) -> Tensor:
        value = value.detach()
        if value.untyped_storage().data_ptr() not in own:
            saved[value.untyped_storage().data_ptr()] = value
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        operator(x)
    return sum(value.untyped_storage().nbytes() for value in saved.values())


@pytest.mark.parametrize(("operator", "keeps"), [case[1:] for case in PINNED], ids=[case[0] for case in PINNED])
def test_what_stock_torch_keeps(operator: Callable[[Tensor], Tensor], keeps: int) -> None:
    assert _measure(operator, torch.randn(2, 16, 32, 32, requires_grad=True)) == keeps


@pytest.mark.parametrize(
    "operator", [case[1] for case in PINNED if "frozen" in case[0] or not isinstance(case[1], nn.Module)]
)
def test_where_nothing_needs_a_gradient_nothing_is_kept(operator: Callable[[Tensor], Tensor]) -> None:
    assert _measure(operator, torch.randn(2, 16, 32, 32)) == 0


def test_a_clamp_in_place_keeps_a_clone_of_its_own() -> None:
    """So an in-place ReLU6 saves nothing in training (pytorch/pytorch#95432)."""
    x = torch.randn(2, 16, 32, 32, requires_grad=True)
    before = x + 1
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda value: kept.append(value) or value, lambda value: value):
        after = functional.relu6(before, inplace=True)
    assert [value.untyped_storage().data_ptr() == after.untyped_storage().data_ptr() for value in kept] == [False]
