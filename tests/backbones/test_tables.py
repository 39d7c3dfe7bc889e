"""Tables against torchvision's own networks and against what is published of ProxylessNAS-Mobile."""

from __future__ import annotations

import pytest
import torch

from repnet_search.backbones import (
    Activation,
    BlockTable,
    default_width_mult,
    get_block_table,
    has_last_conv,
    list_backbones,
)
from repnet_search.errors import SpecError
from repnet_search.models.vision import torchvision
from repnet_search.search.space import SearchSpace
from repnet_search.spec import BackboneSpec, Connector, Design, ModuleInput, get_preset, parse_spec, resolve
from repnet_search.spec.space import SpaceSpec
from tests.backbones.published import PROXYLESSNAS_MOBILE

RESNETS = ("resnet18", "resnet34", "resnet50")


def get(name: str, *, last_conv: bool = False) -> BlockTable:
    return get_block_table(name, width_mult=default_width_mult(name), last_conv=last_conv)


def connect(name: str, *blocks: int, **fields: object) -> Design:
    connectors = tuple(Connector(after_block=block) for block in blocks)
    return Design.model_validate({"backbone": BackboneSpec(name=name), "connectors": connectors, **fields})


@pytest.mark.parametrize("name", RESNETS)
def test_a_resnets_maps_are_torchvisions(name: str) -> None:
    table, network = get(name), torchvision.models.get_model(name).eval()
    units = [unit for stage in (network.layer1, network.layer2, network.layer3, network.layer4) for unit in stage]
    seen: list[tuple[int, ...]] = []
    for module in (network.maxpool, *units):
        module.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[1:])))
    with torch.no_grad():
        network(torch.zeros(1, 3, 97, 97))
    assert seen == [(b.channels, s, s) for b, s in zip(table.blocks, table.output_sizes(97), strict=True)]


@pytest.mark.parametrize("name", RESNETS)
def test_a_resnets_convolutions_are_torchvisions(name: str) -> None:
    table, network = get(name), torchvision.models.get_model(name)
    modules = dict(network.named_modules())
    convs = {key for key, module in modules.items() if isinstance(module, torch.nn.Conv2d)}
    assert {conv.key for conv in table.convs()} == convs
    for conv in table.convs():
        module = modules[conv.key]
        assert (conv.in_channels, conv.out_channels) == (module.in_channels, module.out_channels)
        assert (conv.kernel, conv.stride, conv.groups) == (module.kernel_size[0], module.stride[0], module.groups)
        assert conv.kernel // 2 == module.padding[0]
        assert modules[conv.norm_key].num_features == conv.out_channels
        assert modules[conv.norm_key].eps == table.norm_eps


def test_a_residual_unit_ends_in_the_sum_and_its_activation() -> None:
    for block in get("resnet50").blocks[1:]:
        assert [conv.activation for conv in block.convs] == [Activation.RELU, Activation.RELU, Activation.NONE]
        assert block.residual
        assert block.activation is Activation.RELU
    shortcuts = [i for i, block in enumerate(get("resnet50").blocks) if block.shortcut is not None]
    assert shortcuts == [1, 4, 8, 14]
    assert [i for i, block in enumerate(get("resnet18").blocks) if block.shortcut is not None] == [3, 5, 7]


def test_the_papers_connectors_end_each_stage_or_sit_where_it_put_them() -> None:
    assert get("resnet18").paper_blocks == tuple(stage[-1] for stage in get("resnet18").stages) == (0, 2, 4, 6, 8)
    assert get("resnet34").paper_blocks == tuple(stage[-1] for stage in get("resnet34").stages)
    keys = [get("resnet50").blocks[block].convs[0].key for block in get("resnet50").paper_blocks]
    assert keys == ["conv1", *(f"layer{unit}.conv1" for unit in ("1.0", "2.0", "3.0", "4.0", "4.2"))]


