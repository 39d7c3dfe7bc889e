"""Our search against what people would do otherwise, replayed on recorded trainings.

python -m studies.search_quality [--seeds 20] [--to studies/search_quality.md]

Each method searches the small spaces of studies/search_table.py, whose every fitting design was trained once; a
training costs its recorded seconds, or those of a plain PyTorch loop where the method trains so. Accuracy is that of
the recording. Writes Markdown: regret over time (median and quartiles over the seeds), and the time until a random
search with plain training is matched. One component is taken out at a time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from repnet_search.results.record import Origin
from repnet_search.spec.files import save_text
from repnet_search.spec.study import Sampler, SearchSpec
from studies.replay import (
    RANDOM_DESIGNS,
    Curve,
    Table,
    best_at,
    load_table,
    one_design,
    optuna_defaults,
    random_with_plain_training,
    search,
    time_to,
)
from studies.search_table import TASKS

TIMES = (0.1, 0.25, 0.5, 1.0)
OURS = "ours"
WITHOUT_STRATA = "ours without strata of memory"
LESS_BUDGET = 0.75
"""Of the budget: what strata of memory are for is the answer within less."""

Floats = NDArray[np.float64]

Method = Callable[[Table, int, float], Curve]


STARTS = (Origin.LAST_LAYER, Origin.WIDEST, Origin.PAPER, Origin.DENSEST)

COMPONENTS = {
    "starts": STARTS,
    "the last layer alone as a start": (Origin.LAST_LAYER,),
    "the widest and the paper's as starts": (Origin.WIDEST, Origin.PAPER),
    "the densest as starts": (Origin.DENSEST,),
    "strata of memory": (Origin.STRATUM,),
}
"""What may be taken out of our search, one at a time."""


def methods() -> dict[str, Method]:
    """Returns all methods by name."""

    def of(*, without: Collection[Origin] = (), **fields: Any) -> Method:
        spec = SearchSpec(**fields)
        return lambda table, seed, seconds: search(table, spec, seed=seed, seconds=seconds, without=without)

    return {
        "random, plain training": lambda table, seed, _: random_with_plain_training(table, seed=seed),
        "random, our training, rungs": of(sampler=Sampler.RANDOM, reduction=3, without=STARTS),
        "Optuna's defaults, our training": lambda table, seed, seconds: optuna_defaults(
            table, seed=seed, seconds=seconds
        ),
        "paper preset, scaled to fit": lambda table, seed, _: one_design(table, Origin.PAPER, seed=seed),
        "widest that fits": lambda table, seed, _: one_design(table, Origin.WIDEST, seed=seed),
        OURS: of(),
        **{f"ours without {name}": of(without=origins) for name, origins in COMPONENTS.items()},
        "ours with rungs (3)": of(reduction=3),
        "ours with rungs (2)": of(reduction=2),
        "ours, random sampler": of(sampler=Sampler.RANDOM),
        "ours, nsga2": of(sampler=Sampler.NSGA2),
    }


@dataclass(frozen=True, slots=True)
class Outcomes:
    """A method's curves by seed, and how long each took to match the plain random search of its seed."""

    curves: list[Curve]
    ratios: list[float]


_table: list[Table] = []


