"""Flash term by term, by hand; and the sentence for a backbone that a flash cannot hold."""

from __future__ import annotations

import pytest

from repnet_search.backbones import get_block_table, list_backbones
from repnet_search.errors import OverBudgetError
from repnet_search.graph import build_graph
from repnet_search.memory import check_backbone_fits, estimate_flash, estimate_memory
from repnet_search.memory.flash import CODE_BYTES
from repnet_search.spec import BackboneSpec, Design, resolve
from repnet_search.spec.target import DeviceLimits
from repnet_search.units import KIB, MIB
from tests.designs import six_connectors

TABLE = get_block_table("mobilenet_v2", width_mult=0.35, last_conv=False)


def test_an_fp32_backbone() -> None:
    flash = estimate_flash(TABLE, activation_bits=32, train_bias=False, trained_elements=1130)
    assert dict(flash.terms) == {
        "frozen weights": 4 * 238_688,
        "folded biases": 4 * 5_760,
        "code (assumed)": CODE_BYTES,
        "trained, 2 copies": 2 * 4 * 1130,
    }
    assert flash.total_bytes == sum(size for _, size in flash.terms)


def test_an_int8_backbone_has_a_multiplier_and_a_shift_per_channel() -> None:
    flash = estimate_flash(TABLE, activation_bits=8, train_bias=False, trained_elements=0)
    assert (flash.weight_bytes, flash.bias_bytes, flash.requantisation_bytes) == (238_688, 4 * 5_760, 5 * 5_760)


def test_biases_that_train_are_trained_weights() -> None:
    frozen, trained = (
        estimate_memory(resolve(Design(connectors=(), train_bias=bias)), classes=10).flash for bias in (False, True)
    )
    assert trained.bias_bytes == 0
    assert trained.trained_bytes - frozen.trained_bytes == 2 * frozen.bias_bytes


def test_the_running_statistics_are_kept_too() -> None:
    memory = estimate_memory(resolve(six_connectors(norm="batch")), classes=10, batch=2)
    assert memory.norm_state_bytes > 0
    assert memory.flash.trained_bytes == 2 * (memory.parameter_bytes + memory.norm_state_bytes)


def test_a_backbone_that_a_flash_cannot_hold() -> None:
    wide = BackboneSpec(width_mult=1.0)
    check_backbone_fits(wide, activation_bits=[32], limits=DeviceLimits(MIB))
    with pytest.raises(OverBudgetError) as error:
        check_backbone_fits(wide, activation_bits=[32], limits=DeviceLimits(MIB, 3 * MIB))
    assert str(error.value) == (
        "A flash of 3.0 MiB cannot hold mobilenet_v2_w100 in fp32: 6.9 MiB of frozen weights and 64.0 KiB of code take "
        "6.9 MiB, 3.9 MiB too much; use --activation-bits 8 (1.9 MiB) or --width-mult 0.5 with weights of that width "
        "(1.9 MiB); in a design file set activation_bits or backbone.width_mult."
    )
    check_backbone_fits(wide, activation_bits=[32, 8], limits=DeviceLimits(MIB, 2 * MIB))


def test_the_last_layer_counts_where_it_is_known() -> None:
    limits = DeviceLimits(MIB, MIB)
    check_backbone_fits(BackboneSpec(), activation_bits=[32], limits=limits)
    with pytest.raises(OverBudgetError, match=r"8\.8 KiB for two copies of a last layer of 10 classes"):
        check_backbone_fits(BackboneSpec(), activation_bits=[32], limits=limits, classes=10)
    check_backbone_fits(BackboneSpec(), activation_bits=[8], limits=limits, classes=10)


def test_no_int8_is_offered_where_a_backbone_has_none() -> None:
    spec = BackboneSpec(name="mobilenet_v3_small", width_mult=1.0)
    with pytest.raises(OverBudgetError, match=r"too much; use --width-mult 0\.75 with weights of that width"):
        check_backbone_fits(spec, activation_bits=[32], limits=DeviceLimits(MIB, 2.5 * MIB))


def test_a_head_that_fills_the_flash_is_said() -> None:
    spec, limits = BackboneSpec(width_mult=0.1), DeviceLimits(MIB, MIB)
    with pytest.raises(OverBudgetError, match=r"a last layer of 50000 classes .* use at most \d+ classes\.") as error:
        check_backbone_fits(spec, activation_bits=[32], limits=limits, classes=50_000)
    most = int(str(error.value).split()[-2])
    check_backbone_fits(spec, activation_bits=[32], limits=limits, classes=most)
    with pytest.raises(OverBudgetError):
        check_backbone_fits(spec, activation_bits=[32], limits=limits, classes=most + 1)


def test_where_nothing_helps_it_says_so() -> None:
    with pytest.raises(OverBudgetError, match="use a smaller backbone, or a device with more flash"):
        check_backbone_fits(
            BackboneSpec(name="resnet18", width_mult=1.0), activation_bits=[8], limits=DeviceLimits(MIB, 512 * KIB)
        )


@pytest.mark.parametrize("name", list_backbones())
def test_the_frozen_terms_are_the_op_list_s_frozen_parameters(name: str) -> None:
    design = Design(connectors=(), backbone=BackboneSpec(name=name, width_mult=1.0), resolution=64)
    resolved = resolve(design)
    graph = build_graph(resolved, classes=10)
    frozen = 4 * sum(parameter.elements for parameter in graph.parameters if not parameter.trains)
    flash = estimate_memory(resolved, classes=10).flash
    assert flash.weight_bytes + flash.bias_bytes == frozen
    assert flash.trained_bytes == 2 * 4 * graph.parameter_count
