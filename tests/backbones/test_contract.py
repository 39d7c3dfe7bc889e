"""A sample of the contract that studies/backbone_contract.py checks for all backbones, and what tables refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest

from repnet_search.backbones import Activation, Block, get_block_table, list_backbones
from repnet_search.errors import SpecError
from repnet_search.graph import Trained, build_graph
from repnet_search.models.calibration import Calibration
from repnet_search.models.finetuned import FineTunedBackbone
from repnet_search.models.repnet import RepNet
from repnet_search.models.vision import torchvision
from repnet_search.spec import BackboneSpec, Connector, Design, resolve
from studies.backbone_contract import check_backbone
from studies.contract_subjects import REGISTRY, create_own, shake_norms

SAMPLE = [pair for pair in REGISTRY if pair[1] in ("mobilenet_v3_small", "mobilenet_v3_large", "mnasnet0_5")]


@pytest.mark.parametrize(("spec", "name"), SAMPLE, ids=[name for _, name in SAMPLE])
def test_a_backbone_of_the_registry_keeps_the_contract(spec: BackboneSpec, name: str) -> None:
    network = torchvision.models.get_model(name).eval()
    shake_norms(network)
    contract = check_backbone(spec, network, designs=3)
    assert contract.holds, contract


@pytest.mark.parametrize("name", ["tiny", "plain", "regnet_y_400mf", "efficientnet_b0"])
def test_a_backbone_of_the_users_own_keeps_the_contract(name: str) -> None:
    spec, network = create_own(name)
    shake_norms(network)
    contract = check_backbone(spec, network, designs=3)
    assert contract.holds, contract


def test_every_name_has_an_original_in_the_contract() -> None:
    # The original of ProxylessNAS-Mobile is not in torchvision: tests/backbones/test_models.py writes it down.
    assert {spec.name for spec, _ in REGISTRY} == set(list_backbones()) - {"proxylessnas_mobile"}


@pytest.mark.parametrize(("name", "blocks"), [("mobilenet_v3_small", 14), ("mobilenet_v3_large", 18)])
def test_the_hidden_layer_of_mobilenet_v3_is_a_block_that_can_be_cut_off(name: str, blocks: int) -> None:
    whole = get_block_table(name, width_mult=1.0, last_conv=True)
    cut = get_block_table(name, width_mult=1.0, last_conv=False)
    assert (len(whole.blocks), len(cut.blocks)) == (blocks, blocks - 2)
    assert whole.blocks[:-2] == cut.blocks
    assert whole.blocks[-1].pools_first
    assert whole.output_sizes(224)[-3:] == (7, 7, 1)
    resolved = resolve(Design(backbone=BackboneSpec(name=name, last_conv=True), connectors=(), resolution=64))
    assert resolved.feature_channels == whole.blocks[-1].channels


def test_macs_are_those_of_the_graph() -> None:
    for name in list_backbones():
        design = Design(backbone=BackboneSpec(name=name), connectors=(), resolution=64)
        resolved = resolve(design)
        head = 10 * resolved.feature_channels
        assert build_graph(resolved, classes=10).forward_macs == resolved.table.count_macs(64) + head


def test_an_int8_backbone_with_smooth_parts_is_refused_in_one_sentence() -> None:
    resolved = resolve(Design(backbone=BackboneSpec(name="mobilenet_v3_small"), connectors=(), activation_bits=8))
    said = "in float32 alone, but got activation_bits 8; use activation_bits 32"
    with pytest.raises(SpecError, match=said):
        build_graph(resolved, classes=10)
    with pytest.raises(SpecError, match=said):
        RepNet(resolved, {}, classes=10, calibration=Calibration({"image": (0.0, 1.0)}))
    clamped = replace(resolved.table, blocks=tuple(map(_clamp_all, resolved.table.blocks)))
    assert not any(block.is_smooth for block in clamped.blocks)
    with pytest.raises(SpecError, match=said):  # a squeeze-and-excitation is enough
        clamped.check_int8()


def _clamp_all(block: Block) -> Block:
    return replace(block, convs=tuple(replace(conv, activation=Activation.RELU) for conv in block.convs))


def test_a_whole_network_with_smooth_parts_is_refused_in_one_sentence() -> None:
    resolved = resolve(Design(backbone=BackboneSpec(name="mobilenet_v3_small"), connectors=()))
    with pytest.raises(SpecError, match="trains no whole network, but got to train everything"):
        build_graph(resolved, classes=10, batch=2, trained=Trained.EVERYTHING)
    with pytest.raises(SpecError, match="use another backbone"):
        FineTunedBackbone(resolved.table, classes=10, trained=Trained.EVERYTHING)


def test_connectors_may_sit_after_every_block_of_mobilenet_v3() -> None:
    backbone = BackboneSpec(name="mobilenet_v3_small", last_conv=True)
    connectors = tuple(Connector(after_block=block) for block in range(14))
    assert (
        len(resolve(Design(backbone=backbone, connectors=connectors, resolution=64), clamp_groups=True).modules) == 14
    )
