"""What a space holds under a budget, before anything is trained.

Memory is the lower bound of the placed arena, which nearly every design reaches (memory/arena.py). Regions of RAM are
beyond tables: how many designs go into them is tried on some that fit in the sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from repnet_search.memory import check_fit, explain_memory
from repnet_search.search.batch import Choices, SpaceMemory, SpaceSample
from repnet_search.search.fitting import NEVER, FittingDesigns, Score
from repnet_search.search.space import Choice
from repnet_search.spec.target import DeviceLimits

BINS = 14
PLACED_DESIGNS = 200
"""Of the designs that fit in the sum of RAM, so many are placed into its regions."""


@dataclass(frozen=True, slots=True)
class Extreme:
    """A design at an end of the space: what it takes, and its parameter values."""

    ram_bytes: int
    params: dict[str, Choice]


@dataclass(frozen=True, slots=True)
class Driver:
    """How much of the memory's variance a field explains, and for each of its choices (mean bytes, share that fits)."""

    field: str
    explained: float
    choices: tuple[tuple[Choice, float, float], ...]


@dataclass(frozen=True, slots=True)
class SpaceProfile:
    """A space under a budget.

    Args:
        budget_bytes: the budget.
        flash_bytes: the limit of flash; None where there is none.
        combinations: sets of parameter values in the space; several may mean the same design.
        measured: how many of them were measured.
        exact: whether these are all.
        fitting_share: the share of the measured that fits, in RAM and flash.
        share_error: its standard error; 0 where exact.
        placed_share: the share of those that fit for which the regions of RAM have room, from up to `PLACED_DESIGNS`;
            None where RAM is one piece, or nothing fits.
        smallest: the least design of all: the last layer alone at its cheapest.
        tightest: the least design with a connector; a budget below it finds nothing but the last layer. None where no
            design has one.
        largest: the largest design; where the space is sampled, the largest that climbing from the samples found.
        edges_bytes: of the histogram, ascending, one more than counts; a bin holds what is below its upper edge, and
            one edge lies just above the budget.
        counts: designs of each bin.
        drivers: the fields, the one that explains most first.
    """

    budget_bytes: int
    flash_bytes: int | None
    combinations: int
    measured: int
    exact: bool
    fitting_share: float
    share_error: float
    placed_share: float | None
    smallest: Extreme
    tightest: Extreme | None
    largest: Extreme
    edges_bytes: tuple[int, ...]
    counts: tuple[int, ...]
    drivers: tuple[Driver, ...]


def profile_space(memory: SpaceMemory, *, limits: DeviceLimits, samples: int, seed: int) -> SpaceProfile:
    """Returns what a space holds under a budget.

    Args:
        memory: the space's memory.
        limits: of the device.
        samples: designs drawn where the space is too large to count.
        seed: of the samples.
    """
    fitting = FittingDesigns(memory, limits)
    exact = fitting.is_countable
    sample = _measure_all(memory) if exact else memory.sample(samples, seed=seed)
    fits = fitting.fits(sample)
    share = float(fits.mean())
    # Without connectors every choice that is about them has no effect, so the least design is easily found from there.
    smallest = _extreme(fitting, sample, lambda found: -found.ram_bytes)
    tightest = _extreme(fitting, sample, lambda found: np.where(_has_connector(memory, found), -found.ram_bytes, NEVER))
    edges = _edges(sample, limits.ram_bytes)
    counts, _ = np.histogram(sample.ram_bytes, edges)
    return SpaceProfile(
        budget_bytes=limits.ram_bytes,
        flash_bytes=limits.flash_bytes,
        combinations=memory.space.combinations,
        measured=len(sample),
        exact=exact,
        fitting_share=share,
        share_error=0.0 if exact else (share * (1 - share) / len(sample)) ** 0.5,
        placed_share=_placed_share(memory, sample.choices[fits], limits, seed) if limits.regions else None,
        smallest=smallest,
        tightest=tightest if memory.space.stages else None,
        largest=_extreme(fitting, sample, lambda found: found.ram_bytes),
        edges_bytes=tuple(edges),
        counts=tuple(int(count) for count in counts),
        drivers=_drivers(memory, sample, fits),
    )


def _placed_share(memory: SpaceMemory, fitting: Choices, limits: DeviceLimits, seed: int) -> float | None:
    """Returns how many of some designs go into the regions of RAM; None where there is no design."""
    if not len(fitting):
        return None
    count = min(PLACED_DESIGNS, len(fitting))
    drawn = np.random.default_rng(seed).choice(len(fitting), size=count, replace=False)
    designs = (memory.space.design(memory.params(choices)) for choices in fitting[drawn])
    explained = (
        explain_memory(d, classes=memory.classes, batch=memory.batch, schedule=memory.schedule) for d in designs
    )
    return sum(check_fit(item, limits).fits for item in explained) / count


def _edges(sample: SpaceSample, budget_bytes: int) -> list[int]:
    """Returns the edges of about `BINS` bins of equal ratio that hold all of the sample; the budget is one of them."""
    least, most = int(sample.ram_bytes.min()), int(sample.ram_bytes.max()) + 1
    ratio = max(most / least, 1.01) ** (1 / BINS)
    first = math.floor(math.log(least / budget_bytes, ratio))
    last = math.ceil(math.log(most / budget_bytes, ratio))
    # a design that takes the budget exactly fits: it belongs below the edge
    return [math.ceil(budget_bytes * ratio**step) + 1 for step in range(first, last + 1)]


def _measure_all(memory: SpaceMemory) -> SpaceSample:
    choices = np.concatenate([piece.choices for piece in memory.enumerate_all()])
    return memory.measure(choices)


def _has_connector(memory: SpaceMemory, sample: SpaceSample) -> NDArray[np.bool_]:
    """Returns for each design whether one of its stages has a connector; the first choice of a stage is none."""
    stages = [index for index, name in enumerate(memory.names) if name.startswith("stage_")]
    has: NDArray[np.bool_] = np.any(sample.choices[:, stages] > 0, axis=1)
    return has


def _extreme(fitting: FittingDesigns, sample: SpaceSample, score: Score) -> Extreme:
    found = fitting.climb(sample, score)
    return Extreme(int(found.ram_bytes[0]), fitting.memory.params(found.choices[0]))


def _drivers(memory: SpaceMemory, sample: SpaceSample, fits: NDArray[np.bool_]) -> tuple[Driver, ...]:
    """Returns each field's correlation ratio: the variance of the logarithm between its choices over the whole."""
    logarithms = np.log(sample.ram_bytes)
    variance = float(logarithms.var())
    drivers = []
    for column, (name, item) in enumerate(memory.space.distributions.items()):
        chosen = sample.choices[:, column]
        counts = np.maximum(np.bincount(chosen, minlength=len(item.choices)), 1)
        means = np.bincount(chosen, logarithms, len(item.choices)) / counts
        between = float((counts * (means - logarithms.mean()) ** 2).sum()) / len(sample)
        sizes = np.bincount(chosen, sample.ram_bytes, len(item.choices)) / counts
        shares = np.bincount(chosen, fits, len(item.choices)) / counts
        choices = tuple(zip(item.choices, map(float, sizes), map(float, shares), strict=True))
        drivers.append(Driver(name, between / variance if variance else 0.0, choices))
    return tuple(sorted(drivers, key=lambda driver: -driver.explained))
