"""Searches replayed on a recorded table of trainings (studies/search_table.py), in recorded seconds.

A training costs its recorded seconds, or those of a plain PyTorch loop where a method trains so.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from repnet_search.results.record import Origin, Outcome, TrialRecord
from repnet_search.results.storage import study_folder
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.propose import ORIGIN_KEY, Proposer, list_starts
from repnet_search.search.run import Limits, Search
from repnet_search.search.samplers import Seed, Suggestion
from repnet_search.spec import BackboneSpec
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.spec.study import DataSpec, SearchSpec, StudySpec, WeightsSpec
from repnet_search.training.proxy import ProxyResult, Rungs
from studies.search_table import TASKS, create_feasible

RANDOM_DESIGNS = 24
"""Designs that the random search with plain training gets: a study's default number."""

Curve = list[tuple[float, float]]
"""(seconds, best accuracy so far) after each training."""


@dataclass(frozen=True, slots=True)
class Table:
    """A recorded task: designs by id, and its space.

    `counted_bytes`: what a search is asked for afterwards, a smaller budget than the one that it searched.
    """

    name: str
    feasible: FeasibleSpace
    designs: dict[str, dict[str, Any]]
    counted_bytes: int

    @property
    def counted(self) -> list[float]:
        """The accuracies of what is asked for."""
        designs = self.designs.values()
        return [float(design["curve"][-1]) for design in designs if design["ram_bytes"] <= self.counted_bytes]

    @property
    def best(self) -> float:
        """The best of them."""
        return max(self.counted)

    def under(self, share: float) -> Table:
        """Returns the task, asked for a share of its budget."""
        return replace(self, counted_bytes=int(share * self.feasible.limits.ram_bytes))


class TimeOverError(Exception):
    """A replayed search has spent its seconds."""


class PartialProposer(Proposer):
    """Our proposals without some of their origins; the sampler fills their turns."""

    without: Collection[Origin] = ()

    def _suggestions(self, records: Sequence[TrialRecord], seed: Seed) -> Iterator[tuple[Origin, Suggestion]]:
        for origin, suggestion in super()._suggestions(records, seed):
            if origin not in self.without:
                yield origin, suggestion


class ReplayedSearch(Search):
    """A search whose trainings are looked up."""

    def __init__(
        self, study: optuna.Study, settings: StudySpec, table: Table, *, without: Collection[Origin] = ()
    ) -> None:
        super().__init__(study, settings, None, table.feasible)  # type: ignore[arg-type]  # nothing is trained
        self.table = table
        self.proposer = PartialProposer(study, table.feasible, settings.search, seed=settings.training.seed)
        self.proposer.without = without

    def train(self, resolved: ResolvedDesign, *, rungs: Rungs | None) -> ProxyResult:
        """Returns what was recorded of a design, up to the rung at which it is stopped."""
        found = self.table.designs[resolved.id]
        curve: Sequence[float] = found["curve"]
        for epoch in sorted(rungs.epochs if rungs is not None else ()):
            if rungs is not None and not rungs.judge(epoch, curve[epoch - 1]):
                seconds = found["seconds"] * epoch / len(curve)
                return ProxyResult(curve[epoch - 1], (0.0,) * epoch, seconds, stopped=True)
        return ProxyResult(curve[-1], (0.0,) * len(curve), found["seconds"])


def load_table(path: Path) -> Table:
    """Returns a recorded task."""
    recorded = json.loads(path.read_text())
    name = recorded["about"]["task"]
    designs = {design["id"]: design for design in recorded["designs"]}
    return Table(name, create_feasible(TASKS[name]), designs, TASKS[name].budget_bytes)