def test_proxylessnas_mobile_has_the_published_number_of_parameters() -> None:
    """2.80 million without the classifier, by hand: every convolution, and two values per channel for its norm."""
    weights, channels = 3 * 32 * 9 + 320 * 1280, 32 + 1280
    for in_channels, out_channels, kernel, _, expansion in PROXYLESSNAS_MOBILE.values():
        hidden = in_channels * expansion
        expand = in_channels * hidden if expansion > 1 else 0
        weights += expand + hidden * kernel**2 + hidden * out_channels
        channels += (2 if expansion > 1 else 1) * hidden + out_channels
    table = get("proxylessnas_mobile", last_conv=True)
    assert (table.weight_count, table.bias_count) == (weights, channels)
    # "last layer only" takes 3.322 MB of parameters: these at 1 byte each, and 102 classes at 4 bytes
    assert weights + 2 * channels == 2_799_512
    assert round((2_799_512 + 4 * 102 * 1281) / 1e6, 3) == 3.322


def test_proxylessnas_mobile_is_laid_out_as_published() -> None:
    table = get("proxylessnas_mobile", last_conv=True)
    assert [index for index, block in enumerate(table.blocks) if block.is_identity] == [4, 5]
    assert [table.blocks[block].channels for block in table.paper_blocks] == [32, 40, 80, 96, 192, 320]
    # the published block k is block k + 1
    keys = [table.blocks[block].convs[0].key for block in table.paper_blocks]
    assert [key.split(".")[1] for key in keys] == ["1", "5", "9", "13", "17", "21"]
    sizes = table.output_sizes(224)
    assert [sizes[stage[0]] for stage in table.stages] == [112, 112, 56, 28, 14, 14, 7, 7, 7]
    assert [len(stage) for stage in table.stages] == [1, 1, 4, 4, 4, 4, 4, 1, 1]
    assert table.blocks[1].is_inverted_residual is False
    assert all(block.is_inverted_residual for block in table.blocks[2:23] if not block.is_identity)
    assert table.norm_eps == 1e-3


