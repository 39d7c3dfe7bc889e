"""Our search against what people would do otherwise, replayed on recorded trainings.

python -m studies.search_quality [--seeds 20] [--to studies/search_quality]

Each method searches the small spaces of studies/search_table.py, whose every fitting design was trained once; a
training costs its recorded seconds, or those of a plain PyTorch loop where the method trains so. Accuracy is that of
the recording. Writes Markdown: regret over time (median and quartiles over the seeds), and the time until a random
search with plain training is matched. One component is taken out at a time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import TrialState

from repnet_search.results.record import Origin, Outcome, TrialRecord
from repnet_search.results.storage import study_folder
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.propose import enqueue_starts
from repnet_search.search.run import Limits, Search
from repnet_search.spec import BackboneSpec
from repnet_search.spec.files import save_text
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.spec.study import DataSpec, Sampler, SearchSpec, StudySpec, WeightsSpec
from repnet_search.training.proxy import ProxyResult, Rungs
from studies.search_table import TASKS, create_feasible

FOLDER = Path(__file__).parent
RANDOM_DESIGNS = 24
"""Designs that the random search with plain training gets: a study's default number."""

TIMES = (0.1, 0.25, 0.5, 1.0)

Curve = list[tuple[float, float]]
"""(seconds, best accuracy so far) after each training."""


@dataclass(frozen=True, slots=True)
class Table:
    """A recorded task: designs by id, and its space."""

    name: str
    feasible: FeasibleSpace
    designs: dict[str, dict[str, Any]]

    @property
    def best(self) -> float:
        """The best accuracy of all."""
        return max(float(design["curve"][-1]) for design in self.designs.values())


class TimeOverError(Exception):
    """A replayed search has spent its seconds."""


class ReplayedSearch(Search):
    """A search whose trainings are looked up."""

    table: Table

    def train(self, resolved: ResolvedDesign, *, rungs: Rungs | None) -> ProxyResult:
        """Returns what was recorded of a design, up to the rung at which it is stopped."""
        found = self.table.designs[resolved.id]
        curve: Sequence[float] = found["curve"]
        for epoch in sorted(rungs.epochs if rungs is not None else ()):
            if rungs is not None and not rungs.judge(epoch, curve[epoch - 1]):
                seconds = found["seconds"] * epoch / len(curve)
                return ProxyResult(curve[epoch - 1], (0.0,) * epoch, seconds, stopped=True)
        return ProxyResult(curve[-1], (0.0,) * len(curve), found["seconds"])


def load_table(name: str) -> Table:
    """Returns a recorded task."""
    recorded = json.loads((FOLDER / f"search_table_{name}.json").read_text())
    return Table(name, create_feasible(TASKS[name]), {design["id"]: design for design in recorded["designs"]})


def search(table: Table, spec: SearchSpec, *, seed: int, seconds: float, starts: bool = True) -> Curve:
    """Returns what our search finds in so many seconds of training."""
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
    if starts:
        enqueue_starts(study, table.feasible, seed=seed)
    worker = ReplayedSearch(study, settings, None, table.feasible)  # type: ignore[arg-type]  # nothing is trained
    worker.table = table
    spent: Curve = []
    best = 0.0

    def listen(record: TrialRecord) -> None:
        nonlocal best
        if record.outcome is Outcome.TRAINED:
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
    return _ask_optuna(table, TPESampler(seed=seed), seconds)


def _ask_optuna(table: Table, sampler: BaseSampler, seconds: float) -> Curve:
    study = optuna.create_study(direction="maximize", sampler=sampler)
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


Method = Callable[[Table, int, float], Curve]


