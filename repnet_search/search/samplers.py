"""The samplers: from what was trained to the designs that are worth training next, all of them within the limits.

Every sampler looks at a batch of designs, whose memory the tables know in milliseconds, and orders those that fit. None
of them is asked again and again until something fits.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from repnet_search.search.space import Choice
from repnet_search.search.surrogate import create_process, describe_sample
from repnet_search.spec.study import Sampler

LOOKED_AT = 2048
"""Designs that a model draws for one proposal, to find those that fit."""

COMPARED = 24
"""Of those that fit, so many are compared, as by Optuna's TPE: more follow the model into the corners of the space."""

DRAWN = 64
VARIED = 512
PARENTS = 4

Floats = NDArray[np.float64]
Seed = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class History:
    """What a study has trained or trains just now, the oldest first.

    Args:
        choices: canonical choices (N, parameters).
        accuracies: of each; -inf while it trains, so that a second worker looks elsewhere, or if it was stopped.
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
        if self.sampler is Sampler.GP:
            return self._improve(history, seed, limit_bytes)
        return self._model(history, generator, seed, limit_bytes)

    def draw(
        self, *, seed: Seed, limit_bytes: int | None = None, fixed: Mapping[str, Choice] | None = None
    ) -> Suggestion:
        """Returns uniform draws of what fits, with some values held."""
        drawn = self.fitting.draw(DRAWN, seed=seed, limit_bytes=limit_bytes, fixed=fixed)
        choices = self.canonical(drawn.sample.choices)
        return Suggestion(choices, choices[:0], drawn.seen, drawn.over)

    def vary(self, parents: Choices, *, seed: Seed, limit_bytes: int) -> Suggestion:
        """Returns what fits of the designs that differ from one of the parents (N, parameters) in one or two fields."""
        generator = np.random.default_rng([*seed, 3])
        counts = self.fitting.memory.counts
        varied = parents[generator.integers(len(parents), size=VARIED)]
        for _ in range(2):  # the second may hit the same field, or draw what is there
            columns = generator.integers(len(counts), size=VARIED)
            varied[np.arange(VARIED), columns] = generator.integers(counts[columns])
        varied = self.canonical(varied)
        fits = self.fitting.fits(self.fitting.memory.measure(varied), limit_bytes=limit_bytes)
        return Suggestion(varied[fits], varied[:0], VARIED, int((~fits).sum()))

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

    def _improve(self, history: History, seed: Seed, limit_bytes: int | None) -> Suggestion:
        """Returns what is expected to improve on the best: of draws, and of what is next to the best designs."""
        memory = self.fitting.memory
        features = describe_sample(memory.measure(history.choices))
        process = create_process(memory.space, features, history.accuracies)
        expected, _ = process.predict(features)
        budget_bytes = self.fitting.limits.ram_bytes if limit_bytes is None else limit_bytes
        within = history.ram_bytes <= budget_bytes
        ranked = np.argsort(-np.where(within & history.trained, expected, -np.inf), kind="stable")[:PARENTS]
        best = float(np.where(within & history.trained, expected, -np.inf).max())
        drawn = self.fitting.draw(LOOKED_AT // 4, seed=seed, limit_bytes=limit_bytes)
        varied = self.vary(history.choices[ranked], seed=seed, limit_bytes=budget_bytes)
        fitting = np.unique(np.concatenate([self.canonical(drawn.sample.choices), varied.fitting]), axis=0)
        if not len(fitting):
            return Suggestion(fitting, fitting, drawn.seen, drawn.over)
        gain = process.expected_improvement(describe_sample(memory.measure(fitting)), best=best)
        order = np.argsort(-gain, kind="stable")
        return Suggestion(fitting[order], fitting[:0], drawn.seen + varied.seen, drawn.over + varied.over)

    def _model(
        self, history: History, generator: np.random.Generator, seed: Seed, limit_bytes: int | None
    ) -> Suggestion:
        """Returns what the estimator ranks first, and what it would have liked but for the limits."""
        within = history.ram_bytes <= (self.fitting.limits.ram_bytes if limit_bytes is None else limit_bytes)
        accuracies = history.accuracies
        if (within & history.trained).any():  # what is beyond a lower limit is no model of what is good within it
            accuracies = np.where(within, accuracies, -np.inf)
        model = ParzenEstimator(self.fitting.memory.space, history.choices, accuracies)
        drawn = self.canonical(model.draw(LOOKED_AT, generator))
        fits = self.fitting.fits(self.fitting.memory.measure(drawn), limit_bytes=limit_bytes)
        fitting, over = drawn[fits][:COMPARED], drawn[~fits]
        if len(fitting) < COMPARED:
            fitting = np.concatenate([fitting, self.draw(seed=seed, limit_bytes=limit_bytes).fitting])
        scores, cut_scores = model.score(fitting), model.score(over[:COMPARED])
        order = np.argsort(-scores, kind="stable")
        cut = np.argsort(-cut_scores, kind="stable")
        preferred = cut[cut_scores[cut] > scores.max(initial=-np.inf)]
        return Suggestion(fitting[order], over[preferred], len(drawn), len(over))
