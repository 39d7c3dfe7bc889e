"""The next generation of a multi-objective evolution [Deb2002nsga2]: more accuracy, less memory.

Parents are drawn by tournament among the trained designs: the better front wins, on the same front the less crowded.
A child takes each field from one of two parents, and a few fields anew.

[Deb2002nsga2] K. Deb et al., A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II, IEEE TEC 2002.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from repnet_search.search.batch import Choices

POPULATION = 50

Floats = NDArray[np.float64]


def breed(
    choices: Choices,
    objectives: Floats,
    *,
    counts: NDArray[np.int64],
    children: int,
    generator: np.random.Generator,
) -> Choices:
    """Returns children of the best designs.

    Args:
        choices: trained designs (N, parameters).
        objectives: (N, 2), both to be small.
        counts: choices of each parameter.
        children: how many.
        generator: of the draws.
    """
    front = rank_fronts(objectives)
    crowding = measure_crowding(objectives, front)
    best = np.lexsort((-crowding, front))[:POPULATION]
    # `best` is sorted, so the smaller place wins a tournament.
    mother, father = generator.integers(len(best), size=(2, 2, children)).min(axis=0)
    from_mother = generator.random((children, choices.shape[1])) < 0.5
    found = np.where(from_mother, choices[best[mother]], choices[best[father]])
    mutated = generator.random(found.shape) < 1 / found.shape[1]
    return np.where(mutated, generator.integers(counts, size=found.shape), found).astype(np.int16)


def rank_fronts(objectives: Floats) -> NDArray[np.int64]:
    """Returns the number of each design's front (N,): 0 where no design beats it in all objectives (N, K)."""
    no_worse = (objectives[:, None] <= objectives).all(axis=2)
    beats = np.logical_and(no_worse, (objectives[:, None] < objectives).any(axis=2))
    front = np.full(len(objectives), -1)
    number = 0
    while (front < 0).any():
        left = front < 0
        front[left & ~beats[left].any(axis=0)] = number
        number += 1
    return front


def measure_crowding(objectives: Floats, front: NDArray[np.int64]) -> Floats:
    """Returns the distance of each design to its neighbours on its front, in shares of the front's extent (N,)."""
    crowding = np.zeros(len(objectives))
    for number in range(front.max(initial=-1) + 1):
        members = np.flatnonzero(front == number)
        for values in objectives[members].T:
            order = np.argsort(values, kind="stable")
            extent = values[order[-1]] - values[order[0]] or 1.0
            crowding[members[order[[0, -1]]]] = np.inf
            crowding[members[order[1:-1]]] += (values[order[2:]] - values[order[:-2]]) / extent
    return crowding
