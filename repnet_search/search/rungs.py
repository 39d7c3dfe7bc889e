"""Which trainings are not worth going on with: successive halving, asynchronously [Li2020asha], by stratum of memory.

At a rung a design is compared with those of its stratum that came to the same rung: one that needs half the memory is
not to be judged by what twice as much buys. Where its accuracy is not among the best share, it is stopped.

[Li2020asha] L. Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

STRATUM_SHARES = (0.5, 0.75)
"""Of the budget: where one stratum of memory ends and the next begins."""

FEWEST_PEERS = 3
"""With fewer to compare with, every design goes on."""


def rung_epochs(epochs: int, *, reduction: int) -> tuple[int, ...]:
    """Returns after which epochs a training of `epochs` is looked at: a share of 1/reduction, and of its square."""
    found = {round(epochs / reduction**power) for power in (2, 1)}
    return tuple(sorted(epoch for epoch in found if 1 <= epoch < epochs))


def find_stratum(ram_bytes: int, *, budget_bytes: int) -> int:
    """Returns the number of a design's stratum of memory."""
    return bisect_left([share * budget_bytes for share in STRATUM_SHARES], ram_bytes)


def goes_on(accuracy: float, peers: Sequence[float], *, reduction: int) -> bool:
    """Returns whether a design is among the best 1/reduction at its rung.

    Args:
        accuracy: of the design.
        peers: of the designs of its stratum that came to this rung before it.
        reduction: of how many one goes on.
    """
    if len(peers) < FEWEST_PEERS:
        return True
    better = sum(peer > accuracy for peer in peers)
    return better < math.ceil((len(peers) + 1) / reduction)
