"""How alike two measurements rank designs, and what trusting one of them costs in the other.

Intervals are percentiles over resamples of the designs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
"""How often each design is in each resample (R, N)."""

Pair = tuple[Floats, Floats]
"""Scores of designs (N,), and the truth about them (N,)."""

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value of the designs that there are, and its 95 % interval; NaN where too few differ."""

    value: float
    low: float
    high: float

    def format(self, spec: str) -> str:
        """Returns "value (low to high)", all in one format; a dash where there is nothing to say."""
        if np.isnan(self.value):
            return "–"
        return f"{self.value:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


def kendall_tau(scores: Floats, truth: Floats, *, counts: Counts | None = None) -> Floats:
    """Returns Kendall's tau-b of each resample (R,), NaN where one of the two is constant; by default of all designs.

    The pairs that a design which is drawn twice makes with itself are ties in both, which tau-b leaves out.
    """
    if counts is None:
        counts = np.ones((1, len(scores)), dtype=np.int64)
    signs = [np.sign(values[:, None] - values[None, :]) for values in (scores, truth)]
    concordant = _weigh(signs[0] * signs[1], counts)
    untied = _weigh(signs[0] ** 2, counts) * _weigh(signs[1] ** 2, counts)
    found: Floats = np.full(len(counts), np.nan)
    np.divide(concordant, np.sqrt(untied), out=found, where=untied > 0)
    return found


def _weigh(pairs: Floats, counts: Counts) -> Floats:
    """Returns the sum over all pairs of designs (N, N), each as often as a resample has it (R,)."""
    found: Floats = ((counts @ pairs) * counts).sum(1)
    return found


def find_regret(scores: Floats, truth: Floats, memory: Floats, *, top: int, counts: Counts | None = None) -> Floats:
    """Returns how far the true best of the `top` designs by score is behind the true best of all, per resample (R,).

    Of equal scores the design of least memory goes first, as in a search.
    """
    if counts is None:
        counts = np.ones((1, len(scores)), dtype=np.int64)
    order = np.lexsort((memory, -scores))
    regrets = []
    for present in counts[:, order] > 0:
        ranked = truth[order][present]
        regrets.append(ranked.max() - ranked[:top].max())
    return np.array(regrets)


def estimate_tau(pairs: Sequence[Pair], *, seed: int = 0) -> Estimate:
    """Returns tau, the mean over pairs of scores and truth of the same designs."""
    return _estimate(lambda counts: [kendall_tau(*pair, counts=counts) for pair in pairs], len(pairs[0][0]), seed)


def estimate_regret(pairs: Sequence[Pair], memory: Floats, *, top: int, seed: int = 0) -> Estimate:
    """Returns the regret of the `top` designs by score, the mean over pairs of scores and truth of the same designs."""
    return _estimate(
        lambda counts: [find_regret(*pair, memory, top=top, counts=counts) for pair in pairs], len(memory), seed
    )


def _estimate(measure: Callable[[Counts], list[Floats]], designs: int, seed: int) -> Estimate:
    """Returns what is measured of all designs, and of resamples of them, each time the mean of what comes back."""
    value = float(np.mean(measure(np.ones((1, designs), dtype=np.int64))))
    drawn = np.random.default_rng(seed).multinomial(designs, np.full(designs, 1 / designs), size=RESAMPLES)
    found = np.mean(measure(drawn.astype(np.int64)), axis=0)
    found = found[~np.isnan(found)]
    low, high = np.percentile(found, (2.5, 97.5)) if len(found) else (np.nan, np.nan)
    return Estimate(value, float(low), float(high))
