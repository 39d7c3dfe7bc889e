"""Smooth activations and squeeze-and-excitation on the lean runtime."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from repnet_search.backbones import Activation
from repnet_search.graph import Role, Slopes, build_graph
from repnet_search.measure.execution import Subject
from repnet_search.measure.executor import ArenaExecutor
from repnet_search.measure.kept import measure_lean_kept_bytes
from repnet_search.measure.tracker import LiveBytesTracker
from repnet_search.memory import compute_liveness, place_buffers
from repnet_search.models.backbone import activate
from repnet_search.models.input_range import parse_input_range
from repnet_search.models.lean import apply
from repnet_search.models.lean_runtime import LeanRuntime
from repnet_search.models.lean_smooth import ChannelScale, CoarseActivation
from repnet_search.models.slopes import decode_slope, encode_slope, slope
from repnet_search.models.weights import BackboneWeights, create_random_weights
from repnet_search.spec import BackboneSpec, Connector, Design, resolve
from studies.memory_proof import create_subject
from tests.designs import random_resolved

SMOOTH = [activation for activation in Activation if activation.is_smooth]
BACKBONES = (BackboneSpec(name="mobilenet_v3_small", last_conv=True), BackboneSpec(name="mobilenet_v3_large"))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("activation", SMOOTH)
def test_slopes_are_autograds(activation: Activation) -> None:
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)[1:-1].requires_grad_()
    (expected,) = torch.autograd.grad(activate(x, activation).sum(), x)
    torch.testing.assert_close(slope(x.detach(), activation), expected)


@pytest.mark.parametrize("activation", SMOOTH)
def test_a_slope_in_a_byte_is_off_by_at_most_a_252th(activation: Activation) -> None:
    x = torch.linspace(-20, 20, 100_001)
    decoded = decode_slope(encode_slope(x, activation), torch.float64)
    assert float((decoded - slope(x.double(), activation)).abs().max()) <= 1 / 252 + 1e-6
    ends = torch.tensor([-4.0, 4.0])
    if activation is Activation.HARD_SWISH:
        assert decode_slope(encode_slope(ends, activation), torch.float32).tolist() == [0.0, 1.0]
    assert encode_slope(x, activation).dtype is torch.uint8


def test_nan_stays_nan() -> None:
    codes = encode_slope(torch.tensor([float("nan"), 1.0]), Activation.HARD_SWISH)
    assert decode_slope(codes, torch.float32).isnan().tolist() == [True, False]


@pytest.mark.parametrize("activation", [Activation.NONE, *SMOOTH])
def test_channel_scales_pass_gradcheck(activation: Activation) -> None:
    def scale(x: Tensor, gate: Tensor) -> Tensor:
        made = activate(x, activation)
        result: Tensor = apply(ChannelScale, made, gate, x if activation is not Activation.NONE else made, activation)
        return result

    assert gradcheck(scale, (draw(2, 3, 4, 4).requires_grad_(), draw(2, 3, 1, 1, seed=1).requires_grad_()))


@pytest.mark.parametrize("activation", SMOOTH)
def test_a_coarse_gradient_is_off_by_what_its_slope_is(activation: Activation) -> None:
    x, gradient = draw(2, 3, 8, 8).requires_grad_(), draw(2, 3, 8, 8, seed=1)
    (coarse,) = torch.autograd.grad(apply(CoarseActivation, x * 1, activation), x, gradient)
    (exact,) = torch.autograd.grad(activate(x, activation), x, gradient)
    assert bool(((coarse - exact).abs() <= gradient.abs() / 252 + 1e-9).all())


@pytest.mark.parametrize("seed", range(6))
def test_coarse_slopes_keep_and_peak_as_planned(seed: int) -> None:
    resolved = random_resolved(Random(seed), resolutions=(32, 48), backbone=BACKBONES[seed % 2])
    model, images, labels = create_subject(resolved, 2, seed)
    coarse = compute_liveness(build_graph(resolved, classes=10, batch=2, slopes=Slopes.EIGHT_BIT))
    runtime = LeanRuntime(model, resolved, slopes=Slopes.EIGHT_BIT)
    assert measure_lean_kept_bytes(runtime, images, labels) == coarse.kept_bytes
    with LiveBytesTracker() as tracker:
        runtime.loss(images, labels)
        assert tracker.peak_bytes == coarse.forward_peak_bytes_without(Role.IMAGE)
    assert coarse.kept_bytes <= compute_liveness(build_graph(resolved, classes=10, batch=2)).kept_bytes


def test_coarse_slopes_run_inside_their_arena_with_the_lean_runtimes_gradients() -> None:
    backbone = BackboneSpec(name="mobilenet_v3_small")
    resolved = resolve(Design(backbone=backbone, connectors=(Connector(after_block=4),), resolution=32))
    weights = BackboneWeights(
        create_random_weights(resolved.table, seed=0), "random", "", parse_input_range("imagenet")
    )
    subject = Subject(resolved, weights, classes=5, batch=2, seed=0)
    graph = build_graph(resolved, classes=5, batch=2, slopes=Slopes.EIGHT_BIT)
    arena = place_buffers(compute_liveness(graph))
    _, executor = subject.execute(graph, arena)
    assert isinstance(executor, ArenaExecutor)
    assert executor.touched_bytes == arena.size_bytes
    micro = subject.micros[0]
    images = weights.input_range.normalise(micro.images)
    loss = LeanRuntime(subject.model, resolved, slopes=Slopes.EIGHT_BIT).loss(images, micro.labels)
    trained = {name: value for name, value in subject.model.named_parameters() if value.requires_grad}
    for name, gradient in zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True):
        # A slope within rounding of the middle between two codes may be either: one step of 126.
        torch.testing.assert_close(
            executor.gradients[name], gradient, atol=2e-3 * float(gradient.abs().max()), rtol=0.0
        )
