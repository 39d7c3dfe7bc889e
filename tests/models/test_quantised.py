"""int8 arithmetic against integers, bit by bit, and the straight-through gradients against autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from repnet_search.backbones import Activation, BlockTable, Conv, get_block_table
from repnet_search.errors import SpecError
from repnet_search.models.backbone import FrozenBackbone
from repnet_search.models.calibration import calibrate
from repnet_search.models.quantisation import (
    HIGHEST,
    LOWEST,
    QuantParams,
    choose_params,
    common_shift,
    fixed_point,
    needs_float64,
    quantise_weight,
    requantise,
)
from repnet_search.models.quantised import QuantisedBackbone, QuantisedMerge
from repnet_search.models.quantised_block import QuantisedBlock, QuantisedConv
from repnet_search.models.repnet import RepNet
from repnet_search.models.weights import create_random_weights
from repnet_search.spec import Connector, Design, Exchange, resolve

BACKBONES = ("mobilenet_v2", "resnet18", "proxylessnas_mobile")


def table_of(name: str) -> BlockTable:
    return get_block_table(name, width_mult=0.35 if name == "mobilenet_v2" else 1.0, last_conv=False)


def as_integers(values: Tensor) -> np.ndarray:
    found = values.double().numpy()
    assert np.array_equal(found, np.round(found))
    return found.astype(np.int64)


def reference_requantise(sums: np.ndarray, mantissa: np.ndarray, shift: np.ndarray, params: QuantParams) -> np.ndarray:
    """Adds half and shifts right, in 64-bit integers as a microcontroller's kernel does."""
    scaled = (sums * mantissa + (np.int64(1) << (shift - 1))) >> shift
    return np.clip(scaled, LOWEST - params.zero_point, HIGHEST - params.zero_point)


