"""The Pareto front of accuracy against training memory, and what is the best under a budget."""

from __future__ import annotations

from collections.abc import Iterable

from repnet_search.results.record import BASELINES, Origin, Outcome, TrialRecord


def trained(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Returns the trained trials, one per design."""
    return [record for record in records if record.outcome is Outcome.TRAINED]


def count_trained(records: Iterable[TrialRecord]) -> int:
    """Returns the designs that `--trials` counts: trained to the end or to a rung, the baselines left out."""
    outcomes = (Outcome.TRAINED, Outcome.STOPPED)
    return sum(record.outcome in outcomes and record.origin not in BASELINES for record in records)


def pareto_front(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Returns the trained trials that no other beats in both memory and accuracy, least memory first."""
    front: list[TrialRecord] = []
    for record in sorted(trained(records), key=_memory_then_best):
        if not front or _accuracy(record) > _accuracy(front[-1]):
            front.append(record)
    return front


def count_since_front(records: Iterable[TrialRecord]) -> int:
    """Returns how many designs were trained since one was on the front of what was trained until then.

    The baselines are compared with, and not counted.
    """
    since = 0
    front: list[TrialRecord] = []
    for record in records:
        if record.outcome is Outcome.STOPPED:
            since += 1
        elif record.outcome is not Outcome.TRAINED:
            continue
        elif any(r.ram_bytes <= record.ram_bytes and _accuracy(r) >= _accuracy(record) for r in front):
            since += record.origin not in BASELINES
        else:
            since = 0
            front = pareto_front([*front, record])
    return since


def best_under(
    records: Iterable[TrialRecord], *, budget_bytes: int, flash_bytes: int | None = None
) -> TrialRecord | None:
    """Returns the most accurate trained trial within a budget (the cheapest of equals), None where none fits.

    Args:
        records: the trials.
        budget_bytes: training memory that there is.
        flash_bytes: flash that there is; None where it is no limit.
    """
    fitting = [
        record for record in trained(records) if fits_within(record, budget_bytes=budget_bytes, flash_bytes=flash_bytes)
    ]
    return max(fitting, key=lambda record: (_accuracy(record), -record.ram_bytes), default=None)


def fits_within(record: TrialRecord, *, budget_bytes: int, flash_bytes: int | None) -> bool:
    """Returns whether a trial is within a budget and a limit of flash; one of unknown flash is within no limit."""
    if record.ram_bytes > budget_bytes:
        return False
    return flash_bytes is None or (record.flash_bytes is not None and record.flash_bytes <= flash_bytes)


def best_of_origin(records: Iterable[TrialRecord], origin: Origin, *, budget_bytes: int) -> TrialRecord | None:
    """Returns the best trained trial of one origin within a budget."""
    return best_under((record for record in records if record.origin is origin), budget_bytes=budget_bytes)


def _memory_then_best(record: TrialRecord) -> tuple[int, float]:
    return record.ram_bytes, -_accuracy(record)


def _accuracy(record: TrialRecord) -> float:
    return record.validation_accuracy if record.validation_accuracy is not None else -1.0
