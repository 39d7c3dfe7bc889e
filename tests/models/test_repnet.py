from __future__ import annotations

from random import Random

import pytest
import torch
from torch.nn import functional

from repnet_search.backbones import BlockTable
from repnet_search.graph import build_graph
from repnet_search.measure.kept import measure_macs
from repnet_search.models.backbone import FrozenBackbone
from repnet_search.models.repnet import RepNet
from repnet_search.models.vision import torchvision
from repnet_search.models.weights import load_weights
from repnet_search.spec import BackboneSpec, Design, Exchange, ModuleInput, Norm, ResolvedDesign, resolve
from repnet_search.training.task import Task
from tests.designs import random_resolved, six_connectors

ALL_NORMS = (Norm.GROUP, Norm.LAYER, Norm.NONE, Norm.BATCH)


def create(resolved: ResolvedDesign, task: Task, *, seed: int = 0) -> RepNet:
    torch.manual_seed(seed)
    return RepNet(resolved, task.weights_of(BackboneSpec()).tensors, classes=10)


def images(resolved: ResolvedDesign, count: int = 2) -> torch.Tensor:
    size = resolved.design.resolution
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_the_folded_backbone_is_torchvisions(table: BlockTable) -> None:
    torch.manual_seed(0)
    network = torchvision.models.mobilenet_v2(width_mult=0.35).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    folded = {}
    state = network.state_dict()
    for conv in table.convs():
        scale = state[f"{conv.norm_key}.weight"] / torch.sqrt(state[f"{conv.norm_key}.running_var"] + 1e-5)
        folded[f"{conv.key}.weight"] = state[f"{conv.key}.weight"] * scale.view(-1, 1, 1, 1)
        folded[f"{conv.key}.bias"] = state[f"{conv.norm_key}.bias"] - state[f"{conv.norm_key}.running_mean"] * scale
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(FrozenBackbone(table, folded)(x), network.features[:18](x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(20))
def test_every_design_starts_as_exactly_the_frozen_backbone(seed: int, task: Task) -> None:
    resolved = random_resolved(Random(seed))
    model = create(resolved, task, seed=seed).eval()
    x = images(resolved)
    seen: list[torch.Tensor] = []
    model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(x)
        frozen = FrozenBackbone(resolved.table, task.weights_of(BackboneSpec()).tensors)
        plain = frozen(x).mean(dim=(2, 3))
    assert torch.equal(
        seen[0][:, : plain.shape[1]],
        functional.adaptive_avg_pool2d(frozen(x), 1).flatten(1),
    )


@pytest.mark.parametrize("seed", range(20))
def test_gradients_reach_exactly_what_trains(seed: int, task: Task) -> None:
    random = Random(100 + seed)
    resolved = random_resolved(random, norms=ALL_NORMS)
    model = create(resolved, task, seed=seed)
    torch.nn.init.normal_(model.head.weight)
    for gamma in model.gammas:
        if isinstance(gamma, torch.nn.Parameter):
            torch.nn.init.normal_(gamma)
    functional.cross_entropy(model(images(resolved, 3)), torch.tensor([0, 1, 2])).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
    trains = {name: value.numel() for name, value in model.named_parameters() if value.requires_grad}
    graph = build_graph(resolved, classes=10, batch=3)
    assert {name: elements for name, elements, trained in graph.parameters if trained} == trains
    assert {name for name, *_ in graph.parameters} <= model.state_dict().keys()


def test_the_graph_counts_the_macs_that_fvcore_counts(task: Task) -> None:
    random = Random(7)
    for _ in range(4):
        resolved = random_resolved(random)
        model = create(resolved, task).eval()
        assert measure_macs(model, images(resolved, 1)) == build_graph(resolved, classes=10).forward_macs


def test_both_passes_the_merged_feature_on(task: Task) -> None:
    """b ← b + γ⊙s and r = the new b, by hand."""
    resolved = resolve(Design(connectors=six_connectors().connectors[2:4]))
    model = create(resolved, task).eval()
    torch.nn.init.normal_(model.gammas[0])
    torch.nn.init.normal_(model.gammas[1])
    x = images(resolved)
    with torch.no_grad():
        b = x
        for block in model.backbone.blocks[:7]:
            b = block(b)
        b = b + model.gammas[0].view(-1, 1, 1) * model.repnet[0](functional.avg_pool2d(x, 4))
        stream = b
        for block in model.backbone.blocks[7:11]:
            b = block(b)
        b = b + model.gammas[1].view(-1, 1, 1) * model.repnet[1](stream)
        for block in model.backbone.blocks[11:]:
            b = block(b)
        torch.testing.assert_close(model(x), model.head(b.mean(dim=(2, 3))))


@pytest.mark.parametrize("exchange", list(Exchange))
def test_exchanges_differ_once_the_connectors_write(exchange: Exchange, task: Task) -> None:
    resolved = resolve(six_connectors(exchange))
    model = create(resolved, task).eval()
    reference = create(resolve(six_connectors()), task).eval()
    for network in (model, reference):
        torch.manual_seed(1)
        torch.nn.init.ones_(network.head.weight)
        for gamma in network.gammas:
            if isinstance(gamma, torch.nn.Parameter):
                torch.nn.init.ones_(gamma)
    x = images(resolved)
    same = torch.allclose(model(x), reference(x))
    assert same == (exchange is Exchange.BOTH)


def test_block_input_reads_what_is_in_front_of_the_block(task: Task) -> None:
    design = six_connectors().model_copy(update={"module_input": ModuleInput.BLOCK_INPUT})
    resolved = resolve(design)
    model = create(resolved, task).eval()
    seen: list[torch.Tensor] = []
    inputs: list[torch.Tensor] = []
    model.repnet[3].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.backbone.blocks[10].register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    with torch.no_grad():
        model(images(resolved))
    assert seen[0] is inputs[0]


@pytest.mark.parametrize("seed", range(10))
def test_the_prefix_and_the_rest_are_the_whole(seed: int, task: Task) -> None:
    resolved = random_resolved(Random(200 + seed))
    model = create(resolved, task, seed=seed).eval()
    x = images(resolved)
    with torch.no_grad():
        prefix = model.prefix(x)
        assert torch.equal(model.adapt(prefix), model(x))
    assert not prefix.feature.requires_grad


def test_trained_parameters_go_out_and_come_in_again(task: Task) -> None:
    resolved = resolve(six_connectors())
    model, other = create(resolved, task, seed=0), create(resolved, task, seed=1)
    other.load_trainable_state(model.trainable_state())
    x = images(resolved)
    assert torch.equal(model(x), other(x))
    with pytest.raises(KeyError):
        other.load_trainable_state({"head.weight": torch.zeros(10, 112)})


def test_the_embedded_weights_are_the_embedded_backbones() -> None:
    weights = load_weights(BackboneSpec(), path=None)
    assert weights.input_range.text == "-1,1"
    assert len(weights.sha256) == 64