def _prepare(path: Path, folder: Path) -> None:
    """Gives a process its table, and a folder of its own: searches write best.yaml where they run."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    own = folder / str(os.getpid())
    own.mkdir()
    os.chdir(own)
    _table.append(load_table(path))


def _run(job: tuple[str, int, float, float]) -> Curve:
    name, seed, seconds, share = job
    return methods()[name](_table[0].under(share), seed, seconds)


def run_task(
    table: Table, path: Path, *, seeds: int, workers: int
) -> tuple[dict[str, Outcomes], dict[str, list[Curve]], list[float]]:
    """Returns what each method found from each seed, some of them within less, and the seconds of plain random."""
    plain = [random_with_plain_training(table, seed=seed) for seed in range(seeds)]
    horizons = [curve[-1][0] for curve in plain]
    found, less = {}, {}
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, context.Pool(workers, _prepare, (path, Path(folder))) as pool:
        for name in methods():
            curves = pool.map(_run, [(name, seed, horizons[seed], 1.0) for seed in range(seeds)], chunksize=1)
            ratios = [time_to(curve, plain[seed][-1][1]) / horizons[seed] for seed, curve in enumerate(curves)]
            found[name] = Outcomes(curves, ratios)
            print(f"{table.name}: {name}: {np.median(ratios):.2f}", flush=True)
        for name in (OURS, WITHOUT_STRATA):
            jobs = [(name, seed, horizons[seed], LESS_BUDGET) for seed in range(seeds)]
            less[name] = pool.map(_run, jobs, chunksize=1)
    return found, less, horizons


def report_task(path: Path, *, seeds: int, workers: int) -> list[str]:
    """Returns a task's part of the record."""
    table = load_table(path)
    found, less, horizons = run_task(table, path, seeds=seeds, workers=workers)
    headings = " | ".join(f"at {share:g} of the time" for share in TIMES)
    lines = [
        f"## {table.name}",
        "",
        f"{len(table.designs)} designs, the best {100 * table.best:.1f} %. The time is what the plain random search "
        f"takes for {RANDOM_DESIGNS} designs: {np.median(horizons):.0f} s in the median. Regret in points behind the "
        "best of the table; anytime regret is its mean over the time, paired with ours seed by seed. Medians "
        "(quartiles).",
        "",
        f"| method | {headings} | anytime | anytime, more than ours | time to match plain random, of its time |",
        f"|---|{'--:|' * (len(TIMES) + 3)}",
    ]
    ours = _anytime(table, found[OURS].curves, horizons)
    for name, outcomes in found.items():
        regrets = [_regrets(table, outcomes.curves, horizons, share) for share in TIMES]
        anytime = _anytime(table, outcomes.curves, horizons)
        cells = [*map(_quartiles, regrets), _quartiles(anytime), _quartiles(anytime - ours), _share(outcomes.ratios)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, "", *_report_less(table.under(LESS_BUDGET), less, horizons)]


def _report_less(smaller: Table, less: dict[str, list[Curve]], horizons: Sequence[float]) -> list[str]:
    """Returns what the studies answer within less, where anything fits."""
    if not smaller.counted:
        return []
    found = {
        name: ", ".join(_quartiles(_regrets(smaller, curves, horizons, share)) for share in TIMES)
        for name, curves in less.items()
    }
    times = ", ".join(f"{share:g}" for share in TIMES)
    return [
        f"The same studies asked for {LESS_BUDGET:g} of the budget, which {len(smaller.counted)} designs fit, the best "
        f"with {100 * smaller.best:.1f} %; regret at {times} of the time: "
        f"{'; '.join(f'{name} {regrets}' for name, regrets in found.items())}.",
        "",
    ]


def _regrets(table: Table, curves: Sequence[Curve], horizons: Sequence[float], share: float) -> Floats:
    """Returns the points behind the table's best at a share of each seed's time; NaN where nothing is trained yet."""
    bests = [best_at(curve, share * horizon) for curve, horizon in zip(curves, horizons, strict=True)]
    return np.array([100 * (table.best - best) if best else np.nan for best in bests])


def _anytime(table: Table, curves: Sequence[Curve], horizons: Sequence[float]) -> Floats:
    """Returns the mean regret over the time from `TIMES[0]` on, by seed."""
    shares = np.linspace(TIMES[0], 1, 37)
    regrets: Floats = np.mean([_regrets(table, curves, horizons, float(share)) for share in shares], axis=0)
    return regrets


def _quartiles(values: Floats) -> str:
    if np.isnan(values).any():
        return "–"  # nothing trained yet from some seed
    low, median, high = np.percentile(values, (25, 50, 75))
    return f"{median:.1f} ({low:.1f} to {high:.1f})"


def _share(ratios: Sequence[float]) -> str:
    median = float(np.median(ratios))
    never = sum(np.isinf(ratio) for ratio in ratios)
    missed = f", never from {never} seeds" if never else ""
    return f"{median:.2f}{missed}" if np.isfinite(median) else f"never from {never} seeds"


def main() -> None:
    """Replays all methods on the recorded tasks, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent, help="of the recorded tables")
    parser.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    paths = [arguments.folder.resolve() / f"search_table_{name}.json" for name in TASKS]
    lines = ["# Our search against what people would do otherwise", ""]
    lines += [f"Replayed from recorded trainings, {arguments.seeds} seeds; `python -m studies.search_quality`.", ""]
    for path in filter(Path.exists, paths):
        lines += report_task(path, seeds=arguments.seeds, workers=arguments.workers)
    save_text(arguments.to, "\n".join(lines))


if __name__ == "__main__":
    main()
