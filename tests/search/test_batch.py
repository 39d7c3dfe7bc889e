from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from repnet_search.errors import SpecError
from repnet_search.graph import Schedule, build_graph
from repnet_search.memory import compute_liveness, estimate_lower_bound
from repnet_search.search.batch import SpaceMemory
from repnet_search.search.space import SearchSpace
from repnet_search.spec import BackboneSpec, Norm, Optimizer, Recipe
from repnet_search.spec.bundled import load_space
from repnet_search.spec.space import ModuleChoices, SpaceSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tables"


def rich_space(**fields: object) -> SpaceSpec:
    wanted: dict[str, object] = {
        "resolution": (23, 32),
        "activation_bits": (32, 8),
        "image_pool": (1, 4),
        "module": ModuleChoices(
            width=(0.5, 2.0),
            kernel=(5,),
            groups=(2, "depthwise"),
            pool=(1, 2),
            norm=(Norm.GROUP, Norm.NONE),
            weight_standardisation=(False, True),
        ),
        "train_bias": (False, True),
        "recipe": (
            Recipe(),
            Recipe(optimizer=Optimizer.NORMALISED_SGD),
            Recipe(optimizer=Optimizer.ADAM, accumulate=8),
        ),
    }
    return SpaceSpec.model_validate(wanted | fields)


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "proxylessnas_mobile", "resnet18"])
def test_a_drawn_design_takes_what_the_same_design_takes(backbone: str, folder: Path) -> None:
    space = SearchSpace(rich_space(), BackboneSpec(name=backbone))
    memory = SpaceMemory(space, classes=7, folder=folder)
    drawn = memory.sample(120, seed=1)
    designs = [space.design(memory.params(row)) for row in drawn.choices]
    assert drawn.ram_bytes.tolist() == [estimate_lower_bound(resolved, classes=7) for resolved in designs]


def test_micro_batch_and_schedule_are_those_of_the_op_list(folder: Path) -> None:
    spec = rich_space(
        module=ModuleChoices(kernel=(3,), groups=(2, 4), norm=(Norm.BATCH, Norm.LAYER)), write=("both", "to_backbone")
    )
    space = SearchSpace(spec, BackboneSpec())
    memory = SpaceMemory(space, classes=3, batch=3, schedule=Schedule.STREAMED, folder=folder)
    drawn = memory.sample(60, seed=2)
    for number, row in enumerate(drawn.choices):
        graph = build_graph(space.design(memory.params(row)), classes=3, batch=3, schedule=Schedule.STREAMED)
        liveness = compute_liveness(graph)
        assert drawn.memory.live_peak_bytes[number] == liveness.peak_bytes
        assert drawn.memory.kept_bytes[number] == liveness.kept_bytes
        assert drawn.memory.norm_state_elements[number] == graph.norm_state_elements


def test_all_designs_of_a_countable_space_come_once(folder: Path) -> None:
    space = SearchSpace(load_space("paper"), BackboneSpec())
    memory = SpaceMemory(space, classes=10, folder=folder)
    samples = list(memory.enumerate_all(chunk=1000))
    choices = np.concatenate([sample.choices for sample in samples])
    assert len(np.unique(choices, axis=0)) == len(choices) == space.combinations
    params = [memory.params(row) for row in samples[3].choices[::97]]
    assert samples[3].ram_bytes[::97].tolist() == [
        estimate_lower_bound(space.design(values), classes=10) for values in params
    ]


def test_the_same_seed_draws_the_same_designs_and_every_choice(folder: Path) -> None:
    memory = SpaceMemory(SearchSpace(load_space("default"), BackboneSpec()), classes=10, folder=folder)
    one, same, other = memory.draw(2000, seed=1), memory.draw(2000, seed=1), memory.draw(2000, seed=2)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert (one.max(axis=0) + 1).tolist() == memory.counts.tolist()
    assert one.min() == 0


def test_nothing_is_kept_where_that_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPNET_SEARCH_CACHE", str(folder))
    space = SearchSpace(load_space("paper"), BackboneSpec())
    SpaceMemory(space, classes=10, keep=False).sample(3, seed=0)
    assert not folder.exists()
    SpaceMemory(space, classes=10).sample(3, seed=0)
    assert len(list(folder.glob("*.npz"))) == 1


def test_a_batch_norm_is_refused_at_micro_batch_1(folder: Path) -> None:
    space = SearchSpace(rich_space(module=ModuleChoices(norm=(Norm.BATCH,))), BackboneSpec())
    with pytest.raises(SpecError, match="couples the images of a batch"):
        SpaceMemory(space, classes=10, folder=folder).sample(3, seed=0)
