"""A tree-structured Parzen estimator over choices [Bergstra2011tpe], which draws and ranks whole batches of designs.

The trained designs are split into the good and the rest; each side is a density, a mixture of one product kernel around
every design and a uniform one. What is likely among the good and unlikely among the rest is promising. Whole designs
are drawn from the density of the good, so that fields which are good together stay together, and those that do not fit
are left out: the estimator conditioned on the limits, without a proposal wasted.

[Bergstra2011tpe] J. Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from repnet_search.search.batch import Choices
from repnet_search.search.fields import count_steps
from repnet_search.search.space import SearchSpace

Floats = NDArray[np.float64]

GOOD_SHARE = 0.2
MOST_GOOD = 25
MOST_REST = 175
"""The history is bounded: a ranking costs candidates × designs, and old bad designs teach little."""

PRIOR_WEIGHT = 1.0
_SPREAD = 0.5


class ParzenDensity:
    """A mixture of categorical product kernels."""

    def __init__(self, observed: Choices, kernels: list[Floats]) -> None:
        """Prepares the density.

        Args:
            observed: designs (N, parameters), each the centre of a kernel.
            kernels: for each parameter the shares (K, K) that a centre gives to each choice; rows sum to 1.
        """
        self.observed = observed
        prior = PRIOR_WEIGHT / (len(observed) + 1)
        self._rows = [_with_prior(kernel, prior)[observed[:, column]] for column, kernel in enumerate(kernels)]
        self._uniform = -sum(math.log(len(kernel)) for kernel in kernels)

    def draw(self, designs: int, generator: np.random.Generator) -> Choices:
        """Returns designs drawn from the density."""
        centre = generator.integers(len(self.observed) + 1, size=designs)
        drawn = np.empty((designs, len(self._rows)), dtype=np.int16)
        for column, rows in enumerate(self._rows):
            shares = np.vstack([rows, np.full((1, rows.shape[1]), 1 / rows.shape[1])])
            reached = np.cumsum(shares, axis=1)[centre]
            places = (reached < generator.random((designs, 1))).sum(axis=1)
            drawn[:, column] = np.minimum(places, rows.shape[1] - 1)  # a sum of shares may end just below 1
        return drawn

    def log_density(self, choices: Choices) -> Floats:
        """Returns the logarithm of the density at designs (M, parameters), as (M,)."""
        total = np.zeros((len(self.observed), len(choices)))
        for column, rows in enumerate(self._rows):
            total += np.log(rows)[:, choices[:, column]]
        total = np.vstack([total, np.full((1, len(choices)), self._uniform)])
        largest = total.max(axis=0)
        found: Floats = largest + np.log(np.exp(total - largest).mean(axis=0))
        return found


class ParzenEstimator:
    """The good designs' density and the rest's."""

    def __init__(self, space: SearchSpace, choices: Choices, accuracies: Floats) -> None:
        """Splits what was trained.

        Args:
            space: of the choices.
            choices: canonical choices (N, parameters) of trained designs, the oldest first.
            accuracies: of each, the larger the better.
        """
        kernels = [_kernel(name, len(item.choices)) for name, item in space.distributions.items()]
        order = np.argsort(-accuracies, kind="stable")
        good = min(MOST_GOOD, math.ceil(GOOD_SHARE * len(order)))
        rest = np.sort(order[good:])[-MOST_REST:]
        self.good = ParzenDensity(choices[order[:good]], kernels)
        self.rest = ParzenDensity(choices[rest], kernels)

    def draw(self, designs: int, generator: np.random.Generator) -> Choices:
        """Returns designs drawn from the density of the good."""
        return self.good.draw(designs, generator)

    def score(self, choices: Choices) -> Floats:
        """Returns how promising designs (M, parameters) are: the logarithm of the densities' ratio."""
        return self.good.log_density(choices) - self.rest.log_density(choices)


def _with_prior(kernel: Floats, weight: float) -> Floats:
    """Returns a kernel mixed with the uniform one, which is what few observations should be believed less than."""
    mixed = kernel + weight / len(kernel)
    found: Floats = mixed / mixed.sum(axis=1, keepdims=True)
    return found


def _kernel(name: str, count: int) -> Floats:
    """Returns how a centre's weight goes to the choices: only its own, or less and less with their distance."""
    near = np.exp(-count_steps(name, count) / _SPREAD)
    found: Floats = near / near.sum(axis=1, keepdims=True)
    return found
