"""The recipes train as they are counted."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from repnet_search.graph import build_graph
from repnet_search.memory import estimate_memory
from repnet_search.spec import Optimizer, Recipe, resolve
from repnet_search.training.proxy import create_model
from repnet_search.training.task import Task
from repnet_search.training.update import UpdateRule
from tests.designs import six_connectors


def batch(count: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 48, 48, generator=random), torch.arange(count) % 10


def loss_of(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(model(images), labels)


@pytest.mark.parametrize("optimizer", list(Optimizer))
def test_a_fused_step_is_the_step_after_the_whole_backward_pass(optimizer: Optimizer, task: Task) -> None:
    model = create_model(resolve(six_connectors()), task, seed=0)
    nn.init.normal_(model.head.weight)
    other = copy.deepcopy(model)
    fused = UpdateRule(model, Recipe(optimizer=optimizer, accumulate=1, lr=0.01), head=model.head_parameters())
    whole = UpdateRule(other, Recipe(optimizer=optimizer, accumulate=2, lr=0.01), head=other.head_parameters())
    for _ in range(3):
        loss_of(model, *batch(1)).backward()
        loss_of(other, *batch(1)).backward()
        fused.step()
        whole.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_a_fused_rule_holds_one_gradient_at_a_time(task: Task) -> None:
    model = create_model(resolve(six_connectors()), task, seed=0)
    rule = UpdateRule(model, Recipe(accumulate=1), head=[])
    alive: list[int] = []
    for parameter in rule.parameters:
        parameter.register_post_accumulate_grad_hook(
            lambda _: alive.append(sum(other.grad is not None for other in rule.parameters))
        )
    loss_of(model, *batch(1)).backward()
    assert len(alive) == len(rule.parameters)
    assert max(alive) == 0  # the rule's own hook ran first and dropped the gradient


@pytest.mark.parametrize(
    ("optimizer", "torchs"),
    [
        (Optimizer.SGD, lambda p, lr: torch.optim.SGD(p, lr)),
        (Optimizer.MOMENTUM, lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9)),
        (Optimizer.ADAM, lambda p, lr: torch.optim.Adam(p, lr)),
    ],
)
def test_rules_that_torch_has_are_torchs(optimizer: Optimizer, torchs: object, task: Task) -> None:
    model = create_model(resolve(six_connectors()), task, seed=0)
    nn.init.normal_(model.head.weight)
    other = copy.deepcopy(model)
    rule = UpdateRule(model, Recipe(optimizer=optimizer, accumulate=4, lr=0.01), head=[])
    reference = torchs([p for p in other.parameters() if p.requires_grad], 0.01)  # type: ignore[operator]
    for _ in range(4):
        loss_of(model, *batch(4)).backward()
        rule.step()
        reference.zero_grad()
        loss_of(other, *batch(4)).backward()
        reference.step()
    for name, value in model.named_parameters():
        torch.testing.assert_close(value, dict(other.named_parameters())[name], rtol=1e-4, atol=1e-5)


def test_normalising_rules_by_hand() -> None:
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 1.0]]))
    gradient = torch.tensor([[3.0, -4.0]])
    rule = UpdateRule(model, Recipe(optimizer=Optimizer.NORMALISED_SGD, accumulate=2, lr=0.1), head=[])
    model.weight.grad = gradient.clone()
    rule.step()
    rms = (25 / 2) ** 0.5
    torch.testing.assert_close(model.weight, torch.tensor([[1 - 0.3 / rms, 1 + 0.4 / rms]]))
    rule = UpdateRule(model, Recipe(optimizer=Optimizer.SIGN_SGD, accumulate=2, lr=0.1), head=[])
    before = model.weight.detach().clone()
    model.weight.grad = gradient.clone()
    rule.step()
    torch.testing.assert_close(model.weight, before + torch.tensor([[-0.1, 0.1]]))


def test_a_gradient_of_zero_leaves_the_normalising_rule_at_rest() -> None:
    model = nn.Linear(2, 1, bias=False)
    before = model.weight.detach().clone()
    rule = UpdateRule(model, Recipe(optimizer=Optimizer.NORMALISED_SGD, accumulate=2, lr=1.0), head=[])
    model.weight.grad = torch.zeros_like(model.weight)
    rule.step()
    assert torch.equal(model.weight, before)


def test_micro_batches_of_one_are_the_batch(task: Task) -> None:
    """accumulate: k is trained as one batch of k, which group norms allow."""
    model = create_model(resolve(six_connectors()), task, seed=0)
    nn.init.normal_(model.head.weight)
    images, labels = batch(4)
    loss_of(model, images, labels).backward()
    whole = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for index in range(4):
        (loss_of(model, images[index : index + 1], labels[index : index + 1]) / 4).backward()
    for name, gradient in whole.items():
        torch.testing.assert_close(dict(model.named_parameters())[name].grad, gradient, rtol=1e-3, atol=1e-5)


def test_the_heads_rate_is_a_multiple() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    before = [p.detach().clone() for p in model.parameters()]
    rule = UpdateRule(model, Recipe(accumulate=2, lr=0.1, head_lr_ratio=3.0), head=list(model[1].parameters()))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    rule.step()
    moved = [float((old - new).detach()) for old, new in zip(before, model.parameters(), strict=True)]
    assert moved == pytest.approx([0.1, 0.3])


@pytest.mark.parametrize("optimizer", list(Optimizer))
@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_state_held_is_the_state_counted(optimizer: Optimizer, accumulate: int, task: Task) -> None:
    recipe = Recipe(optimizer=optimizer, accumulate=accumulate, lr=0.001)
    resolved = resolve(six_connectors().model_copy(update={"recipe": recipe}))
    model = create_model(resolved, task, seed=0)
    rule = UpdateRule(model, recipe, head=[])
    loss_of(model, *batch(accumulate)).backward()
    held = sum(p.grad.nbytes for p in rule.parameters if p.grad is not None)
    rule.step()
    memory = estimate_memory(resolved, classes=10)
    assert held == memory.gradient_bytes
    assert rule.optimizer_state_bytes() == memory.optimizer_bytes
    assert (
        sum(p.nbytes for p in rule.parameters)
        == memory.parameter_bytes
        == 4 * build_graph(resolved, classes=10).parameter_count
    )
