"""The paper account: a case counted by hand, the published tables, and a rule for every operator."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from repnet_search.errors import RepnetSearchError, SpecError
from repnet_search.graph import Op, OpKind, Schedule, Trained, build_graph
from repnet_search.memory import count_kept_bytes, estimate_paper, list_paper_layers
from repnet_search.memory.paper import PAPER_RULES
from repnet_search.spec import BackboneSpec, Connector, Design, Norm, ResolvedDesign, get_preset, resolve
from tests.designs import six_connectors

MB = 10**6
CLASSES = 102
PROXYLESS = BackboneSpec(name="proxylessnas_mobile", last_conv=True)
LAST, FULL, NORMS = Trained.DESIGN, Trained.EVERYTHING, Trained.NORMS_AND_HEAD


@cache
def published(
    preset: str, *, train_bias: bool = False, resolution: int = 224, norm: Norm = Norm.BATCH
) -> ResolvedDesign:
    """Returns the paper's design on its backbone, with the published batch norms; or the last layer alone."""
    design = get_preset(preset, Design(connectors=(), backbone=PROXYLESS, resolution=resolution))
    module = design.module.model_copy(update={"norm": norm})
    return resolve(design.model_copy(update={"train_bias": train_bias, "module": module}))


@pytest.mark.parametrize(
    ("resolved", "trained", "batch", "classes", "megabytes"),
    [
        (published("smallest"), LAST, 8, 102, 29.01),
        (published("smallest", train_bias=True), LAST, 8, 102, 29.87),
        (published("smallest"), NORMS, 8, 102, 182.96),
        (published("smallest"), FULL, 8, 102, 366.97),
        (published("paper"), LAST, 8, 102, 32.76),
        (published("paper", train_bias=True), LAST, 8, 102, 32.81),
        (published("paper", train_bias=True), LAST, 1, 102, 8.51),
        (published("paper", train_bias=True, resolution=320), LAST, 8, 102, 63.20),
        (published("paper", train_bias=True), LAST, 8, 10, 32.34),
        (published("paper", train_bias=True), LAST, 8, 37, 32.48),
        (published("paper", train_bias=True), LAST, 8, 100, 32.80),
        (published("paper", train_bias=True), LAST, 8, 196, 33.30),
        (published("paper", train_bias=True), LAST, 8, 200, 33.32),
    ],
)
def test_published_totals(
    resolved: ResolvedDesign, trained: Trained, batch: int, classes: int, megabytes: float
) -> None:
    estimate = estimate_paper(resolved, classes=classes, batch=batch, trained=trained)
    assert estimate.total_bytes / MB == pytest.approx(megabytes, abs=0.005)


@pytest.mark.parametrize(
    ("resolved", "parameters", "peak", "stored", "trainable"),
    [
        (published("paper", train_bias=True), 5.036, 3.4723, 1.5324, 563.4),
        (published("paper"), 4.984, 3.4723, 1.5324, 546.1),
        (published("paper", train_bias=True, resolution=320), 6.510, 7.0864, 3.1459, 932.0),
        (published("smallest"), 3.322, 3.2113, 0.0051, 130.7),
    ],
)
def test_published_parts(
    resolved: ResolvedDesign, parameters: float, peak: float, stored: float, trainable: float
) -> None:
    estimate = estimate_paper(resolved, classes=CLASSES, batch=8)
    assert estimate.parameter_bytes / MB == pytest.approx(parameters, abs=0.0005)
    assert estimate.peak_activation_bytes / MB == pytest.approx(peak, abs=0.00005)
    assert estimate.stored_activation_bytes / MB == pytest.approx(stored, abs=0.00005)
    assert estimate.trainable_parameters / 1000 == pytest.approx(trainable, abs=0.05)


def test_published_modules() -> None:
    graph = build_graph(published("paper"), classes=CLASSES, batch=2, folded=False)
    stored: Counter[str] = Counter()
    for layer in list_paper_layers(graph):
        stored[layer.place.split(" ")[0] if layer.place.startswith("block") else layer.place] += layer.stored_bytes
    parameters: Counter[str] = Counter()
    for op in graph.ops[: graph.forward_ops]:
        parameters[op.place] += sum(parameter.elements for parameter in op.parameters)
    places = [f"module {index}" for index in range(1, 7)]
    assert [round(stored[place] / MB, 4) for place in places] == [0.1607, 0.4296, 0.1578, 0.0663, 0.0947, 0.0325]
    assert [parameters[place] for place in places] == [936, 14_224, 23_440, 88_032, 60_480, 228_352]
    assert round(stored["block"] / MB, 4) == 0.5856
    assert round(stored["head"] / MB, 4) == 0.0051


@pytest.mark.parametrize("field", ["norm", "weight_standardisation"])
def test_the_kind_of_norm_and_weight_standardisation_change_nothing(field: str) -> None:
    design = published("paper").design
    value = Norm.GROUP if field == "norm" else True
    other = design.model_copy(
        update={"connectors": tuple(c.model_copy(update={field: value}) for c in design.connectors)}
    )
    counted = [estimate_paper(resolve(each), classes=CLASSES, batch=8) for each in (design, other)]
    assert counted[0] == counted[1]


