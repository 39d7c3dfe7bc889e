"""The samplers: from what was trained to the designs that are worth training next, all of them within the limits.

Every sampler looks at a batch of designs, whose memory the tables know in milliseconds, and orders those that fit. None
of them is asked again and again until something fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from repnet_search.memory.batch import Integers
from repnet_search.search.batch import Choices
from repnet_search.search.canonical import CanonicalChoices
from repnet_search.search.evolution import breed
from repnet_search.search.fitting import FittingDesigns
from repnet_search.search.parzen import ParzenEstimator
from repnet_search.search.surrogate import create_process, describe_sample
from repnet_search.spec.study import Sampler

LOOKED_AT = 2048
"""Designs that a model draws for one proposal, to find those that fit."""

COMPARED = 96
"""Of those that fit, so many are compared: more follow the model into the corners of the space."""

SHORTLIST = 24
"""Of these, so many are ranked by what a Gaussian process expects of them."""

MODELLED = 64
"""The process learns from so many of the best designs and so many of the latest: it costs their cube."""

DRAWN = 64

Floats = NDArray[np.float64]
Seed = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class History:
    """What a study has trained or trains just now, the oldest first.

    Args:
        choices: canonical choices (N, parameters).
        accuracies: of each; NaN while it trains, -inf if it was stopped.
        ram_bytes: of each.
    """

    choices: Choices
    accuracies: Floats
    ram_bytes: Integers

    @property
    def trained(self) -> NDArray[np.bool_]:
        """Which of them have ended."""
        ended: NDArray[np.bool_] = np.isfinite(self.accuracies)
        return ended


class Suggestion(NamedTuple):
    """Choices of designs that fit, the one to train first; and those over the limits that ranked in front of it.

    `seen` were looked at, of which `over` were over the limits.
    """

    fitting: Choices
    cut: Choices
    seen: int
    over: int


class DesignSampler:
    """One of the samplers on one space."""

    def __init__(self, sampler: Sampler, fitting: FittingDesigns) -> None:
        self.sampler = sampler
        self.fitting = fitting
        self.canonical = CanonicalChoices(fitting.memory.space)

    def suggest(self, history: History, *, seed: Seed, limit_bytes: int | None = None) -> Suggestion:
        """Returns the next designs of the sampler.

        Args:
            history: what it learns from.
            seed: of its draws, the study's first.
            limit_bytes: training memory, where it is to be less than the device's RAM.

        Raises:
            UsageError: the sampler is exhaustive, and the space too large for it.
        """
        if self.sampler is Sampler.EXHAUSTIVE:
            return self.list_all(seed=seed[0])
        if self.sampler is Sampler.RANDOM or not history.trained.any():
            return self.draw(seed=seed, limit_bytes=limit_bytes)
        generator = np.random.default_rng([*seed, 2])
        if self.sampler is Sampler.NSGA2:
            return self._evolve(history, generator, seed, limit_bytes)
        return self._model(history, generator, seed, limit_bytes)

    def draw(self, *, seed: Seed, limit_bytes: int | None = None) -> Suggestion:
        """Returns uniform draws of what fits."""
        drawn = self.fitting.draw(DRAWN, seed=seed, limit_bytes=limit_bytes)
        choices = self.canonical(drawn.sample.choices)
        return Suggestion(choices, choices[:0], drawn.seen, drawn.over)

    def list_all(self, *, seed: int) -> Suggestion:
        """Returns all that fits, each design once, in an order that the study's seed decides.

        Raises:
            UsageError: the space is too large.
        """
        listed = self._all_fitting
        order = np.random.default_rng(seed).permutation(len(listed))
        return Suggestion(listed[order], listed[:0], len(listed), 0)

    @cached_property
    def _all_fitting(self) -> Choices:
        listed: Choices = np.unique(self.canonical(self.fitting.list_all()), axis=0)
        return listed

    def _evolve(
        self, history: History, generator: np.random.Generator, seed: Seed, limit_bytes: int | None
    ) -> Suggestion:
        ended = history.trained
        objectives = np.stack([-history.accuracies[ended], history.ram_bytes[ended].astype(np.float64)], axis=1)
        counts = self.fitting.memory.counts
        children = breed(history.choices[ended], objectives, counts=counts, children=LOOKED_AT, generator=generator)
        fitting = children[self.fitting.fits(self.fitting.memory.measure(children), limit_bytes=limit_bytes)]
        more = self.draw(seed=seed, limit_bytes=limit_bytes)
        found = np.concatenate([self.canonical(fitting), more.fitting])
        return Suggestion(found, found[:0], len(children), len(children) - len(fitting))

    def _model(
        self, history: History, generator: np.random.Generator, seed: Seed, limit_bytes: int | None
    ) -> Suggestion:
        """Returns what the Parzen estimator proposes, ranked by the process; and what they like but for the limits."""
        memory = self.fitting.memory
        within = history.ram_bytes <= (self.fitting.limits.ram_bytes if limit_bytes is None else limit_bytes)
        accuracies = history.accuracies
        if (within & history.trained).any():  # what is beyond a lower limit is no model of what is good within it
            accuracies = np.where(within, accuracies, -np.inf)
        model = ParzenEstimator(memory.space, history.choices, accuracies)
        drawn = self.canonical(model.draw(LOOKED_AT, generator))
        fits = self.fitting.fits(memory.measure(drawn), limit_bytes=limit_bytes)
        fitting, over = drawn[fits][:COMPARED], drawn[~fits][:COMPARED]
        if len(fitting) < COMPARED:
            fitting = np.concatenate([fitting, self.draw(seed=seed, limit_bytes=limit_bytes).fitting])
        fitting, over = (np.unique(item, axis=0) for item in (fitting, over))
        fitting, over = (_order(item, model.score(item))[:SHORTLIST] for item in (fitting, over))
        gain, cut_gain = self._expect_gain(history, accuracies, fitting, over)
        preferred = cut_gain > gain.max(initial=0.0)
        cut = _order(over[preferred], cut_gain[preferred])
        return Suggestion(_order(fitting, gain), cut, len(drawn), int((~fits).sum()))

    def _expect_gain(self, history: History, accuracies: Floats, *groups: Choices) -> list[Floats]:
        """Returns by how much each design of some groups is expected to improve on the best of the history.

        Args:
            history: what was trained.
            accuracies: of each, -inf of what is beyond the limit: it teaches, but is not to be improved on.
            groups: choices (M, parameters) each.
        """
        memory = self.fitting.memory
        best = np.argsort(-accuracies, kind="stable")[:MODELLED]  # NaN comes last
        known = np.union1d(best, np.arange(len(accuracies))[-MODELLED:])
        features = describe_sample(memory.measure(history.choices[known]))
        process = create_process(memory.space, features, history.accuracies[known])
        expected = np.where(np.isfinite(accuracies[known]), process.predict(features)[0], -np.inf)
        samples = [describe_sample(memory.measure(item)) for item in groups]
        return [process.expected_improvement(item, best=float(expected.max())) for item in samples]


def _order(choices: Choices, scores: Floats) -> Choices:
    """Returns designs by their scores, the highest first."""
    return choices[np.argsort(-scores, kind="stable")]
