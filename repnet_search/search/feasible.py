"""What of a space fits a budget: exact memory per design, counted once, and samples of designs that fit."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from random import Random

from repnet_search.errors import OverBudgetError, SpecError
from repnet_search.memory import MemoryEstimate, estimate_lower_bound, estimate_memory
from repnet_search.search.space import Params, SearchSpace
from repnet_search.spec.design import Norm
from repnet_search.spec.resolve import ResolvedDesign, resolve
from repnet_search.spec.space import SpaceSpec
from repnet_search.spec.target import Schedule
from repnet_search.units import format_size

SAMPLE_TRIES = 3000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A design of the space with its parameters and its memory."""

    params: Params
    resolved: ResolvedDesign
    memory: MemoryEstimate


class FeasibleSpace:
    """A space under a budget; memory is estimated once per design."""

    def __init__(
        self, space: SearchSpace, *, budget_bytes: int, classes: int, schedule: Schedule = Schedule.LAYER
    ) -> None:
        self.space = space
        self.budget_bytes = budget_bytes
        self.classes = classes
        self.schedule = schedule
        self._estimates: dict[str, MemoryEstimate] = {}

    def candidate(self, params: Params) -> Candidate:
        """Returns the design of a set of parameter values with its memory."""
        resolved = self.space.design(params)
        memory = self._estimates.get(resolved.id)
        if memory is None:
            memory = self._estimates[resolved.id] = self.estimate(resolved)
        return Candidate(params, resolved, memory)

    def estimate(self, resolved: ResolvedDesign) -> MemoryEstimate:
        """Returns a design's memory on the study's target."""
        return estimate_memory(resolved, classes=self.classes, schedule=self.schedule)

    def _lower_bound(self, params: Params) -> int:
        return estimate_lower_bound(self.space.design(params), classes=self.classes, schedule=self.schedule)

    def fits(self, candidate: Candidate) -> bool:
        """Returns whether a candidate is within the budget."""
        return candidate.memory.ram_bytes <= self.budget_bytes

    def sample(
        self, random: Random, *, limit_bytes: int, seen: Collection[str], fixed: Params | None = None
    ) -> Candidate | None:
        """Returns a uniform sample of the designs within a limit, None where no try finds one.

        Args:
            random: what it is drawn from.
            limit_bytes: training memory that it may take.
            seen: ids that are not wanted.
            fixed: values that are not drawn.
        """
        for _ in range(SAMPLE_TRIES):
            params = self.space.sample(random) | (fixed or {})
            if self._lower_bound(params) <= limit_bytes:
                candidate = self.candidate(params)
                if candidate.memory.ram_bytes <= limit_bytes and candidate.resolved.id not in seen:
                    return candidate
        return None

    def measure_share(self, *, samples: int, seed: int) -> tuple[float, float]:
        """Returns the share of parameter combinations that fit and its standard error, from uniform samples."""
        random = Random(f"share {seed}")
        bounds = (self._lower_bound(self.space.sample(random)) for _ in range(samples))
        share = sum(bound <= self.budget_bytes for bound in bounds) / samples
        return share, (share * (1 - share) / samples) ** 0.5

    def smallest(self) -> Candidate:
        """Returns the least design of the space: the last layer alone at its cheapest resolution and recipe."""
        return min((self.candidate(params) for params in self.space.last_layer()), key=lambda c: c.memory.ram_bytes)

    def paper(self) -> Candidate | None:
        """Returns the paper's preset scaled to fit, None where no step of it fits."""
        return next((c for params in self.space.paper() if self.fits(c := self.candidate(params))), None)

    def widest(self, *, seed: int, samples: int = 400, steps: int = 300) -> Candidate:
        """Returns the design with the most trainable parameters that fits: samples, then hill climbing by one field."""
        random = Random(f"widest {seed}")
        best = self.smallest()
        for step in range(samples + steps):
            params = self.space.sample(random)
            if step >= samples:
                changed = random.sample(sorted(params), 2)
                params = best.params | {name: params[name] for name in changed}
            candidate = self.candidate(params)
            if self.fits(candidate) and candidate.memory.trainable_parameters > best.memory.trainable_parameters:
                best = candidate
        return best

    def check_attainable(self) -> None:
        """Makes sure that the space can be trained and that something of it fits.

        Raises:
            SpecError: the space lists what this version cannot train.
            OverBudgetError: the least design of the space is over the budget; says what it needs and what would help.
        """
        _check_trainable(self.space.spec)
        least = self.smallest()
        if self.fits(least):
            return
        design, memory = least.resolved.design, least.memory
        raise OverBudgetError(
            f"{format_size(self.budget_bytes)} cannot hold any design of this space: the smallest needs "
            f"{format_size(memory.ram_bytes)} ({design.resolution} px, {_bits(design.activation_bits)}, last layer "
            f"alone); largest part: {memory.peak_place}, {format_size(memory.arena_bytes)}."
            + self._way_out(least.resolved)
        )

    def _way_out(self, resolved: ResolvedDesign) -> str:
        """Returns the largest smaller resolution at which the last layer alone fits."""
        design = resolved.design
        for resolution in range(design.resolution - 8, 7, -8):
            smaller = resolve(design.model_copy(update={"resolution": resolution}))
            if self.estimate(smaller).ram_bytes <= self.budget_bytes:
                return f" Use a resolution of at most {resolution}, or a larger budget."
        return " Use a larger budget or a smaller backbone."


def _bits(activation_bits: int) -> str:
    return "int8" if activation_bits == 8 else "fp32"


def _check_trainable(space: SpaceSpec) -> None:
    """Refuses at once what `train_design` would refuse design by design."""
    if 8 in space.activation_bits:
        raise SpecError("This version can estimate activation_bits 8 but not train it; use activation_bits: [32].")
    if Norm.BATCH in space.module.norm:
        raise SpecError(
            "module.norm must not list batch, which couples the images of a batch: recipes train at micro-batch 1; use "
            "group or layer."
        )