@pytest.mark.parametrize("seed", range(5))
def test_requantisation_is_the_integers_bit_by_bit(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    factors = 10 ** (4 * torch.rand(64, generator=generator, dtype=torch.float64) - 5)
    multiplier = fixed_point(factors)
    sums = torch.randint(-(1 << 28), 1 << 28, (2000, 64), generator=generator)
    sums[:64] = torch.randint(-40, 40, (64, 64), generator=generator)  # where halves are frequent
    params = QuantParams(0.1, 5)
    found = requantise(sums.double() * multiplier.value, params)
    expected = reference_requantise(sums.numpy(), multiplier.mantissa.numpy(), multiplier.shift.numpy(), params)
    assert np.array_equal(as_integers(found), expected)


def test_halves_round_up() -> None:
    found = requantise(torch.tensor([0.5, 1.5, -0.5, -1.5], dtype=torch.float64), QuantParams(1.0, 0))
    assert found.tolist() == [1.0, 2.0, 0.0, -1.0]


def test_multipliers_are_within_a_millionth() -> None:
    factors = torch.logspace(-6, 1, 200, dtype=torch.float64)
    multiplier = fixed_point(factors)
    assert (multiplier.value / factors - 1).abs().max() < 2**-22
    assert int(multiplier.mantissa.max()) <= 1 << 23


def test_a_grid_holds_zero_and_the_ends_of_its_range() -> None:
    for low, high in ((-1.0, 3.0), (0.0, 6.0), (-2.0, -1.0), (0.0, 0.0)):
        params = choose_params(low, high)
        assert LOWEST <= params.zero_point <= HIGHEST
        ends = params.quantise(torch.tensor([low, 0.0, high])) * params.scale
        assert ends.tolist() == pytest.approx([low, 0.0, high], abs=params.scale)
        assert ends[1] == 0.0


def test_weights_are_symmetric_per_channel() -> None:
    codes, scale = quantise_weight(torch.tensor([[[[0.5]], [[-1.0]]], [[[0.0]], [[0.0]]]]))
    assert codes.flatten().tolist() == [64.0, -127.0, 0.0, 0.0]
    assert scale.tolist() == pytest.approx([1 / 127, 1.0])


def test_large_sums_are_computed_in_float64() -> None:
    assert not needs_float64(336)
    assert needs_float64(512 * 9)


def reference_conv(conv: QuantisedConv, x: np.ndarray) -> np.ndarray:
    """Returns a convolution in 64-bit integers, by loops over its window."""
    geometry = conv.conv
    weight = as_integers(conv.codes)
    bias = as_integers(torch.round(conv.bias.detach().double() / conv.bias_scale))
    padding, stride, size = geometry.kernel // 2, geometry.stride, geometry.output_size(x.shape[-1])
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    per_group, out_per_group = geometry.in_channels // geometry.groups, geometry.out_channels // geometry.groups
    sums = np.zeros((len(x), geometry.out_channels, size, size), dtype=np.int64)
    for channel in range(geometry.out_channels):
        first = channel // out_per_group * per_group
        for row in range(geometry.kernel):
            for column in range(geometry.kernel):
                rows = slice(row, row + stride * (size - 1) + 1, stride)
                columns = slice(column, column + stride * (size - 1) + 1, stride)
                window = padded[:, first : first + per_group, rows, columns]
                sums[:, channel] += (window * weight[channel, :, row, column].reshape(1, -1, 1, 1)).sum(1)
    sums += bias.reshape(1, -1, 1, 1)
    multiplier = fixed_point(conv.bias_scale / conv.output.scale)
    mantissa, shift = (part.numpy().reshape(1, -1, 1, 1) for part in multiplier)
    return reference_requantise(sums, mantissa, shift, conv.output)


def reference_block(block: QuantisedBlock, x: np.ndarray) -> np.ndarray:
    codes = x
    for conv in block.chain():
        codes = reference_conv(conv, codes)
    if block.sum is None:
        return codes
    shortcut = x if block.shortcut is None else reference_conv(block.shortcut, x)
    source = block.source if block.shortcut is None else block.shortcut.output
    scale = block.sum.output.scale
    first, second = common_shift(block.chain()[-1].output.scale / scale, source.scale / scale)
    sums = codes * int(first.mantissa) + shortcut * int(second.mantissa)
    return reference_requantise(sums, np.int64(1), np.int64(int(first.shift)), block.sum.output)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_whole_backbone_is_the_integers_bit_by_bit(name: str) -> None:
    table = table_of(name)
    weights = create_random_weights(table, seed=2)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    backbone = QuantisedBackbone(table, weights, calibrate(table, weights, images)).eval()
    with torch.no_grad():
        feature = backbone.quantise_image(images)
        for block in backbone.blocks[:10]:
            assert isinstance(block, QuantisedBlock)
            if block.block.is_identity:
                continue
            expected = reference_block(block, as_integers(block.source.centred(feature)))
            feature = block(feature)
            codes = block.output.centred(feature)
            if block.block.max_pool:
                pooled = functional.max_pool2d(torch.from_numpy(expected).double(), 3, 2, 1)
                expected = pooled.numpy().astype(np.int64)
            assert np.array_equal(as_integers(codes), expected)
            assert torch.equal(codes * block.output.scale, feature)  # the real values lie on the grid


class RoundThrough(Function):
    """Rounds halves up; its gradient is the identity."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return torch.floor(x + 0.5)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return gradient


def fake_quantise(x: Tensor, params: QuantParams) -> Tensor:
    rounded = RoundThrough.apply(x / params.scale)
    low, high = LOWEST - params.zero_point, HIGHEST - params.zero_point
    inside = (rounded > low) & (rounded < high)
    return torch.where(inside, rounded, rounded.detach().clamp(low, high)) * params.scale


def fake_conv(conv: QuantisedConv, x: Tensor, bias: Tensor) -> Tensor:
    geometry = conv.conv
    rounded = RoundThrough.apply(bias / conv.bias_scale) * conv.bias_scale
    sums = functional.conv2d(
        x, conv.real_weight.double(), None, geometry.stride, geometry.kernel // 2, groups=geometry.groups
    )
    exact = conv.factor * conv.output.scale / conv.bias_scale  # what rounding the multiplier changes
    return fake_quantise((sums + rounded.view(-1, 1, 1)) * exact.view(-1, 1, 1), conv.output)


@pytest.mark.parametrize("name", BACKBONES)
def test_gradients_are_those_of_fake_quantisation(name: str) -> None:
    table = table_of(name)
    weights = create_random_weights(table, seed=1)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    backbone = QuantisedBackbone(table, weights, calibrate(table, weights, images), train_bias=True)
    source = backbone.quantise_image(images).requires_grad_()
    output = source
    for block in backbone.blocks:
        output = block(output)
    gradient = torch.randn(output.shape, generator=torch.Generator().manual_seed(5))
    convs = [module for module in backbone.modules() if isinstance(module, QuantisedConv)]
    found = torch.autograd.grad(output, [source, *(conv.bias for conv in convs)], gradient)

    biases = {id(conv): conv.bias.detach().double().requires_grad_() for conv in convs}
    exact_source = source.detach().double().requires_grad_()
    value = exact_source
    for block in backbone.blocks:
        assert isinstance(block, QuantisedBlock)
        if block.block.is_identity:
            continue
        shortcut, codes = value, value
        for conv in block.chain():
            codes = fake_conv(conv, codes, biases[id(conv)])
        if block.sum is not None:
            scale = block.source.scale
            if block.shortcut is not None:
                shortcut, scale = (
                    fake_conv(block.shortcut, value, biases[id(block.shortcut)]),
                    block.shortcut.output.scale,
                )
            total = (
                codes / block.chain()[-1].output.scale * block.sum.of_branch + shortcut / scale * block.sum.of_shortcut
            )
            codes = fake_quantise(total * block.sum.output.scale, block.sum.output)
        value = functional.max_pool2d(codes, 3, 2, 1) if block.block.max_pool else codes
    expected = torch.autograd.grad(value, [exact_source, *(biases[id(conv)] for conv in convs)], gradient.double())
    torch.testing.assert_close(output.double(), value, atol=1e-6, rtol=1e-6)
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).abs().max()) <= 1e-4 * float(other.abs().max())


@pytest.mark.parametrize("name", BACKBONES)
def test_features_stay_close_to_fp32(name: str) -> None:
    table = table_of(name)
    weights = create_random_weights(table, seed=4)
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    calibration = calibrate(table, weights, images)
    with torch.inference_mode():
        exact = FrozenBackbone(table, weights).eval()(images)
        found = QuantisedBackbone(table, weights, calibration).eval()(images)
    assert float((found - exact).norm() / exact.norm()) < 0.15


def test_a_merge_counts_what_it_clamps_in_evaluation_mode_alone() -> None:
    merge = QuantisedMerge(QuantParams(0.1, 0))
    x = torch.tensor([0.0, 1.04, 12.7, 20.0, -30.0], requires_grad=True)
    merged = merge(x)
    assert merged.tolist() == pytest.approx([0.0, 1.0, 12.7, 12.7, -12.8])
    merged.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert merge.merged == 0
    merge.eval()(x)
    assert (merge.saturated, merge.merged) == (2, 5)


def test_an_untrained_design_is_the_quantised_backbone(table: BlockTable) -> None:
    weights = create_random_weights(table, seed=0)
    images = torch.randn(4, 3, 48, 48)
    calibration = calibrate(table, weights, images)
    connectors = (Connector(after_block=3), Connector(after_block=10, exchange=Exchange.TO_BACKBONE))
    resolved = resolve(Design(connectors=connectors, activation_bits=8))
    model = RepNet(resolved, weights, classes=5, calibration=calibration).eval()
    with torch.no_grad():
        model.head.weight.normal_()
        merged = [model.backbone.merges[str(block)].params.scale for block in (3, 10)]
        assert merged[0] == pytest.approx(1.5 * calibration.params("b3").scale)
        assert torch.isfinite(model(images)).all()
    assert model.saturation() == {3: 0.0, 10: 0.0}


def test_int8_needs_a_calibration_and_known_activations(table: BlockTable) -> None:
    weights = create_random_weights(table, seed=0)
    with pytest.raises(SpecError, match="there is no calibration"):
        RepNet(resolve(Design(connectors=(), activation_bits=8)), weights, classes=5)
    conv = Conv("stem", "norm", 3, 4, 1, 1, 1, Activation.NONE)
    grid = QuantParams(0.1, 0)
    assert (
        QuantisedConv(conv, torch.zeros(4, 3, 1, 1), torch.zeros(4), grid, grid).compute(torch.ones(1, 3, 2, 2)).shape
    )