def search(table: Table, spec: SearchSpec, *, seed: int, seconds: float, without: Collection[Origin] = ()) -> Curve:
    """Returns what our search finds in so many seconds of training, without designs of some origins."""
    task = TASKS[table.name]
    settings = StudySpec(
        budget_bytes=task.budget_bytes,
        backbone=BackboneSpec(),
        weights=WeightsSpec(name="", sha256="", input_range="-1,1"),
        data=DataSpec(name="", sha256="", classes=10),
        space=task.space,
        training=task.training.model_copy(update={"seed": seed}),
        search=spec,
    )
    study = optuna.create_study(study_name="replay", direction="maximize")
    study_folder("replay").mkdir(parents=True, exist_ok=True)
    for origin, candidate in list_starts(table.feasible, seed=seed):
        if origin not in without:
            study.enqueue_trial(candidate.params, user_attrs={ORIGIN_KEY: origin.value})
    worker = ReplayedSearch(study, settings, table, without=without)
    spent: Curve = []
    best = 0.0

    def listen(record: TrialRecord) -> None:
        nonlocal best
        if record.outcome is Outcome.TRAINED and record.ram_bytes <= table.counted_bytes:
            best = max(best, record.validation_accuracy or 0.0)
        if record.outcome in (Outcome.TRAINED, Outcome.STOPPED):
            spent.append(((spent[-1][0] if spent else 0.0) + record.elapsed_seconds, best))
        if spent and spent[-1][0] > seconds:
            raise TimeOverError

    with contextlib.suppress(TimeOverError):
        worker.run(Limits(trials=len(table.designs)), listener=listen)
    return spent


def random_with_plain_training(table: Table, *, seed: int, designs: int = RANDOM_DESIGNS) -> Curve:
    """Returns what uniform draws of the fitting designs find, each trained by a plain loop."""
    drawn = table.feasible.fitting.draw(designs, seed=(seed, 7)).sample.choices
    ids = [table.feasible.candidate(table.feasible.fitting.memory.params(row)).resolved.id for row in drawn]
    return _cumulate([(table.designs[key]["stock_seconds"], table.designs[key]["curve"][-1]) for key in ids])


def optuna_defaults(table: Table, *, seed: int, seconds: float) -> Curve:
    """Returns what Optuna's default sampler finds, over-budget proposals pruned; our training."""
    study = optuna.create_study(direction="maximize", sampler=TPESampler(seed=seed))
    trained: list[tuple[float, float]] = []
    while sum(cost for cost, _ in trained) < seconds and len(study.trials) < 3000:
        trial = study.ask(dict(table.feasible.space.distributions))
        candidate = table.feasible.candidate(dict(trial.params))
        trial.set_constraint("ram", candidate.fit.ram_excess_bytes)
        if not table.feasible.fits(candidate):
            study.tell(trial, state=TrialState.PRUNED)
            continue
        found = table.designs[candidate.resolved.id]
        trained.append((found["seconds"], found["curve"][-1]))
        study.tell(trial, found["curve"][-1])
    return _cumulate(trained)


def one_design(table: Table, origin: Origin, *, seed: int) -> Curve:
    """Returns the paper's preset scaled to fit or the widest design, trained by a plain loop."""
    feasible = table.feasible
    candidate = feasible.paper() if origin is Origin.PAPER else feasible.widest(seed=seed)
    if candidate is None:
        return []
    found = table.designs[candidate.resolved.id]
    return [(found["stock_seconds"], found["curve"][-1])]


def _cumulate(trained: Sequence[tuple[float, float]]) -> Curve:
    seconds = np.cumsum([cost for cost, _ in trained])
    best = np.maximum.accumulate([accuracy for _, accuracy in trained])
    return list(zip(map(float, seconds), map(float, best), strict=True))


def best_at(curve: Curve, seconds: float) -> float:
    """Returns the best accuracy by some time; 0 before the first training has ended."""
    return max((best for at, best in curve if at <= seconds), default=0.0)


def time_to(curve: Curve, accuracy: float) -> float:
    """Returns when an accuracy was reached, infinity where it never was."""
    return next((at for at, best in curve if best >= accuracy), float("inf"))
