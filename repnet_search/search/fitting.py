"""The designs of a space that fit a device: told apart, drawn and climbed by the batch, without building any.

Memory is the lower bound of the placed arena, which nearly every design reaches (memory/arena.py); flash is exact.
Regions of RAM are beyond tables. Who takes a design from here asks its exact fit (`FeasibleSpace.candidate`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from repnet_search.errors import UsageError
from repnet_search.graph.tape import FLOAT_BYTES
from repnet_search.memory import estimate_flash
from repnet_search.memory.batch import Integers
from repnet_search.memory.flash import TRAINED_COPIES
from repnet_search.search.batch import Choices, SpaceMemory, SpaceSample
from repnet_search.search.space import Choice
from repnet_search.spec.table import get_table
from repnet_search.spec.target import DeviceLimits

FIRST_DRAW = 1 << 12
LARGEST_DRAW = 1 << 18
MOST_DRAWN = 1 << 20
"""So many designs are drawn at most; where still too few of them fit, those that do are walked away from."""

COUNTED_COMBINATIONS = 1 << 21
"""Up to so many combinations are all counted; larger spaces are sampled."""

LISTED_COMBINATIONS = 1 << 17
"""Up to so many are listed once, which takes as long as a few draws, and then drawn from the list."""

WALK_CHAINS = 512
WALK_STEPS = 200

Score = Callable[[SpaceSample], Integers]
"""What of a batch is to be large, by design."""

NEVER = -(1 << 60)
"""The score of what must not be chosen."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Designs that fit; how many were looked at to find them, and how many of those were over the limits."""

    sample: SpaceSample
    seen: int
    over: int

    def __len__(self) -> int:
        """Returns the number of designs that fit."""
        return len(self.sample)