def test_the_papers_modules_on_proxylessnas_mobile_have_the_published_parameters() -> None:
    design = get_preset(
        "paper", Design(backbone=BackboneSpec(name="proxylessnas_mobile"), connectors=(), resolution=224)
    )
    modules = resolve(design).modules
    # k×k convolution, scale and bias of both norms, 1×1 convolution
    counts = [
        m.mid_channels * (m.in_channels // m.groups[0] * m.kernel**2 + 2 + m.out_channels) + 2 * m.out_channels
        for m in modules
    ]
    assert counts == [936, 14_224, 23_440, 88_032, 60_480, 228_352]
    assert [module.kernel for module in modules] == [5, 5, 5, 5, 3, 3]
    # module 2 reads what is in front of block 6: blocks 4 and 5 passed block 3's feature on
    assert (modules[1].in_channels, modules[1].in_size, modules[1].out_size) == (32, 56, 28)


@pytest.mark.parametrize("name", list_backbones())
def test_every_backbone_has_designs(name: str) -> None:
    base = Design(backbone=BackboneSpec(name=name), connectors=(), resolution=96)
    resolved = resolve(get_preset("paper", base))
    assert tuple(module.after_block for module in resolved.modules) == resolved.table.paper_blocks
    assert resolve(resolved.design).id == resolved.id
    space = SearchSpace(SpaceSpec(resolution=(96,)), BackboneSpec(name=name))
    assert space.design(space.paper()[0]).modules
    assert all(space.design(params).modules for params in space.paper())


def test_module_j_reads_the_feature_in_front_of_its_block_or_the_last_connectors() -> None:
    in_front = resolve(connect("proxylessnas_mobile", 1, 6, resolution=96, module_input=ModuleInput.BLOCK_INPUT))
    assert (in_front.modules[1].in_channels, in_front.modules[1].in_size) == (32, 24)
    stream = resolve(connect("proxylessnas_mobile", 1, 6, resolution=96))
    assert (stream.modules[1].in_channels, stream.modules[1].in_size) == (16, 48)
    pooled = resolve(connect("resnet18", 0, 1, resolution=96, module_input=ModuleInput.BLOCK_INPUT))
    assert (pooled.modules[1].in_channels, pooled.modules[1].in_size) == (64, 24)


def test_a_width_that_is_left_out_is_the_backbones() -> None:
    assert BackboneSpec() == BackboneSpec(name="mobilenet_v2", width_mult=0.35, last_conv=False)
    assert [BackboneSpec(name=name).width_mult for name in ("mnasnet", "mobilenet_v2", "resnet50")] == [0.5, 0.35, 1.0]
    design = parse_spec(Design, "connectors: []\nbackbone: {name: resnet18}", source="text")
    assert design.model_dump(mode="json")["backbone"] == {"name": "resnet18", "width_mult": 1.0, "last_conv": False}
    wide = parse_spec(Design, "connectors: []\nbackbone: {name: resnet18, width_mult: 1.0}", source="text")
    assert resolve(wide).id == resolve(design).id


@pytest.mark.parametrize("name", ["proxylessnas_mobile", *RESNETS])
def test_one_width_alone_is_said(name: str) -> None:
    with pytest.raises(SpecError) as error:
        resolve(Design(backbone=BackboneSpec(name=name, width_mult=0.35), connectors=()))
    assert str(error.value) == f"{name} comes in width 1 alone, but got 0.35; leave --width-mult out."


def test_a_last_convolution_that_there_is_not_is_said() -> None:
    with_last_conv = {"mnasnet", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "proxylessnas_mobile"}
    assert {name for name in list_backbones() if has_last_conv(name)} == with_last_conv
    with pytest.raises(SpecError) as error:
        resolve(Design(backbone=BackboneSpec(name="resnet50", last_conv=True), connectors=()))
    assert str(error.value) == "resnet50 has no last 1x1 convolution to keep, but got --last-conv; leave it out."


def test_an_unknown_name_is_the_registrys_sentence_with_and_without_a_width() -> None:
    sentences = set()
    for text in ("{name: resnet19}", "{name: resnet19, width_mult: 1.0}"):
        with pytest.raises(SpecError) as error:
            resolve(parse_spec(Design, f"connectors: []\nbackbone: {text}", source="text"))
        sentences.add(str(error.value).removeprefix("text: "))
    names = ", ".join(list_backbones())
    rule = f"The backbone must be one of {names}, or your own by --backbone FILE.py:FUNCTION"
    assert sentences == {f"{rule}, but got 'resnet19'. Did you mean 'resnet18'?"}
    with pytest.raises(SpecError, match=r"backbone\.name must be a valid string, but got 5"):
        parse_spec(Design, "connectors: []\nbackbone: {name: 5}", source="text")


@pytest.mark.parametrize("block", [4, 5])
def test_a_block_that_does_nothing_has_no_connector(block: int) -> None:
    sentence = (
        f"must not be {block}: block {block} of proxylessnas_mobile passes its input on unchanged; connect after block "
        "3 instead."
    )
    with pytest.raises(SpecError) as error:
        resolve(connect("proxylessnas_mobile", 2, block))
    assert str(error.value) == f"connectors[1].after_block {sentence}"
    backbone = BackboneSpec(name="proxylessnas_mobile")
    with pytest.raises(SpecError) as error:
        SearchSpace(SpaceSpec(connector_blocks=(block,)), backbone)
    assert str(error.value) == f"connector_blocks[0] {sentence}"


def test_all_blocks_of_a_space_are_those_that_do_something() -> None:
    space = SearchSpace(SpaceSpec(), BackboneSpec(name="proxylessnas_mobile"))
    assert space.stages[2] == (2, 3)
    assert sum(space.stages.values(), ()) == (0, 1, 2, 3, *range(6, 23))
