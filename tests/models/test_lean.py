"""The lean runtime against stock autograd: each function in float64, and whole designs over three backbones."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.nn import functional

from repnet_search.backbones import Activation, Conv
from repnet_search.graph import OpKind, Role, build_graph
from repnet_search.measure.kept import measure_lean_kept_bytes
from repnet_search.measure.verify import LEAN_TOLERANCE, measure_lean_gradient_error, measure_live_bytes
from repnet_search.memory import compute_liveness
from repnet_search.models.lean import (
    ActivatedSum,
    AveragePool,
    CrossEntropy,
    FrozenConv,
    GlobalPool,
    MaxPool,
    apply,
    conv_input_gradient,
)
from repnet_search.models.lean_module import OutputNormValues, StandardisedConv, WriteExchange, output_norm
from repnet_search.models.lean_runtime import KERNELS, LeanRuntime
from repnet_search.models.masks import apply_mask, pack_mask
from repnet_search.models.module import OutputBatchNorm, OutputNorm
from repnet_search.models.repnet import RepNet
from repnet_search.models.weights import create_random_weights
from repnet_search.models.winners import max_pool
from repnet_search.spec import BackboneSpec, Norm
from studies.lean_speed import measure_kept
from tests.designs import random_resolved

BACKBONES = (
    BackboneSpec(),
    BackboneSpec(name="resnet18"),
    BackboneSpec(name="proxylessnas_mobile", last_conv=True),
    BackboneSpec(name="mobilenet_v3_small", last_conv=True),
)
ALL_NORMS = (Norm.GROUP, Norm.LAYER, Norm.NONE, Norm.BATCH)


def draw(*shape: int, seed: int = 0, grad: bool = True) -> Tensor:
    """Returns float64 values that no clamp is within gradcheck's step of."""
    values = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 4
    near = (values.abs() < 1e-3) | ((values - 6).abs() < 1e-3)
    return values.masked_fill(near, 1.0).requires_grad_(grad)