class FittingDesigns:
    """A space under the limits of a device."""

    def __init__(self, memory: SpaceMemory, limits: DeviceLimits) -> None:
        self.memory = memory
        self.limits = limits

    def fits(self, sample: SpaceSample, *, limit_bytes: int | None = None) -> NDArray[np.bool_]:
        """Returns for each design whether it fits in RAM and flash; a limit replaces the RAM."""
        fits: NDArray[np.bool_] = sample.ram_bytes <= (self.limits.ram_bytes if limit_bytes is None else limit_bytes)
        if self.limits.flash_bytes is not None:
            fits = fits & (self.flash_bytes(sample) <= self.limits.flash_bytes)
        return fits

    def flash_bytes(self, sample: SpaceSample) -> Integers:
        """Returns what each design takes in flash."""
        width = self.memory.width(sample.choices)
        bits, bias = (self.memory.column(sample.choices, name) for name in ("activation_bits", "train_bias"))
        trained = sample.memory.trainable_parameters + sample.memory.norm_state_elements
        found: Integers = self._frozen_bytes[width, bits, bias] + trained * (FLOAT_BYTES * TRAINED_COPIES)
        return found

    @cached_property
    def _frozen_bytes(self) -> Integers:
        """What the backbone takes in flash, by its width, its bits and whether its biases train."""
        space = self.memory.space
        bits_and_bias = [(bits, bias) for bits in space.spec.activation_bits for bias in space.spec.train_bias]
        found = [
            estimate_flash(table, activation_bits=bits, train_bias=bias, trained_elements=0).total_bytes
            for table in map(get_table, space.backbones)
            for bits, bias in bits_and_bias
        ]
        return np.array(found).reshape(len(space.backbones), len(space.spec.activation_bits), -1)

    def draw(
        self,
        designs: int,
        *,
        seed: int | tuple[int, ...],
        limit_bytes: int | None = None,
        fixed: Mapping[str, Choice] | None = None,
    ) -> Drawn:
        """Returns uniform draws of the combinations that fit: draws of the whole space, those over a limit left out.

        Where fewer than one in `MOST_DRAWN` fit, what a random walk inside the limits reaches stands for the rest; its
        steps change one field and are taken wherever they end inside, so it is uniform in the long run. A small space
        is listed, and drawn from exactly.

        Args:
            designs: how many are wanted; fewer come where there are no more.
            seed: of the draws.
            limit_bytes: training memory, where it is less than the device's RAM.
            fixed: values that are not drawn.
        """
        generator = np.random.default_rng(seed)
        if self.memory.space.combinations <= LISTED_COMBINATIONS:
            return self._draw_listed(designs, generator, limit_bytes, fixed)
        pieces: list[SpaceSample] = []
        seen, found, size = 0, 0, max(FIRST_DRAW, designs)
        while found < designs and seen < MOST_DRAWN:
            drawn = self.memory.measure(self._uniform(size, generator, fixed))
            fitting = drawn.select(self.fits(drawn, limit_bytes=limit_bytes))
            pieces.append(fitting)
            seen, found, size = seen + size, found + len(fitting), min(4 * size, LARGEST_DRAW)
        sample = SpaceSample.join(pieces)
        if found < designs:
            sample = SpaceSample.join([sample, self._walk(sample, generator, limit_bytes, fixed)])
        return Drawn(sample.select(np.arange(min(designs, len(sample)))), seen, seen - found)

    def measure_share(self, *, samples: int, seed: int) -> tuple[float, float]:
        """Returns the share of parameter combinations that fit and its standard error, from uniform samples."""
        share = float(self.fits(self.memory.sample(samples, seed=seed)).mean())
        return share, (share * (1 - share) / samples) ** 0.5

    @property
    def is_countable(self) -> bool:
        """Whether the space is small enough to list all of it."""
        return self.memory.space.combinations <= COUNTED_COMBINATIONS

    def list_all(self) -> Choices:
        """Returns every combination that fits; raises as `check_countable`."""
        self.check_countable()
        return np.concatenate([piece.choices[self.fits(piece)] for piece in self.memory.enumerate_all()])

    def check_countable(self) -> None:
        """Makes sure that the space can be listed.

        Raises:
            UsageError: it has too many combinations.
        """
        if not self.is_countable:
            raise UsageError(
                f"The sampler 'exhaustive' is for spaces of at most {COUNTED_COMBINATIONS} combinations, but this one "
                f"has {self.memory.space.combinations:.3g}; use another sampler, or list fewer choices in the space."
            )

    def around(self, choices: Choices) -> SpaceSample:
        """Returns the designs with one field of a design changed, in every way, whether or not they fit."""
        counts = self.memory.counts
        columns = np.repeat(np.arange(len(choices)), counts)
        changed = np.tile(choices, (len(columns), 1))
        changed[np.arange(len(columns)), columns] = np.concatenate([np.arange(count) for count in counts])
        return self.memory.measure(changed[(changed != choices).any(1)])

    def climb(self, start: SpaceSample, score: Score) -> SpaceSample:
        """Returns the best design of a sample, improved one field at a time until no single change helps."""
        best = start.select(np.array([score(start).argmax()]))
        while True:
            around = SpaceSample.join([best, self.around(best.choices[0])])
            place = int(score(around).argmax())  # the first of equals: the design that there is
            if place == 0:
                return best
            best = around.select(np.array([place]))

    @cached_property
    def _listed(self) -> SpaceSample:
        """Every combination of a small space."""
        return SpaceSample.join(list(self.memory.enumerate_all()))

    def _draw_listed(
        self,
        designs: int,
        generator: np.random.Generator,
        limit_bytes: int | None,
        fixed: Mapping[str, Choice] | None,
    ) -> Drawn:
        listed = self._listed
        held = np.ones(len(listed), dtype=np.bool_)
        for name, value in (fixed or {}).items():
            held &= self.memory.column(listed.choices, name) == self.memory.place(name, value)
        inside = np.flatnonzero(held & self.fits(listed, limit_bytes=limit_bytes))
        chosen = inside[generator.integers(len(inside), size=designs)] if len(inside) else inside
        return Drawn(listed.select(chosen), int(held.sum()), int(held.sum()) - len(inside))

    def _uniform(self, size: int, generator: np.random.Generator, fixed: Mapping[str, Choice] | None) -> Choices:
        choices = self.memory.draw(size, seed=generator)
        for name, value in (fixed or {}).items():
            self.memory.column(choices, name)[:] = self.memory.place(name, value)
        return choices

    def _walk(
        self,
        found: SpaceSample,
        generator: np.random.Generator,
        limit_bytes: int | None,
        fixed: Mapping[str, Choice] | None,
    ) -> SpaceSample:
        """Returns where random walks inside the limits end."""
        starts = found if len(found) else self._least(self._uniform(FIRST_DRAW, generator, fixed), limit_bytes, fixed)
        if not len(starts):
            return starts
        chains = starts.select(generator.integers(len(starts), size=WALK_CHAINS))
        columns = np.flatnonzero(self._movable(fixed))
        for _ in range(WALK_STEPS):
            moved = chains.choices.copy()
            which = generator.choice(columns, size=WALK_CHAINS)
            moved[np.arange(WALK_CHAINS), which] = generator.integers(self.memory.counts[which])
            tried = self.memory.measure(moved)
            inside = self.fits(tried, limit_bytes=limit_bytes)
            both = SpaceSample.join([chains, tried])
            chains = both.select(np.arange(WALK_CHAINS) + WALK_CHAINS * inside)
        return chains

    def _least(self, choices: Choices, limit_bytes: int | None, fixed: Mapping[str, Choice] | None) -> SpaceSample:
        """Returns the design of least memory that climbing finds, or no design where even that does not fit."""
        held = ~self._movable(fixed)
        least = self.climb(
            self.memory.measure(choices),
            lambda sample: np.where((sample.choices[:, held] == choices[0, held]).all(1), -sample.ram_bytes, NEVER),
        )
        return least.select(self.fits(least, limit_bytes=limit_bytes))

    def _movable(self, fixed: Mapping[str, Choice] | None) -> NDArray[np.bool_]:
        return np.array([name not in (fixed or {}) for name in self.memory.names])
