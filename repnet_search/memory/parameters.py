"""What a recipe keeps per trainable parameter, beside the parameter itself."""

from __future__ import annotations

from repnet_search.graph.tape import FLOAT_BYTES
from repnet_search.spec.design import Optimizer, Recipe

_STATE_FLOATS = {
    Optimizer.SGD: 0,
    Optimizer.SIGN_SGD: 0,
    Optimizer.NORMALISED_SGD: 0,
    Optimizer.MOMENTUM: 1,
    Optimizer.ADAM: 2,
}


def optimizer_bytes_per_parameter(recipe: Recipe) -> int:
    """Returns the bytes of optimizer state per trainable parameter."""
    return FLOAT_BYTES * _STATE_FLOATS[recipe.optimizer]


def gradient_bytes_per_parameter(recipe: Recipe) -> int:
    """Returns the bytes of accumulated gradient per trainable parameter: none where the update is fused."""
    return FLOAT_BYTES if recipe.accumulate > 1 else 0


def recipe_bytes_per_parameter(recipe: Recipe) -> int:
    """Returns parameter, optimizer state and accumulated gradient together.

    >>> recipe_bytes_per_parameter(Recipe(optimizer=Optimizer.ADAM, accumulate=16))
    16
    """
    return FLOAT_BYTES + optimizer_bytes_per_parameter(recipe) + gradient_bytes_per_parameter(recipe)