@pytest.mark.parametrize("activation", [activation for activation in Activation if not activation.is_smooth])
@pytest.mark.parametrize(("kernel", "stride", "depthwise"), [(1, 1, False), (3, 1, True), (3, 2, True), (5, 2, False)])
def test_frozen_convolutions_pass_gradcheck(activation: Activation, kernel: int, stride: int, depthwise: bool) -> None:
    conv = Conv("", "", 4, 4 if depthwise else 6, kernel, stride, 4 if depthwise else 1, activation)
    weight = draw(conv.out_channels, 4 // conv.groups, kernel, kernel, seed=1, grad=False) / 8
    bias = draw(conv.out_channels, seed=2)
    for size in (6, 7):
        assert gradcheck(lambda x, b: apply(FrozenConv, x, weight, b, conv), (draw(2, 4, size, size), bias))


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolutions_input_gradient_has_its_inputs_shape(size: int, kernel: int, stride: int) -> None:
    conv = Conv("", "", 2, 3, kernel, stride, 1, Activation.NONE)
    x, weight = draw(2, 2, size, size), draw(3, 2, kernel, kernel, grad=False)
    output = functional.conv2d(x, weight, None, stride, kernel // 2)
    gradient = draw(*output.shape, seed=3, grad=False)
    (expected,) = torch.autograd.grad(output, x, gradient)
    torch.testing.assert_close(conv_input_gradient(gradient, weight, conv, x.shape), expected)


def test_sums_and_pools_pass_gradcheck() -> None:
    relu = Activation.RELU
    # gradcheck asks for inputs that are not overwritten
    assert gradcheck(lambda a, b: apply(ActivatedSum, a.clone(), b, relu), (draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1)))
    assert gradcheck(lambda x: apply(AveragePool, x, 3), (draw(2, 3, 7, 7),))
    assert gradcheck(lambda x: apply(MaxPool, x), (draw(2, 3, 7, 7),))
    assert gradcheck(lambda a, b: apply(GlobalPool, a, b), (draw(2, 3, 4, 4), draw(2, 5, 2, 2, seed=1)))
    labels, scratch = torch.tensor([0, 4, 2]), torch.empty((), dtype=torch.float64)
    assert gradcheck(lambda x: apply(CrossEntropy, x, labels, scratch), (draw(3, 5),))


@pytest.mark.parametrize("bias", [True, False])
def test_standardised_convolutions_pass_gradcheck(bias: bool) -> None:
    conv = Conv("", "", 4, 6, 3, 1, 2, Activation.NONE)
    inputs = (draw(2, 4, 5, 5), draw(6, 2, 3, 3, seed=1), draw(6, seed=2) if bias else None)
    assert gradcheck(lambda *values: apply(StandardisedConv, *values, conv), inputs)


@pytest.mark.parametrize("size", [4, 9])
@pytest.mark.parametrize("norm", [OutputNorm(2, 6), OutputBatchNorm(6), None], ids=["group", "batch", "none"])
@pytest.mark.parametrize("reads_stream", [False, True])
def test_writing_exchanges_pass_gradcheck(size: int, norm: nn.Module | None, reads_stream: bool) -> None:
    def exchange(feature: Tensor, raw: Tensor, bias: Tensor, gamma: Tensor) -> Tensor:
        if isinstance(norm, OutputNorm | OutputBatchNorm):
            normed, values = output_norm(raw, bias, norm.double())
        else:
            normed, values = raw, OutputNormValues(Norm.NONE, 0, raw, None, None, None)
        with torch.no_grad():
            s = functional.interpolate(normed, size=(size, size), mode="bilinear") if size != 4 else normed
        merged, stream = apply(WriteExchange, feature.clone(), raw, None if norm is None else bias, gamma, s, values)
        output: Tensor = merged + 2 * stream if reads_stream else merged
        return output

    inputs = (draw(2, 6, size, size), draw(2, 6, 4, 4, seed=1), draw(6, seed=2), draw(6, seed=3))
    given = inputs if norm is not None else (*inputs[:2], inputs[2].detach(), inputs[3])
    assert gradcheck(exchange, given, check_undefined_grad=False)  # b always reaches the head


@pytest.mark.parametrize("size", [1, 2, 3, 8, 9])
def test_the_max_pool_is_torchs(size: int) -> None:
    x = draw(2, 3, size, size, grad=False)
    expected, indices = functional.max_pool2d(x, 3, 2, 1, return_indices=True)
    output, winners = max_pool(x, with_winners=True)
    assert torch.equal(output, expected)
    rows = torch.arange(expected.shape[-1]).view(-1, 1) * 2 - 1 + winners // 3
    columns = torch.arange(expected.shape[-1]) * 2 - 1 + winners % 3
    assert torch.equal(rows * size + columns, indices)


@pytest.mark.parametrize(
    ("activation", "passes"), [(Activation.RELU6, [0, 1, 0, 1, 1]), (Activation.RELU, [0, 1, 1, 1, 1])]
)
def test_masks_pass_what_torch_passes(activation: Activation, passes: list[int]) -> None:
    output = torch.tensor([0.0, 1e-30, 6.0, 5.9, float("nan")])
    packed = pack_mask(output, activation)
    assert packed.numel() == 1
    assert apply_mask(torch.ones(5), packed).tolist() == passes


@pytest.mark.parametrize("seed", range(24))
def test_designs_keep_peak_and_train_as_planned(seed: int) -> None:
    random = Random(seed)
    backbone = BACKBONES[seed % len(BACKBONES)]
    resolved = random_resolved(random, norms=ALL_NORMS, resolutions=(32, 48, 64), backbone=backbone)
    torch.manual_seed(seed)
    model = RepNet(resolved, create_random_weights(resolved.table, seed=seed), classes=7)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.add_(torch.randn_like(value), alpha=0.1)  # γ and the head start at 0, which proves nothing
    batch = random.choice([2, 3])
    size = resolved.design.resolution
    images, labels = torch.randn(batch, 3, size, size), torch.randint(7, (batch,))
    liveness = compute_liveness(build_graph(resolved, classes=7, batch=batch))
    assert measure_lean_kept_bytes(LeanRuntime(model, resolved), images, labels) == liveness.kept_bytes
    live = measure_live_bytes(resolved, model, images, labels)
    assert live.forward_peak_bytes == liveness.forward_peak_bytes_without(Role.IMAGE)
    assert measure_lean_gradient_error(resolved, model, images, labels) <= LEAN_TOLERANCE


def test_every_forward_operator_of_a_frozen_backbone_has_a_kernel() -> None:
    others = {OpKind.STREAMED_BLOCK, OpKind.BACKBONE_NORM}
    assert set(KERNELS) == {kind for kind in OpKind if kind.is_forward} - others


def test_the_stock_backbone_keeps_80_times_as_much() -> None:
    stock, lean = measure_kept(batch=1)
    assert stock == 3_383_412
    assert stock >= 80 * lean
