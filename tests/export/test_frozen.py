"""int8 weights in a file are the codes and scales that training used, bit by bit."""

from __future__ import annotations

import torch

from repnet_search.export.frozen import dump_frozen, restore_frozen
from repnet_search.models.quantisation import WEIGHT_LIMIT, quantise_weight


def test_a_scale_survives_for_every_mantissa() -> None:
    mantissas = torch.arange(1 << 23, dtype=torch.int32) | (127 << 23)
    scale = mantissas.view(torch.float32) / WEIGHT_LIMIT
    assert torch.equal((scale * WEIGHT_LIMIT) / WEIGHT_LIMIT, scale)


def test_codes_and_scales_survive() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 6, 3, 3, generator=generator) * torch.logspace(-9, 3, 64).view(-1, 1, 1, 1)
    weight[7] = 0
    frozen = dump_frozen({"a.weight": weight, "a.bias": torch.ones(64)}, activation_bits=8)
    assert (frozen["a.weight"].dtype, frozen["a.scale"].shape) == (torch.int8, (64,))
    restored = restore_frozen(frozen)
    assert restored.keys() == {"a.weight", "a.bias"}
    for found, expected in zip(quantise_weight(restored["a.weight"]), quantise_weight(weight), strict=True):
        assert torch.equal(found, expected)


def test_float_weights_are_as_they_were() -> None:
    weights = {"a.weight": torch.randn(3, 2, 1, 1), "a.bias": torch.ones(3)}
    restored = restore_frozen(dump_frozen(weights, activation_bits=32))
    assert all(torch.equal(restored[name], value) for name, value in weights.items())
