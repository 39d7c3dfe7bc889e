from __future__ import annotations

from random import Random

import pytest

from repnet_search.errors import SpecError
from repnet_search.spec import (
    Connector,
    Design,
    Exchange,
    ModuleInput,
    ModuleSpec,
    Norm,
    Recipe,
    get_preset,
    list_presets,
    resolve,
    snap_lr,
)
from tests.designs import random_resolved


def at(*blocks: int, **fields: object) -> tuple[Connector, ...]:
    return tuple(Connector.model_validate({"after_block": block, **fields}) for block in blocks)


def test_resolving_twice_changes_nothing() -> None:
    random = Random(0)
    for _ in range(200):
        resolved = random_resolved(random)
        again = resolve(resolved.design)
        assert again.design == resolved.design
        assert again.modules == resolved.modules
        assert again.id == resolved.id


def test_the_same_network_written_differently_has_one_id() -> None:
    short = Design(connectors=at(6, 13))
    long = Design(connectors=at(6, 13, width=1.0, depth=1, kernel=3, groups=2, pool=2, norm="group"))
    assert resolve(short).id == resolve(long).id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # a 5x5 kernel on a 1x1 map is a 1x1 kernel
        ({"connectors": (*at(10), *at(17, kernel=5))}, {"connectors": (*at(10), *at(17, kernel=1))}),
        # pooling by more than the map
        ({"connectors": (*at(14), *at(17, pool=2))}, {"connectors": (*at(14), *at(17, pool=64))}),
        # whoever writes last: r is not used any more
        ({"connectors": at(6, exchange="to_backbone")}, {"connectors": at(6, exchange="both")}),
        # one module reads r_0 in either case
        ({"connectors": at(6), "module_input": ModuleInput.BLOCK_INPUT}, {"connectors": at(6)}),
        # without connectors there is no r_0, and one learning rate
        ({"connectors": (), "image_pool": 2}, {"connectors": (), "image_pool": 8}),
        (
            {"connectors": (), "recipe": Recipe(lr=0.001, head_lr_ratio=10.0)},
            {"connectors": (), "recipe": Recipe(lr=0.01)},
        ),
        # without convolutions in front of the 1x1 one, width and groups mean nothing
        ({"connectors": at(6, 10, depth=0, width=2.0, groups=4)}, {"connectors": at(6, 10, depth=0)}),
    ],
)
def test_designs_that_are_the_same_network_have_one_id(one: dict[str, object], other: dict[str, object]) -> None:
    first = resolve(Design.model_validate(one), clamp_groups=True)
    second = resolve(Design.model_validate(other), clamp_groups=True)
    assert first.design == second.design
    assert first.id == second.id


def test_different_recipes_are_different_designs() -> None:
    assert resolve(Design(connectors=(), recipe=Recipe(lr=0.01))).id != resolve(Design(connectors=())).id


def test_mid_channels_follow_the_formula() -> None:
    # width 0.5 of 24 channels: int(12 + 4) // 8 * 8 = 16; module 1 counts the connector's channels, 8
    resolved = resolve(Design(connectors=(*at(3), *at(7), *at(10, width=0.5))))
    assert [module.mid_channels for module in resolved.modules] == [8, 8, 16]
    assert [module.in_channels for module in resolved.modules] == [3, 8, 24]
    assert [module.out_size for module in resolved.modules] == [12, 3, 3]


def test_block_input_reads_the_feature_in_front_of_the_block() -> None:
    resolved = resolve(Design(connectors=at(2, 4), module_input=ModuleInput.BLOCK_INPUT))
    assert (resolved.modules[1].in_channels, resolved.modules[1].in_size) == (8, 12)
    stream = resolve(Design(connectors=at(2, 4)))
    assert (stream.modules[1].in_channels, stream.modules[1].in_size) == (8, 12)
    far = resolve(Design(connectors=at(2, 7), module_input=ModuleInput.BLOCK_INPUT))
    assert (far.modules[1].in_channels, far.modules[1].in_size) == (16, 6)


@pytest.mark.parametrize(
    ("design", "sentence"),
    [
        (
            Design(connectors=(*at(2), *at(19))),
            "connectors[1].after_block must be a block of mobilenet_v2_w035 (0..17), but got 19.",
        ),
        (Design(connectors=at(6, 6)), "connectors[1].after_block is 6 and repeats block 6"),
        (Design(connectors=at(6, 3)), "connectors[1].after_block is 3 and comes after block 6"),
        (
            Design(connectors=at(6, 13, groups=5)),
            "The groups of connectors[1]'s module must divide its 16 input and 16 mid channels, but got 5",
        ),
        (
            Design(connectors=at(6, 13, exchange="to_repnet"), module_input=ModuleInput.BLOCK_INPUT),
            "block_input needs every connector to exchange 'both', but connectors[0].exchange is 'to_repnet'",
        ),
        (Design(connectors=at(6), resolution=4, image_pool=8), "image_pool must leave at least one pixel"),
    ],
)
def test_what_cannot_be_built_is_refused(design: Design, sentence: str) -> None:
    with pytest.raises(SpecError) as error:
        resolve(design)
    assert sentence in str(error.value)


def test_module_1_needs_no_group_count_that_divides_3() -> None:
    assert resolve(Design(connectors=at(6), module=ModuleSpec(groups=2))).modules[0].groups == (1,)


def test_learning_rates_are_on_a_grid_of_4_per_decade() -> None:
    grid = sorted({snap_lr(10 ** (exponent / 100)) for exponent in range(-400, 1)})
    assert len(grid) == 17
    assert all(snap_lr(lr) == lr for lr in grid)


def test_the_paper_preset_has_the_released_placement() -> None:
    resolved = resolve(get_preset("paper", Design(connectors=(), resolution=224)))
    assert [module.after_block for module in resolved.modules] == [2, 4, 7, 11, 14, 17]
    assert [module.kernel for module in resolved.modules] == [5, 5, 5, 5, 3, 3]
    assert [module.groups for module in resolved.modules] == [(1,), *[(2,)] * 5]
    assert resolved.modules[0].mid_channels == 8
    assert (resolved.modules[0].in_size, resolved.modules[0].pooled_size) == (112, 28)
    assert all(module.exchange is Exchange.BOTH for module in resolved.modules)
    assert [module.reads_block_input for module in resolved.modules] == [False, *[True] * 5]


def test_presets_by_name() -> None:
    assert list_presets() == ("paper", "smallest")
    assert get_preset("smallest", Design(connectors=at(3))).connectors == ()
    with pytest.raises(SpecError, match="Did you mean 'paper'"):
        get_preset("papre", Design(connectors=()))


def test_one_group_of_8_channels_is_the_layer_norm() -> None:
    group = resolve(Design(connectors=at(2, 3, norm="group")))
    layer = resolve(Design(connectors=at(2, 3, norm="layer")))
    assert group.id == layer.id
    assert group.modules[0].norm is Norm.LAYER
