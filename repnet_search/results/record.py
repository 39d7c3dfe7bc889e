"""What is known of a trial once it has ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

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
    WARM_START = "won in another study"
    SAMPLER = "sampler"
    NEIGHBOUR = "near the best"
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
    """A trial: its design, its training memory in bytes, its validation accuracy in 0..1 where it was trained."""

    number: int
    outcome: Outcome
    origin: Origin
    design: Design
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
    def short_id(self) -> str:
        """The first eight characters of the design's id."""
        return self.design_id[:8]
