"""The reference methods' models: what trains, by which names, and what stock PyTorch keeps for them."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from repnet_search.backbones import BlockTable, get_block_table
from repnet_search.graph import Trained, TrainingGraph, build_graph
from repnet_search.measure.kept import measure_kept_bytes
from repnet_search.memory import count_kept_bytes
from repnet_search.models.backbone import FrozenBackbone
from repnet_search.models.finetuned import FineTunedBackbone, NormedBackbone
from repnet_search.models.repnet import RepNet
from repnet_search.models.weights import create_random_weights
from repnet_search.spec import BackboneSpec, Design, Norm, ResolvedDesign, get_preset, resolve

CLASSES = 10
BACKBONES = (
    BackboneSpec(name="mobilenet_v2", width_mult=0.35),
    BackboneSpec(name="proxylessnas_mobile", last_conv=True),
    BackboneSpec(name="resnet18"),
)
# what trains, and whether the shifts of frozen norms do
METHODS = (
    (Trained.DESIGN, False),
    (Trained.DESIGN, True),
    (Trained.NORMS_AND_HEAD, False),
    (Trained.EVERYTHING, False),
)
by_name = pytest.mark.parametrize("spec", BACKBONES, ids=[spec.name for spec in BACKBONES])
by_method = pytest.mark.parametrize(("trained", "train_bias"), METHODS, ids=["head", "biases", "norms", "everything"])


def table_of(spec: BackboneSpec) -> BlockTable:
    return get_block_table(spec.name, width_mult=spec.width_mult, last_conv=spec.last_conv)


def design_of(spec: BackboneSpec, *, resolution: int, train_bias: bool) -> ResolvedDesign:
    return resolve(Design(connectors=(), backbone=spec, resolution=resolution, train_bias=train_bias))


def create_state(table: BlockTable, *, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    folded = create_random_weights(table, seed=seed)
    state = {}
    for conv in table.convs():
        state[f"{conv.key}.weight"] = folded[f"{conv.key}.weight"]
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{conv.norm_key}.{part}"] = torch.rand(conv.out_channels, generator=generator) + 0.5
    return state


def fold(table: BlockTable, state: dict[str, Tensor]) -> dict[str, Tensor]:
    folded = {}
    for conv in table.convs():
        norm = {part: state[f"{conv.norm_key}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")}
        scale = norm["weight"] / (norm["running_var"] + table.norm_eps).sqrt()
        folded[f"{conv.key}.weight"] = state[f"{conv.key}.weight"] * scale.view(-1, 1, 1, 1)
        folded[f"{conv.key}.bias"] = norm["bias"] - norm["running_mean"] * scale
    return folded


def trainable_shapes(graph: TrainingGraph) -> dict[str, int]:
    return {parameter.name: parameter.elements for parameter in graph.parameters if parameter.trains}


@by_name
@by_method
@pytest.mark.parametrize(("batch", "resolution"), [(2, 48), (3, 64)])
def test_kept_bytes_equal_what_hooks_measure(
    spec: BackboneSpec, trained: Trained, train_bias: bool, batch: int, resolution: int
) -> None:
    resolved = design_of(spec, resolution=resolution, train_bias=train_bias)
    graph = build_graph(resolved, classes=CLASSES, batch=batch, trained=trained, folded=False)
    model = FineTunedBackbone(resolved.table, classes=CLASSES, trained=trained, train_bias=train_bias)
    images = torch.randn(batch, 3, resolution, resolution)
    assert count_kept_bytes(graph) == measure_kept_bytes(model, images, torch.arange(batch))


@by_name
@pytest.mark.parametrize(("train_bias", "norm", "batch"), [(False, Norm.BATCH, 3), (True, Norm.GROUP, 2)])
def test_kept_bytes_of_a_rep_net_on_norms_apart(spec: BackboneSpec, train_bias: bool, norm: Norm, batch: int) -> None:
    design = get_preset("paper", Design(connectors=(), backbone=spec, resolution=64))
    module = design.module.model_copy(update={"norm": norm})
    resolved = resolve(design.model_copy(update={"train_bias": train_bias, "module": module}))
    graph = build_graph(resolved, classes=CLASSES, batch=batch, folded=False)
    model = RepNet(resolved, create_random_weights(resolved.table, seed=0), classes=CLASSES)
    model.backbone = NormedBackbone(resolved.table, train_bias=train_bias).train()
    images = torch.randn(batch, 3, 64, 64)
    assert count_kept_bytes(graph) == measure_kept_bytes(model, images, torch.arange(batch))


@by_name
def test_kept_bytes_of_the_folded_backbone(spec: BackboneSpec) -> None:
    design = get_preset("paper", Design(connectors=(), backbone=spec, resolution=64))
    for train_bias, batch in product((False, True), (2, 3)):
        resolved = resolve(design.model_copy(update={"train_bias": train_bias}))
        graph = build_graph(resolved, classes=CLASSES, batch=batch)
        model = RepNet(resolved, create_random_weights(resolved.table, seed=0), classes=CLASSES)
        images = torch.randn(batch, 3, 64, 64)
        assert count_kept_bytes(graph) == measure_kept_bytes(model, images, torch.arange(batch))


@by_name
@by_method
def test_what_trains_has_the_graphs_names(spec: BackboneSpec, trained: Trained, train_bias: bool) -> None:
    resolved = design_of(spec, resolution=48, train_bias=train_bias)
    graph = build_graph(resolved, classes=CLASSES, batch=2, trained=trained, folded=False)
    model = FineTunedBackbone(resolved.table, classes=CLASSES, trained=trained, train_bias=train_bias)
    named = {name: value.numel() for name, value in model.named_parameters() if value.requires_grad}
    assert named == trainable_shapes(graph)
    assert {parameter.name for parameter in graph.parameters} == {name for name, _ in model.named_parameters()}


@by_name
def test_frozen_it_computes_what_the_folded_backbone_does(spec: BackboneSpec) -> None:
    table = table_of(spec)
    state = create_state(table, seed=1)
    apart = NormedBackbone(table, state=state).train()
    folded = FrozenBackbone(table, fold(table, state))
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = folded(images)
        assert (apart(images) - expected).abs().max() <= 1e-4 * expected.abs().max()


@by_method
def test_it_learns_and_changes_nothing_else(trained: Trained, train_bias: bool) -> None:
    table = table_of(BACKBONES[0])
    # torch's own initialisation fades to nothing where norms keep their running statistics
    state = create_state(table, seed=0)
    model = FineTunedBackbone(table, classes=3, trained=trained, train_bias=train_bias, state=state)
    images, labels = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.Adam((value for value in model.parameters() if value.requires_grad), lr=0.01)
    losses = []
    for _ in range(6):
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    trainable = {name for name, value in model.named_parameters() if value.requires_grad}
    statistics = {name for name, _ in model.named_buffers()} if trained is not Trained.DESIGN else set()
    assert changed == trainable | statistics


def test_a_state_of_another_backbone_is_refused() -> None:
    state = create_state(table_of(BACKBONES[0]), seed=0)
    with pytest.raises(KeyError, match="conv1"):
        NormedBackbone(table_of(BACKBONES[2]), state=state)