def methods() -> dict[str, Method]:
    """Returns all methods by name."""
    ours = SearchSpec()

    def of(spec: SearchSpec, *, starts: bool = True) -> Method:
        return lambda table, seed, seconds: search(table, spec, seed=seed, seconds=seconds, starts=starts)

    return {
        "random, plain training": lambda table, seed, _: random_with_plain_training(table, seed=seed),
        "random, our training, rungs": of(SearchSpec(sampler=Sampler.RANDOM, reduction=3), starts=False),
        "Optuna's defaults, our training": lambda table, seed, seconds: optuna_defaults(
            table, seed=seed, seconds=seconds
        ),
        "paper preset, scaled to fit": lambda table, seed, _: one_design(table, Origin.PAPER, seed=seed),
        "widest that fits": lambda table, seed, _: one_design(table, Origin.WIDEST, seed=seed),
        "ours": of(ours),
        "ours with rungs (3)": of(ours.model_copy(update={"reduction": 3})),
        "ours with rungs (2)": of(ours.model_copy(update={"reduction": 2})),
        "ours without starts": of(ours, starts=False),
        "ours, random sampler": of(ours.model_copy(update={"sampler": Sampler.RANDOM})),
        "ours, gp": of(ours.model_copy(update={"sampler": Sampler.GP})),
        "ours, nsga2": of(ours.model_copy(update={"sampler": Sampler.NSGA2})),
    }


@dataclass(frozen=True, slots=True)
class Outcomes:
    """A method's curves by seed, and how long each took to match the plain random search of its seed."""

    curves: list[Curve]
    ratios: list[float]


def run_task(table: Table, seeds: int) -> tuple[dict[str, Outcomes], list[float]]:
    """Returns what each method found from each seed, and the seconds that the plain random search took."""
    plain = [random_with_plain_training(table, seed=seed) for seed in range(seeds)]
    horizons = [curve[-1][0] for curve in plain]
    found = {}
    for name, method in methods().items():
        curves = [method(table, seed, horizons[seed]) for seed in range(seeds)]
        ratios = [time_to(curve, plain[seed][-1][1]) / horizons[seed] for seed, curve in enumerate(curves)]
        found[name] = Outcomes(curves, ratios)
        print(f"{table.name}: {name}: {np.median(ratios):.2f}", flush=True)
    return found, horizons


def report_task(table: Table, seeds: int) -> list[str]:
    """Returns a task's part of the record."""
    found, horizons = run_task(table, seeds)
    headings = " | ".join(f"at {share:g} of the time" for share in TIMES)
    lines = [
        f"## {table.name}",
        "",
        f"{len(table.designs)} designs, the best {100 * table.best:.1f} %. The time is what the plain random search "
        f"takes for {RANDOM_DESIGNS} designs: {np.median(horizons):.0f} s in the median. Regret in points behind the "
        "best of the table: median (quartiles).",
        "",
        f"| method | {headings} | time to match plain random, of its time |",
        f"|---|{'--:|' * (len(TIMES) + 1)}",
    ]
    for name, outcomes in found.items():
        cells = [_regret(table, outcomes.curves, horizons, share) for share in TIMES]
        lines.append(f"| {name} | {' | '.join(cells)} | {_share(outcomes.ratios)} |")
    return [*lines, ""]


def _regret(table: Table, curves: Sequence[Curve], horizons: Sequence[float], share: float) -> str:
    bests = [best_at(curve, share * horizon) for curve, horizon in zip(curves, horizons, strict=True)]
    if 0.0 in bests:
        return "–"  # nothing trained yet from some seed
    low, median, high = np.percentile([100 * (table.best - best) for best in bests], (25, 50, 75))
    return f"{median:.1f} ({low:.1f}–{high:.1f})"


def _share(ratios: Sequence[float]) -> str:
    median = float(np.median(ratios))
    never = sum(np.isinf(ratio) for ratio in ratios)
    missed = f", never from {never} seeds" if never else ""
    return f"{median:.2f}{missed}" if np.isfinite(median) else f"never from {never} seeds"


def main() -> None:
    """Replays all methods on the recorded tasks, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    target = arguments.to.resolve()
    recorded = [name for name in TASKS if (FOLDER / f"search_table_{name}.json").exists()]
    lines = ["# Our search against what people would do otherwise", ""]
    lines += [f"Replayed from recorded trainings, {arguments.seeds} seeds; `python -m studies.search_quality`.", ""]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # searches write best.yaml where they run
        for name in recorded:
            lines += report_task(load_table(name), arguments.seeds)
    save_text(target, "\n".join(lines))


if __name__ == "__main__":
    main()
