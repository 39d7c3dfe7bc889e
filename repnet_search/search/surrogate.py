"""A Gaussian process over designs [Snoek2012practical]: what an untrained design would reach, and how sure that is.

Two designs are alike by the fields that they share; fields with an order by how far apart their choices are. Beside the
choices it sees the training memory and the trained parameters, which sum up much of a design. One length and one share
of noise, both by their likelihood from a few values: a study has some dozens of trainings, whose accuracies differ by
points only because of their seeds and of which images validate.

[Snoek2012practical] J. Snoek et al., Practical Bayesian Optimization of Machine Learning Algorithms, NeurIPS 2012.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from repnet_search.search.batch import Choices, SpaceSample
from repnet_search.search.fields import count_steps
from repnet_search.search.space import SearchSpace

Floats = NDArray[np.float64]

_LENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0)
_NOISES = (0.05, 0.2, 0.5, 1.0, 2.0)
_ORDERED_WEIGHT = 0.75
_SIZE_WEIGHT = 2.0
"""Memory and parameters each count like so many fields whose choices are an octave apart."""


class DesignFeatures(NamedTuple):
    """What the process sees: choices (N, parameters), and the logarithms of memory and parameters (N, 2)."""

    choices: Choices
    sizes: Floats


def describe_sample(sample: SpaceSample) -> DesignFeatures:
    """Returns the features of designs whose memory is known."""
    sizes = np.stack([sample.ram_bytes, sample.memory.trainable_parameters], axis=1)
    return DesignFeatures(sample.choices, np.log2(sizes))


class GaussianProcess:
    """The process, conditioned on what was trained."""

    def __init__(self, space: SearchSpace, observed: DesignFeatures, accuracies: Floats) -> None:
        """Conditions the process.

        Args:
            space: of the choices.
            observed: features of N designs.
            accuracies: of each.
        """
        self._tables = [_distances(name, len(item.choices)) for name, item in space.distributions.items()]
        self._observed = observed
        self._mean, self._scale = float(accuracies.mean()), float(accuracies.std()) or 1.0
        targets = (accuracies - self._mean) / self._scale
        distances = self._distance(observed, observed)
        fits = [_fit(distances, targets, length, noise) for length in _LENGTHS for noise in _NOISES]
        self._fit = max(fits, key=lambda fit: fit.likelihood)

    def predict(self, features: DesignFeatures) -> tuple[Floats, Floats]:
        """Returns the mean accuracy and its standard deviation, without the noise of a training, of M designs."""
        kernel = np.exp(-self._distance(features, self._observed) / self._fit.length)
        mean = kernel @ self._fit.weights
        solved = np.linalg.solve(self._fit.cholesky, kernel.T)
        variance = np.maximum(1.0 - (solved**2).sum(axis=0), 1e-9) / (1 + self._fit.noise)
        return self._mean + self._scale * mean, self._scale * np.sqrt(variance)

    def expected_improvement(self, features: DesignFeatures, *, best: float) -> Floats:
        """Returns by how much M designs are expected to beat an accuracy."""
        mean, deviation = self.predict(features)
        ahead = (mean - best) / deviation
        found: Floats = deviation * (ahead * _normal_share(ahead) + np.exp(-(ahead**2) / 2) / math.sqrt(2 * math.pi))
        return found

    def _distance(self, one: DesignFeatures, other: DesignFeatures) -> Floats:
        """Returns how far apart designs are (M, N), in fields."""
        total = np.zeros((len(one.choices), len(other.choices)))
        for column, table in enumerate(self._tables):
            total += table[one.choices[:, column][:, None], other.choices[:, column]]
        apart = np.abs(one.sizes[:, None] - other.sizes)
        found: Floats = total + _SIZE_WEIGHT * apart.sum(axis=2)
        return found


def create_process(space: SearchSpace, features: DesignFeatures, accuracies: Floats) -> GaussianProcess:
    """Returns the process of what was trained.

    What still trains (NaN) counts as what is expected of it, so that a second worker looks elsewhere; what was stopped
    (-inf) as the least accuracy of those that were not.
    """
    running = np.isnan(accuracies)
    known = np.where(np.isneginf(accuracies), accuracies[np.isfinite(accuracies)].min(), accuracies)
    ended = DesignFeatures(features.choices[~running], features.sizes[~running])
    process = GaussianProcess(space, ended, known[~running])
    if not running.any():
        return process
    expected, _ = process.predict(features)
    return GaussianProcess(space, features, np.where(running, expected, known))


class _Fit(NamedTuple):
    length: float
    noise: float
    cholesky: Floats
    weights: Floats
    likelihood: float


def _fit(distances: Floats, targets: Floats, length: float, noise: float) -> _Fit:
    kernel = np.exp(-distances / length) + noise * np.eye(len(targets))
    # The variance of an observation is 1.
    cholesky = np.asarray(np.linalg.cholesky(kernel / (1 + noise)), dtype=np.float64)
    solved = np.linalg.solve(cholesky, targets)
    likelihood = -0.5 * float(solved @ solved) - float(np.log(np.diag(cholesky)).sum())
    weights = np.linalg.solve(cholesky.T, solved) / (1 + noise)
    return _Fit(length, noise, cholesky * math.sqrt(1 + noise), weights, likelihood)


def _normal_share(values: Floats) -> Floats:
    """Returns the share of a normal distribution below values."""
    found: Floats = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in values])
    return found


def _distances(name: str, count: int) -> Floats:
    """Returns how far apart two choices of a field are: a whole field where they have no order, else a part of it."""
    steps = count_steps(name, count)
    found: Floats = np.where(np.isfinite(steps), steps / max(1, count - 1) * _ORDERED_WEIGHT, 1.0)
    return found
