"""How much better one design of a study is than another, and whether the numbers show that it is.

Of two confirmed designs each seed trained both on the same images, so that their difference seed by seed is free of
what the choice of images does to both: its interval may leave out zero where the intervals of the two overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from repnet_search.results.confirmation import Confirmation
from repnet_search.results.record import TrialRecord
from repnet_search.results.statistics import INTERVAL_SEEDS, mean_and_interval
from repnet_search.results.study import StudyView


@dataclass(frozen=True, slots=True)
class Gain:
    """How a design stands to another.

    Args:
        difference: of their accuracies on validation, in 0..1: positive where the first is better.
        seeds: that both were confirmed by at least; 0 where one was not, and the search's own trainings are compared.
        overlap: whether their 95 % intervals overlap, of two seeds their ranges; None of one training each.
        paired_half: half the 95 % interval of the difference over seeds; None where it has none.
    """

    difference: float
    seeds: int
    overlap: bool | None
    paired_half: float | None

    @property
    def is_shown(self) -> bool:
        """Whether the numbers show that the first is better."""
        if self.paired_half is not None:
            return self.difference > self.paired_half
        return self.seeds >= INTERVAL_SEEDS and self.overlap is False and self.difference > 0


def measure_gain(view: StudyView, record: TrialRecord, other: TrialRecord) -> Gain:
    """Returns how a design stands to another: by their confirmations where both have one, else by the search."""
    first, second = (view.confirmed.get(item.design_id) for item in (record, other))
    if first is None or second is None:
        return Gain((record.validation_accuracy or 0.0) - (other.validation_accuracy or 0.0), 0, None, None)
    seeds = min(len(first.runs), len(second.runs))
    overlap = _overlap(first.validation_accuracies, second.validation_accuracies) if seeds > 1 else None
    difference = first.validation[0] - second.validation[0]
    return Gain(difference, seeds, overlap, _paired_half(first, second))


def describe_gain(gain: Gain) -> Iterator[str]:
    """Yields whether the difference of two designs is more than chance, in sentences."""
    if gain.seeds == 0:
        yield (
            "Both numbers are the search's own, one training each, and the winner is the best of many: such a "
            "difference may be chance. A confirmation (--confirm) would tell."
        )
        return
    if gain.overlap is None:
        yield "Each was confirmed by one seed, so that nothing is known of chance; --confirm-seeds 3 would tell."
        return
    what = "95 % intervals" if gain.seeds >= INTERVAL_SEEDS else f"ranges over {gain.seeds} seeds"
    if gain.overlap:
        yield f"Their {what} overlap, which leaves open whether the difference is more than chance."
    else:
        yield f"Their {what} do not overlap."
    if gain.paired_half is not None:
        yield _describe_paired(gain)
    elif gain.seeds < INTERVAL_SEEDS:
        yield f"So few seeds have no interval; --confirm-seeds {INTERVAL_SEEDS} gives one."


def format_points(difference: float) -> str:
    """Returns a difference of accuracies, given in 0..1, without its sign.

    >>> format_points(-0.031), format_points(0.01)
    ('3.1 points', '1.0 points')
    """
    return f"{abs(100 * difference):.1f} points"


def _describe_paired(gain: Gain) -> str:
    interval = f"{100 * gain.difference:+.1f} ± {100 * (gain.paired_half or 0.0):.1f} points"
    text = f"Seed by seed, both trained on the same images, the difference is {interval}"
    if abs(gain.difference) > (gain.paired_half or 0.0):
        return f"{text}, an interval without zero: hardly chance."
    return f"{text}, an interval with zero in it: these {gain.seeds} seeds do not show a difference."


def _paired_half(first: Confirmation, second: Confirmation) -> float | None:
    """Returns half the 95 % interval of the difference over seeds, None where they are too few or others."""
    of_first, of_second = ({run.seed: run.validation_accuracy for run in item.runs} for item in (first, second))
    if of_first.keys() != of_second.keys() or len(of_first) < INTERVAL_SEEDS or first.epochs != second.epochs:
        return None
    return mean_and_interval([of_first[seed] - of_second[seed] for seed in sorted(of_first)])[1]


def _overlap(first: Sequence[float], second: Sequence[float]) -> bool:
    (low, high), (other_low, other_high) = (_spread(accuracies) for accuracies in (first, second))
    return low <= other_high and other_low <= high


def _spread(accuracies: Sequence[float]) -> tuple[float, float]:
    """Returns the ends of the mean's 95 % interval, of few seeds those of their range."""
    if len(accuracies) < INTERVAL_SEEDS:
        return min(accuracies), max(accuracies)
    mean, half = mean_and_interval(accuracies)
    return mean - (half or 0.0), mean + (half or 0.0)
