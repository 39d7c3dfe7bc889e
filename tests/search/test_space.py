from __future__ import annotations

from random import Random

import pytest

from repnet_search.errors import OverBudgetError, SpecError
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.space import SearchSpace
from repnet_search.spec import BackboneSpec, Exchange, ModuleInput, Norm, parse_spec, resolve
from repnet_search.spec.bundled import list_spaces, load_space
from repnet_search.spec.space import ModuleChoices, SpaceSpec
from repnet_search.spec.target import DeviceLimits


@pytest.mark.parametrize("path", list_spaces(), ids=lambda path: path.stem)
def test_every_space_that_comes_along_makes_legal_designs(path: object) -> None:
    space = SearchSpace(load_space(str(path)), BackboneSpec())
    random = Random(0)
    for _ in range(100):
        resolved = space.design(space.sample(random))
        assert resolve(resolved.design).id == resolved.id


def test_the_default_space_lists_the_three_resolutions() -> None:
    assert load_space("default").resolution == (32, 40, 48)
    assert {path.stem for path in list_spaces()} == {"default", "paper", "tiny"}


def test_combinations_are_the_product_of_the_choices() -> None:
    spec = parse_spec(SpaceSpec, "connector_blocks: [6, 13]\nresolution: [32, 48]", source="text")
    space = SearchSpace(spec, BackboneSpec())
    assert list(space.distributions["stage_3"].choices) == [None, 6]
    # resolutions, image pools, two stages, readers, write, depth and width per half, kernel, groups, pool
    assert space.combinations == 2 * 2 * 2 * 2 * 5 * 3 * 3**2 * 4**2 * 2 * 4 * 3


def test_readers_come_first_and_block_input_has_none() -> None:
    space = SearchSpace(load_space("default"), BackboneSpec())
    random = Random(1)
    for _ in range(200):
        params = space.sample(random)
        design = space.design(params).design
        exchanges = [connector.exchange for connector in design.connectors]
        writers = [index for index, exchange in enumerate(exchanges) if exchange.writes]
        assert writers == list(range(len(exchanges) - len(writers), len(exchanges)))
        if params["write"] == "block_input" and len(exchanges) > 1:
            assert design.module_input is ModuleInput.BLOCK_INPUT
            assert set(exchanges) == {Exchange.BOTH}
        if params["readers"] == "all" and params["write"] != "block_input":
            assert not writers


def test_the_last_layer_alone_comes_in_every_resolution_and_recipe() -> None:
    space = SearchSpace(load_space("default"), BackboneSpec())
    designs = [space.design(params) for params in space.last_layer()]
    assert len({design.id for design in designs}) == len(space.spec.resolution) * len(space.spec.recipe)
    assert all(not design.modules and not design.design.train_bias for design in designs)


def test_the_papers_placement_is_in_the_default_space() -> None:
    space = SearchSpace(load_space("default"), BackboneSpec())
    first = space.design(space.paper()[0])
    assert [module.after_block for module in first.modules] == [2, 4, 7, 11, 14, 17]
    sizes = [space.design(params).modules for params in space.paper()]
    assert len(sizes[-1]) == 1


def test_a_block_that_the_backbone_lacks_is_refused() -> None:
    with pytest.raises(SpecError, match=r"connector_blocks\[1\] must be a block of mobilenet_v2_w035 \(0\.\.17\)"):
        SearchSpace(SpaceSpec(connector_blocks=(3, 18)), BackboneSpec())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("resolution: 48", "resolution must be a list of choices, but got 48."),
        ("resolution: []", "resolution must be a list of at least one choice, but got []."),
        ("resolution: [48, 48]", "resolution must be a list without repeated choices"),
        ("modul: {}", "modul is not a field here. Did you mean 'module'?"),
        ("module: {widht: [1.0]}", "module.widht is not a field here. Did you mean 'width'?"),
        ("module: {width: [wide]}", "module.width[0] must be a valid number, but got 'wide'."),
        ("write: [bth]", "write[0] must be"),
        ("recipe: [{optimiser: sgd}]", "recipe[0].optimiser is not a field here. Did you mean 'optimizer'?"),
    ],
)
def test_a_mistake_in_a_space_is_named_with_its_path(text: str, sentence: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_spec(SpaceSpec, text, source="space.yaml")
    assert sentence in str(error.value)


def test_an_unknown_space_names_those_there_are() -> None:
    with pytest.raises(SpecError, match="one of default, paper, tiny"):
        load_space("defualt")


def test_the_widest_fits_and_has_more_parameters_than_draws() -> None:
    feasible = FeasibleSpace(
        SearchSpace(load_space("default"), BackboneSpec()), limits=DeviceLimits(256 * 1024), classes=10
    )
    widest = feasible.widest(seed=0)
    assert feasible.fits(widest)
    drawn = feasible.fitting.draw(20_000, seed=9).sample
    assert drawn.memory.trainable_parameters.max() <= widest.memory.trainable_parameters


def test_the_densest_is_plain_and_comes_in_every_recipe_that_fits() -> None:
    spec = load_space("default").model_copy(update={"resolution": (96,), "activation_bits": (8,)})
    feasible = FeasibleSpace(SearchSpace(spec, BackboneSpec()), limits=DeviceLimits(256 * 1024), classes=10)
    densest = feasible.densest()
    assert [candidate.params["recipe"] for candidate in densest] == list(feasible.space.recipes)[:-1]  # adam: too much
    blocks = [[module.after_block for module in candidate.resolved.modules] for candidate in densest]
    assert blocks == [[3, 6, 10, 13, 16]] * len(densest)  # the first stage and the last take most
    for candidate in densest:
        assert feasible.fits(candidate)
        connectors = candidate.resolved.design.connectors
        assert all((connector.depth, connector.pool) == (0, 1) for connector in connectors)


def test_where_no_module_fits_nothing_is_dense() -> None:
    space = SearchSpace(load_space("default"), BackboneSpec())
    feasible = FeasibleSpace(space, limits=DeviceLimits(60 * 1024), classes=10)
    assert feasible.densest() == []


def test_a_budget_below_the_smallest_says_what_it_needs_and_what_helps() -> None:
    spec = SpaceSpec(resolution=(96,))
    feasible = FeasibleSpace(SearchSpace(spec, BackboneSpec()), limits=DeviceLimits(256 * 1024), classes=10)
    with pytest.raises(OverBudgetError) as error:
        feasible.check_attainable()
    assert str(error.value) == (
        "256.0 KiB cannot hold any design of this space: the smallest needs 544.4 KiB (96 px, fp32, last layer alone); "
        "largest part: block 2, conv, forward, 540.0 KiB. Use --activation-bits 8 (139.4 KiB), "
        "--schedule streamed (220.4 KiB), a resolution of at most 64, or a larger budget."
    )


def test_a_budget_that_takes_int8_and_another_schedule_says_so() -> None:
    feasible = FeasibleSpace(SearchSpace(SpaceSpec(), BackboneSpec()), limits=DeviceLimits(28 * 1024), classes=10)
    with pytest.raises(OverBudgetError, match=r"Use --activation-bits 8 with --schedule streamed \(\d"):
        feasible.check_attainable()


def test_a_space_that_cannot_be_trained_is_refused() -> None:
    spec = SpaceSpec(module=ModuleChoices(norm=(Norm.GROUP, Norm.BATCH)))
    feasible = FeasibleSpace(SearchSpace(spec, BackboneSpec()), limits=DeviceLimits(1 << 20), classes=10)
    with pytest.raises(SpecError, match=r"module\.norm must not list batch"):
        feasible.check_attainable()
