"""Means over seeds and shares of images, and how far they can be trusted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

_T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""Student's t at 95 %, two-sided, for 1, 2, … degrees of freedom."""
_NORMAL_95 = 1.96
"""The same for endlessly many, the normal distribution."""

INTERVAL_SEEDS = 3
"""Of fewer seeds no interval is shown: t of one degree of freedom is 12.7, an interval that says nothing."""


def mean_and_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns the mean and half the width of its 95 % interval (Student's t); None for one value alone."""
    if len(values) < 2:
        return statistics.mean(values), None
    freedom = len(values) - 1
    # Beyond the list by its first-order expansion, which is within 0.002 of the exact value there.
    t = _T_95[freedom - 1] if freedom <= len(_T_95) else _NORMAL_95 + 2.42 / freedom
    return statistics.mean(values), t * statistics.stdev(values) / math.sqrt(len(values))


def share_interval(share: float, *, count: int) -> tuple[float, float]:
    """Returns Wilson's 95 % interval of a share that was found among so many [Wilson1927].

    [Wilson1927] E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927).

    >>> low, high = share_interval(0.9, count=400)
    >>> round(low, 4), round(high, 4)
    (0.8667, 0.9257)
    """
    square = _NORMAL_95**2
    centre = (share + square / (2 * count)) / (1 + square / count)
    half = _NORMAL_95 * math.sqrt(share * (1 - share) / count + square / (4 * count**2)) / (1 + square / count)
    return max(0.0, centre - half), min(1.0, centre + half)
