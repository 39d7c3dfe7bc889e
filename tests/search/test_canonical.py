"""Canonical choices mean the same design, and most equal designs get equal rows."""

from __future__ import annotations

import numpy as np
import pytest

from repnet_search.search.batch import SpaceMemory
from repnet_search.search.canonical import CanonicalChoices
from repnet_search.search.space import SearchSpace
from repnet_search.spec import BackboneSpec
from repnet_search.spec.bundled import load_space


@pytest.mark.parametrize("name", ["default", "paper", "tiny"])
def test_canonical_choices_mean_the_same_design(name: str) -> None:
    space = SearchSpace(load_space(name), BackboneSpec())
    memory = SpaceMemory(space, classes=10, keep=False)
    canonical = CanonicalChoices(space)
    choices = memory.draw(150, seed=3)
    choices[::3, [index for index, key in enumerate(memory.names) if key.startswith("stage_")][1:]] = 0
    found = canonical(choices)
    assert (canonical(found) == found).all()
    assert (found != choices).any()
    for before, after in zip(choices, found, strict=True):
        assert space.design(memory.params(before)).id == space.design(memory.params(after)).id


def test_the_last_layer_alone_is_one_row_in_each_resolution_recipe_and_bias() -> None:
    space = SearchSpace(load_space("default"), BackboneSpec())
    memory = SpaceMemory(space, classes=10, keep=False)
    choices = memory.draw(5000, seed=0)
    choices[:, [index for index, key in enumerate(memory.names) if key.startswith("stage_")]] = 0
    rows = np.unique(CanonicalChoices(space)(choices), axis=0)
    assert len(rows) == len(space.spec.resolution) * len(space.spec.recipe) * len(space.spec.train_bias)


def test_where_all_connectors_read_what_writers_do_has_no_effect() -> None:
    space = SearchSpace(load_space("default"), BackboneSpec())
    memory = SpaceMemory(space, classes=10, keep=False)
    base = {"stage_3": 6, "stage_5": 13, "readers": "all"}
    rows = [memory.choices(base | {"write": mode}) for mode in ("both", "to_backbone")]
    rows.append(memory.choices(base | {"write": "both", "readers": 2}))
    assert len(np.unique(CanonicalChoices(space)(np.array(rows)), axis=0)) == 1
