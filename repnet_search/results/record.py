"""What is known of a trial once it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from repnet_search.spec.design import Design


class Outcome(StrEnum):
    """How a trial ended."""

    TRAINED = "trained"
    STOPPED = "stopped"
    OVER_BUDGET = "over budget"
    REPEATED = "repeated"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Cut off by its user or by a kill, which says nothing of the design: it is queued again."""
    RUNNING = "running"


class Origin(StrEnum):
    """Why a design was proposed."""

    LAST_LAYER = "last layer alone"
    WIDEST = "widest fitting"
    PAPER = "paper preset, scaled to fit"
    DENSEST = "densest fitting"
    WARM_START = "won in another study"
    SAMPLER = "sampler"
    STRATUM = "lower memory"
    FEASIBLE = "random feasible"


BASELINES = (Origin.LAST_LAYER,)
"""Origins that `--trials` does not count: they are there to compare with."""

ALWAYS_TRAINED = (*BASELINES, Origin.WIDEST, Origin.PAPER)
"""Origins whose trainings are never stopped at a rung: what every study is compared with."""


INTERRUPTED = "interrupted"
"""The reason of a trial that its user cut off."""


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """A trial: its design, its training memory in bytes, its validation accuracy in 0..1 where it was trained.

    `recorded` is the design, or its JSON where a study holds it: of ten thousand built designs hardly any would be
    looked at. Two records are compared by its id.
    """

    number: int
    outcome: Outcome
    origin: Origin
    recorded: Design | Mapping[str, Any] = field(compare=False)
    design_id: str
    ram_bytes: int
    terms: tuple[tuple[str, int], ...]
    trainable_parameters: int
    validation_accuracy: float | None = None
    losses: tuple[float, ...] = ()
    elapsed_seconds: float = 0.0
    reason: str = ""
    flash_bytes: int | None = None
    """Of the frozen backbone, code and trained weights; None in a study of an earlier version."""
    saturation: tuple[tuple[int, float], ...] = ()
    """Of an int8 backbone: the share of b that was clamped behind each writing connector, by its block."""
    seen: int = 0
    """Designs of which the sampler knew the memory when it chose this one."""
    over: int = 0
    """Of them, those over the limits."""

    @property
    def design(self) -> Design:
        """The design, built anew at each look where a study holds it."""
        return self.recorded if isinstance(self.recorded, Design) else Design.model_validate(self.recorded)

    @property
    def short_id(self) -> str:
        """The first eight characters of the design's id."""
        return self.design_id[:8]