def test_a_small_design_counted_by_hand() -> None:
    # r_0: 3 channels at 8 px; after block 17, 112 channels at 1 px; k 1, as the pooled map is 1 pixel
    module = Connector(after_block=17, width=8 / 112, kernel=3, groups=1, pool=8)
    graph = build_graph(resolve(Design(connectors=(module,), resolution=32)), classes=10, batch=2, folded=False)
    layers = [layer for layer in list_paper_layers(graph) if layer.place == "module 1"]
    assert [(layer.temporary_bytes, layer.stored_bytes) for layer in layers] == [
        (4 * (3 + 8), 4 * 3),  # convolution
        (4 * 8, 4 * 8),  # norm
        (4 * 8, 1),  # ReLU
        (4 * (8 + 112), 4 * 8),  # 1×1 convolution
        (4 * 112, 4 * 112),  # norm with γ
    ]
    # Module 1 comes first; then the stem: 3 → 16 channels, 32 → 16 px.
    everything = list_paper_layers(graph)
    assert [layer.place for layer in everything[:6]] == ["module 1"] * 5 + ["block 0"]
    stem = everything[5:8]
    assert [layer.temporary_bytes for layer in stem] == [4 * (3 * 1024 + 16 * 256), 4 * 4096, 4 * 4096]
    assert [layer.stored_bytes for layer in stem] == [0, 0, 4096 // 8]
    # Block 3 is the first with a shortcut: 8 channels at 8 px are held; its depthwise convolution counts one group.
    residual = [layer for layer in everything if layer.place == "block 3"]
    assert {layer.residual_bytes for layer in residual} == {4 * 8 * 64}
    assert residual[3].temporary_bytes == 4 * (48 * 64 + 64)
    assert {layer.residual_bytes for layer in everything if layer.place in ("block 2", "module 1", "head")} == {0}
    assert everything[-1] == ("head", 4 * (112 + 10), 4 * 112, 0)


def test_masks_are_counted_only_where_something_in_front_of_the_head_trains() -> None:
    for train_bias, expected in ((False, 0), (True, 1)):
        design = Design(connectors=(), resolution=32, train_bias=train_bias)
        graph = build_graph(resolve(design), classes=10, batch=2, folded=False)
        stored = sum(layer.stored_bytes for layer in list_paper_layers(graph) if layer.place != "head")
        assert (stored > 0) == expected


def test_a_batch_multiplies_activations_alone() -> None:
    one, eight = (estimate_paper(published("paper"), classes=CLASSES, batch=batch) for batch in (1, 8))
    assert eight.total_bytes - one.total_bytes == 7 * one.peak_activation_bytes
    assert one.total_bytes == one.peak_activation_bytes + one.parameter_bytes


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_any_backbone_has_an_account(name: str) -> None:
    resolved = resolve(get_preset("paper", Design(connectors=(), backbone=BackboneSpec(name=name), resolution=96)))
    repnet = estimate_paper(resolved, classes=10, batch=8)
    plain = resolve(Design(connectors=(), backbone=BackboneSpec(name=name), resolution=96))
    full = estimate_paper(plain, classes=10, batch=8, trained=FULL)
    assert estimate_paper(plain, classes=10, batch=8).total_bytes < repnet.total_bytes < full.total_bytes


# What stock PyTorch keeps: measured on the published code, whose modules also standardise their weights.
@pytest.mark.parametrize(
    ("resolved", "trained", "megabytes"),
    [
        (published("smallest"), FULL, 498.8),
        (published("paper", train_bias=True), LAST, 504.8),
        (published("paper"), LAST, 339.4),
    ],
)
def test_what_stock_pytorch_keeps_of_the_published_networks(
    resolved: ResolvedDesign, trained: Trained, megabytes: float
) -> None:
    graph = build_graph(resolved, classes=CLASSES, batch=8, trained=trained, folded=False)
    assert count_kept_bytes(graph) / MB == pytest.approx(megabytes, rel=0.01)


def test_stock_pytorch_keeps_of_the_last_layer_its_inputs_alone() -> None:
    graph = build_graph(published("smallest"), classes=CLASSES, batch=8, folded=False)
    assert count_kept_bytes(graph) == 4 * 8 * 1280 + 4 * 8 * CLASSES + 8 * 8 + 4


def test_every_forward_operator_has_a_rule_but_the_streamed_block() -> None:
    assert set(PAPER_RULES) == {kind for kind in OpKind if kind.is_forward} - {OpKind.STREAMED_BLOCK}


def test_an_operator_without_a_rule_is_an_error() -> None:
    graph = build_graph(resolve(six_connectors()), classes=10, schedule=Schedule.STREAMED)
    with pytest.raises(RepnetSearchError, match="no rule for the operator 'streamed block' at block 2"):
        list_paper_layers(graph)
    graph.ops[0] = Op(OpKind.GRADIENT_ADD, "nowhere", (0,), (1,))
    with pytest.raises(RepnetSearchError, match="no rule for the operator 'gradient add' at nowhere"):
        list_paper_layers(graph)


def test_what_the_account_does_not_know_is_refused() -> None:
    with pytest.raises(SpecError, match="at least 1 image, but got 0"):
        estimate_paper(published("smallest"), classes=10, batch=0)
    with pytest.raises(SpecError, match="activation_bits 32"):
        estimate_paper(resolve(six_connectors().model_copy(update={"activation_bits": 8})), classes=10, batch=1)
