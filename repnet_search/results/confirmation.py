"""What training again, longer and from fresh seeds, says of the best designs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from repnet_search.results.front import best_under, trained
from repnet_search.results.record import TrialRecord
from repnet_search.results.statistics import INTERVAL_SEEDS, mean_and_interval

CONFIRMED_KEY = "repnet_confirmed"
NEAR_BEST = 0.01
"""Designs whose mean is within one point of the best are as good for most uses; the cheapest of them is named."""


@dataclass(frozen=True, slots=True)
class ConfirmedRun:
    """One training of a design: its epochs and seed, its accuracy on validation, and on test where that was read."""

    design_id: str
    epochs: int
    seed: int
    validation_accuracy: float
    test_accuracy: float | None = None
    elapsed_seconds: float = 0.0

    @property
    def key(self) -> str:
        """The attribute of the study that holds it: each run has its own, so that processes never overwrite others."""
        return f"{CONFIRMED_KEY}:{self.design_id[:16]}:{self.epochs}:{self.seed}"


@dataclass(frozen=True, slots=True)
class Confirmation:
    """All runs of one design with the same epochs, by seed."""

    runs: tuple[ConfirmedRun, ...]

    @property
    def epochs(self) -> int:
        """Of each run."""
        return self.runs[0].epochs

    @property
    def validation_accuracies(self) -> list[float]:
        """The accuracy of each run."""
        return [run.validation_accuracy for run in self.runs]

    @property
    def test_accuracies(self) -> list[float]:
        """The same on the test images; empty where they were not read for every run."""
        tested = [run.test_accuracy for run in self.runs if run.test_accuracy is not None]
        return tested if len(tested) == len(self.runs) else []

    @property
    def validation(self) -> tuple[float, float | None]:
        """The mean accuracy in 0..1 and half its 95 % interval over the seeds (None of fewer than `INTERVAL_SEEDS`)."""
        return _mean_and_interval(self.validation_accuracies)

    @property
    def test(self) -> tuple[float, float | None] | None:
        """The same on the test images; None where they were not read for every run."""
        return _mean_and_interval(self.test_accuracies) if self.test_accuracies else None

    @property
    def exported_run(self) -> ConfirmedRun:
        """The run whose model is exported: the first; the best would be so by its seed and its validation images."""
        return self.runs[0]


def dump_run(run: ConfirmedRun) -> dict[str, Any]:
    """Returns a run as the JSON that `read_confirmations` reads."""
    value = {name: getattr(run, name) for name in ConfirmedRun.__dataclass_fields__}
    return {name: item for name, item in value.items() if item is not None}


def read_runs(study: optuna.Study) -> list[ConfirmedRun]:
    """Returns all runs of a study's confirmations."""
    values = [value for key, value in study.user_attrs.items() if key.startswith(f"{CONFIRMED_KEY}:")]
    names = ConfirmedRun.__dataclass_fields__
    return [ConfirmedRun(**{name: value[name] for name in names if name in value}) for value in values]


def read_confirmations(study: optuna.Study) -> dict[str, Confirmation]:
    """Returns the confirmations of a study by design id; of a design with several, the longest training's."""
    found: dict[tuple[str, int], list[ConfirmedRun]] = {}
    for run in read_runs(study):
        found.setdefault((run.design_id, run.epochs), []).append(run)
    confirmations: dict[str, Confirmation] = {}
    for (design_id, _), runs in sorted(found.items()):
        confirmations[design_id] = Confirmation(tuple(sorted(runs, key=lambda run: run.seed)))
    return confirmations


def choose_winner(
    records: Iterable[TrialRecord], confirmations: Mapping[str, Confirmation], *, budget_bytes: int
) -> TrialRecord | None:
    """Returns the best design within a budget: the confirmed best, unless the search's own best may be better.

    Within a smaller budget than the one that was searched perhaps none of the good designs was confirmed. One that was
    not must have done better in its one short training than the confirmed best in its mean: an accuracy that was
    chosen as the highest of many flatters. None where nothing fits.
    """
    records = list(records)
    best = best_under(records, budget_bytes=budget_bytes)
    known = confirmed_best(records, confirmations, budget_bytes=budget_bytes) if confirmations else None
    if best is None or known is None or best.design_id in confirmations:
        return known or best
    seen = best.validation_accuracy or 0.0
    return best if seen > confirmations[known.design_id].validation[0] else known


def confirmed_best(
    records: Iterable[TrialRecord], confirmations: Mapping[str, Confirmation], *, budget_bytes: int
) -> TrialRecord | None:
    """Returns the confirmed design of the best mean within a budget, None where none is confirmed."""
    within = [record for record in trained(records) if record.ram_bytes <= budget_bytes]
    confirmed = [record for record in within if record.design_id in confirmations]
    key = lambda record: (confirmations[record.design_id].validation[0], -record.ram_bytes)  # noqa: E731
    return max(confirmed, key=key, default=None)


def near_best(
    records: Iterable[TrialRecord], confirmations: Mapping[str, Confirmation], *, budget_bytes: int
) -> list[TrialRecord]:
    """Returns the confirmed designs within a budget with a mean within `NEAR_BEST` of the best, the cheapest first."""
    records = list(records)
    best = confirmed_best(records, confirmations, budget_bytes=budget_bytes)
    if best is None:
        return []
    least = confirmations[best.design_id].validation[0] - NEAR_BEST
    near = {
        record.design_id: record
        for record in records
        if record.design_id in confirmations
        and record.ram_bytes <= budget_bytes
        and confirmations[record.design_id].validation[0] >= least
    }
    return sorted(near.values(), key=lambda record: record.ram_bytes)


def _mean_and_interval(accuracies: list[float]) -> tuple[float, float | None]:
    mean, half = mean_and_interval(accuracies)
    return mean, half if len(accuracies) >= INTERVAL_SEEDS else None
