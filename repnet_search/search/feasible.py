"""What of a space fits a device: exact memory per design, counted once; the designs that every study begins with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from repnet_search.errors import OverBudgetError, SpecError
from repnet_search.memory import (
    Fit,
    MemoryEstimate,
    check_backbone_fits,
    check_fit,
    explain_memory,
)
from repnet_search.memory.batch import Integers
from repnet_search.search.batch import SpaceMemory, SpaceSample
from repnet_search.search.fitting import NEVER, FittingDesigns
from repnet_search.search.space import Params, SearchSpace
from repnet_search.spec.design import Norm
from repnet_search.spec.resolve import ResolvedDesign, resolve
from repnet_search.spec.space import SpaceSpec
from repnet_search.spec.target import DeviceLimits, Schedule
from repnet_search.units import format_size

WIDEST_DRAWS = 2000
WIDEST_STARTS = 16
LEAST_USEFUL_SIDE = 16
"""Of an image, in pixels: fewer are no advice."""

WIDEST_MARGINS = (0.0, 0.01, 0.03, 0.1, 0.3)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A design of the space with its parameters, its memory, and how that stands to the device."""

    params: Params
    resolved: ResolvedDesign
    memory: MemoryEstimate
    fit: Fit


class FeasibleSpace:
    """A space on a device; memory is estimated once per design."""

    def __init__(
        self, space: SearchSpace, *, limits: DeviceLimits, classes: int, schedule: Schedule = Schedule.LAYER
    ) -> None:
        self.space = space
        self.limits = limits
        self.classes = classes
        self.schedule = schedule
        self.fitting = FittingDesigns(SpaceMemory(space, classes=classes, schedule=schedule), limits)
        self._known: dict[str, tuple[MemoryEstimate, Fit]] = {}

    def candidate(self, params: Params) -> Candidate:
        """Returns the design of a set of parameter values with its memory."""
        resolved = self.space.design(params)
        if resolved.id not in self._known:
            self._known[resolved.id] = self.estimate(resolved)
        return Candidate(params, resolved, *self._known[resolved.id])

    def estimate(self, resolved: ResolvedDesign, *, schedule: Schedule | None = None) -> tuple[MemoryEstimate, Fit]:
        """Returns a design's memory on the study's target, or in another schedule, and how it stands to the device."""
        explained = explain_memory(resolved, classes=self.classes, schedule=schedule or self.schedule)
        return explained.estimate, check_fit(explained, self.limits)

    def fits(self, candidate: Candidate) -> bool:
        """Returns whether the device can train a candidate."""
        return candidate.fit.fits

    def smallest(self) -> Candidate:
        """Returns the least design of the space: the last layer alone at its cheapest; what fits comes first."""
        candidates = (self.candidate(params) for params in self.space.last_layer())
        return min(candidates, key=lambda candidate: (not self.fits(candidate), candidate.memory.ram_bytes))

    def paper(self) -> Candidate | None:
        """Returns the paper's preset scaled to fit, None where no step of it fits."""
        return next((c for params in self.space.paper() if self.fits(c := self.candidate(params))), None)

    def densest(self) -> list[Candidate]:
        """Returns the plainest modules behind as many stages as fit, at the largest resolution, in every recipe.

        What takes the most memory is dropped first. Nothing where a single such module does not fit.
        """
        for params in self.space.dense():
            shapes = [params]
            while shapes:
                least = min(map(self.candidate, shapes), key=lambda candidate: candidate.memory.ram_bytes)
                found = [self.candidate(least.params | {"recipe": recipe}) for recipe in self.space.recipes]
                if least.resolved.modules and any(map(self.fits, found)):
                    return [candidate for candidate in found if self.fits(candidate)]
                shapes = self.space.drop_one(least.params)
        return []

    def widest(self, *, seed: int) -> Candidate:
        """Returns the design with the most trainable parameters that fits: draws that fit, then climbing by one field.

        The few designs whose placed arena is larger than its lower bound are climbed around with a margin.
        """
        starts = self.fitting.draw(WIDEST_DRAWS, seed=seed).sample
        starts = starts.select(np.argsort(-starts.memory.trainable_parameters, kind="stable")[:WIDEST_STARTS])
        for margin in WIDEST_MARGINS if len(starts) else ():
            candidate = self._climb_widest(starts, limit_bytes=int(self.limits.ram_bytes * (1 - margin)))
            if self.fits(candidate):
                return candidate
        return self.smallest()

    def _climb_widest(self, starts: SpaceSample, *, limit_bytes: int) -> Candidate:
        def score(sample: SpaceSample) -> Integers:
            fits = self.fitting.fits(sample, limit_bytes=limit_bytes)
            return np.where(fits, sample.memory.trainable_parameters, NEVER)

        tops = [self.fitting.climb(starts.select(np.array([place])), score) for place in range(len(starts))]
        top = max(tops, key=lambda found: int(score(found)[0]))
        return self.candidate(self.fitting.memory.params(top.choices[0]))

    def check_attainable(self) -> None:
        """Makes sure that the space can be trained and that something of it fits.

        Raises:
            SpecError: the space lists what this version cannot train.
            OverBudgetError: the least design of the space does not fit; says what it needs and what would help.
        """
        _check_trainable(self.space.spec)
        check_backbone_fits(
            self.space.backbones[0],
            activation_bits=self.space.spec.activation_bits,
            limits=self.limits,
            classes=self.classes,
        )
        least = self.smallest()
        if self.fits(least):
            return
        design, memory = least.resolved.design, least.memory
        width = f"width {design.backbone.width_mult:g}, " if len(self.space.backbones) > 1 else ""
        which = f"{width}{design.resolution} px, {_bits(design.activation_bits)}, last layer alone"
        if least.fit.ram_excess_bytes > 0:
            problem = (
                f"{format_size(self.limits.ram_bytes)} cannot hold any design of this space: the smallest needs "
                f"{format_size(memory.ram_bytes)} ({which}); largest part: {memory.peak_place}, "
                f"{format_size(memory.arena_bytes)}."
            )
        else:
            problem = f"The device cannot hold any design of this space: the smallest ({which}) {least.fit.problem}."
        raise OverBudgetError(problem + self._way_out(least.resolved))

    def _way_out(self, resolved: ResolvedDesign) -> str:
        """Returns what would make the last layer alone fit: int8, another schedule, both, or fewer pixels."""
        design = resolved.design
        changes = {"": resolved}
        if design.activation_bits == 32 and not resolved.table.has_smooth_parts:
            changes["--activation-bits 8"] = resolve(design.model_copy(update={"activation_bits": 8}))
        ways: list[str] = []
        for schedule in dict.fromkeys((self.schedule, Schedule.STREAMED)):
            for bits, changed in changes.items():
                other = f"--schedule {schedule.value}" if schedule is not self.schedule else ""
                memory, fit = self.estimate(changed, schedule=schedule)
                if fit.fits and not (bits and other and ways):  # both only where one is not enough
                    ways.append(f"{' with '.join(filter(None, (bits, other)))} ({format_size(memory.ram_bytes)})")
        sides = range(design.resolution - 8, LEAST_USEFUL_SIDE - 1, -8)
        smaller = (
            side for side in sides if self.estimate(resolve(design.model_copy(update={"resolution": side})))[1].fits
        )
        side = next(smaller, None)
        ways += [f"a resolution of at most {side}"] if side is not None else []
        return (
            f" Use {', '.join([*ways, 'or a larger budget'])}."
            if ways
            else " Use a larger budget or a smaller backbone."
        )


def _bits(activation_bits: int) -> str:
    return "int8" if activation_bits == 8 else "fp32"


def _check_trainable(space: SpaceSpec) -> None:
    """Refuses at once what `train_design` would refuse design by design."""
    if Norm.BATCH in space.module.norm:
        raise SpecError(
            "module.norm must not list batch, which couples the images of a batch: recipes train at micro-batch 1; use "
            "group or layer."
        )
