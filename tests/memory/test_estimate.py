from __future__ import annotations

from random import Random

import pytest

from repnet_search.memory import estimate_lower_bound, estimate_memory, recipe_bytes_per_parameter
from repnet_search.spec import Design, Optimizer, Recipe, get_preset, resolve
from tests.designs import random_resolved, six_connectors


@pytest.mark.parametrize(
    ("optimizer", "accumulate", "per_parameter"),
    [
        (Optimizer.SGD, 1, 4),
        (Optimizer.SIGN_SGD, 1, 4),
        (Optimizer.NORMALISED_SGD, 1, 4),
        (Optimizer.MOMENTUM, 1, 8),
        (Optimizer.ADAM, 1, 12),
        (Optimizer.SGD, 16, 8),
        (Optimizer.ADAM, 16, 16),
    ],
)
def test_the_recipe_pays_per_parameter(optimizer: Optimizer, accumulate: int, per_parameter: int) -> None:
    recipe = Recipe(optimizer=optimizer, accumulate=accumulate)
    assert recipe_bytes_per_parameter(recipe) == per_parameter
    memory = estimate_memory(resolve(six_connectors().model_copy(update={"recipe": recipe})), classes=10)
    assert memory.ram_bytes - memory.arena_bytes == per_parameter * memory.trainable_parameters


def test_terms_add_up() -> None:
    random = Random(1)
    for _ in range(30):
        memory = estimate_memory(random_resolved(random), classes=7)
        assert memory.ram_bytes == sum(size for _, size in memory.terms)
        assert memory.live_peak_bytes == max(memory.forward_peak_bytes, memory.backward_peak_bytes)
        assert memory.arena_bytes >= memory.live_peak_bytes


def test_the_lower_bound_is_one() -> None:
    random = Random(2)
    for _ in range(30):
        resolved = random_resolved(random)
        assert estimate_lower_bound(resolved, classes=10) <= estimate_memory(resolved, classes=10).ram_bytes


def test_bias_training_costs_parameters_and_masks_only() -> None:
    frozen = estimate_memory(resolve(Design(connectors=())), classes=10)
    trained = estimate_memory(resolve(Design(connectors=(), train_bias=True)), classes=10)
    assert trained.trainable_parameters - frozen.trainable_parameters == 5760
    assert trained.flash_bytes == frozen.flash_bytes + (2 - 1) * 4 * 5760  # two copies instead of one
    assert trained.kept_bytes > frozen.kept_bytes


def test_the_peak_is_named() -> None:
    memory = estimate_memory(resolve(get_preset("smallest", Design(connectors=()))), classes=10)
    assert memory.peak_place == "block 2, conv, forward"
    assert memory.largest_buffer_bytes == 4 * 48 * 24 * 24
    assert memory.flash_bytes == 4 * (238688 + 5760) + 64 * 1024 + 2 * 4 * 1130


def test_micro_batches_multiply_activations_not_parameters() -> None:
    resolved = resolve(six_connectors())
    one, four = (estimate_memory(resolved, classes=10, batch=batch) for batch in (1, 4))
    assert four.parameter_bytes == one.parameter_bytes
    assert 3.9 < four.arena_bytes / one.arena_bytes <= 4.0
