"""What a search shows: header, a live line, result; or one JSON document."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from repnet_search.cli.next_commands import next_commands
from repnet_search.cli.render import (
    comparison_table,
    create_console,
    describe_imbalance,
    flash_line,
    front_table,
    memory_bars,
)
from repnet_search.cli.render_confirmation import conclusions, confirmation_table
from repnet_search.data import Split
from repnet_search.data.summary import measure_imbalance
from repnet_search.memory.fit import describe_regions
from repnet_search.report.wording import describe_accuracy, describe_backbone, format_percent, front_notes
from repnet_search.results.confirmation import ConfirmedRun, dump_run
from repnet_search.results.front import best_under, count_trained, pareto_front
from repnet_search.results.record import BASELINES, Outcome, TrialRecord
from repnet_search.results.storage import study_folder
from repnet_search.results.study import StudyView, dump_record
from repnet_search.search.confirm import RunListener
from repnet_search.search.finish import SearchResult
from repnet_search.spec.study import StudySpec
from repnet_search.spec.training import Metric
from repnet_search.training.task import Task
from repnet_search.units import format_count, format_number, format_size

FEW_VALIDATION_IMAGES = 100
UNEQUAL_RATIO = 1.5

_TOLD = (Outcome.TRAINED, Outcome.STOPPED, Outcome.FAILED, Outcome.INTERRUPTED)


class RunPresenter:
    """Prints a run; with `as_json` the result goes to stdout as JSON and everything else to stderr."""

    def __init__(self, name: str, settings: StudySpec, task: Task, *, trials: int, workers: int, as_json: bool) -> None:
        self.name = name
        self.settings = settings
        self.task = task
        self.trials = trials
        self.workers = workers
        self.as_json = as_json
        self.console = create_console(stderr=as_json)
        self._space: dict[str, Any] = {}
        self._progress: Progress | None = None
        self._bar: TaskID | None = None
        self._records: list[TrialRecord] = []
        self._started = time.monotonic()
        self._trained_before = 0
        self._end: str | None = None

    def show_header(
        self, combinations: int, share: float, error: float, *, warm_start: Sequence[str] = (), taken_over: int = 0
    ) -> None:
        """Prints what is searched, on what, how much of it fits, and how many designs of other studies come first."""
        settings, source = self.settings, self.task.source
        counts = ", ".join(f"{source.count(split)} {split.value}" for split in Split)
        self._space = {"combinations": combinations, "fitting_share": share, "fitting_share_error": error}
        reserve = f", {format_size(settings.reserve_bytes)} of it reserved" if settings.reserve_bytes else ""
        lines = {
            "study": self.name,
            "backbone": _backbones(settings),
            "data": f"{source.name}: {len(source.classes)} classes; {counts} images",
            "budget": f"{format_size(settings.budget_bytes)} of training memory{reserve} "
            f"(account arena, schedule {settings.schedule.value}, micro-batch 1)",
            "space": f"{combinations:.3g} combinations of choices; {_describe_share(share, error)} of them fit",
            "training": f"{format_count(settings.training.epochs, 'epoch')} of "
            f"{format_count(settings.training.views, 'view')} per image, seed {settings.training.seed}, on "
            f"{self.task.device.type} by {format_count(self.workers, 'worker')}",
        }
        imbalance = measure_imbalance(source.classes, source.class_counts(Split.TRAIN))
        if imbalance.ratio >= UNEQUAL_RATIO:
            lines["classes"] = describe_imbalance(imbalance)
        if settings.training.metric is not Metric.ACCURACY:
            lines["metric"] = f"{settings.training.metric.label}: accuracies below are means over the classes"
        if settings.board is not None:
            lines["board"] = f"{settings.board}, left of its RAM: {describe_regions(settings.limits.regions)}"
        if settings.flash_bytes is not None:
            lines["flash"] = f"{format_size(settings.flash_bytes)} for frozen weights, code and trained weights"
        if warm_start:
            which = format_count(taken_over, "design") if taken_over else "nothing new that fits"
            lines["start"] = f"{which} of {', '.join(warm_start)}, behind the usual starts"
        validation = source.count(Split.VALIDATION)
        if validation < FEW_VALIDATION_IMAGES:
            lines["note"] = (
                f"designs are compared on {validation} validation images: one is worth {100 / validation:.1f} points"
            )
        if source.skipped:
            lines["skipped"] = f"{format_count(len(source.skipped), 'broken file')}, first {source.skipped[0]}"
        for heading, text in lines.items():
            self.console.print(Text.assemble((f"{heading:<9} ", "bold"), text), soft_wrap=True)
        self.console.print()

    @contextmanager
    def progress(self, records: Sequence[TrialRecord]) -> Iterator[None]:
        """Shows the live line while the search runs."""
        self._records = list(records)
        self._trained_before = self._trained()
        columns = (
            TextColumn("trained"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            self._progress = progress
            self._bar = progress.add_task(self._line(), total=self.trials, completed=self._trained())
            yield
        self._progress = None

    def on_record(self, record: TrialRecord) -> None:
        """Takes note of a trial that starts or has ended; where nobody watches, a trained design prints a line."""
        if record.outcome is not Outcome.RUNNING:
            self._records.append(record)
            if not self.console.is_terminal and record.outcome in _TOLD:
                self._print_line(record)
        if self._progress is not None and self._bar is not None:
            self._progress.update(self._bar, completed=self._trained(), description=self._line())

    @contextmanager
    def confirming(self, runs: int) -> Iterator[RunListener]:
        """Shows the progress of the confirmation; yields who is told of each of its trainings."""
        columns = (TextColumn("confirming"), MofNCompleteColumn(), BarColumn(bar_width=24), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True, disable=not runs) as progress:
            bar = progress.add_task("", total=runs)

            def on_run(run: ConfirmedRun) -> None:
                progress.advance(bar)
                if not self.console.is_terminal:
                    accuracy = format_percent(run.validation_accuracy)
                    self.console.print(f"confirmed {run.design_id[:8]} by seed {run.seed}: {accuracy}", soft_wrap=True)

            yield on_run

    @contextmanager
    def testing(self) -> Iterator[None]:
        """Shows that the test images are being read, which takes a while where there are many."""
        with self.console.status(f"Testing on {self.task.source.count(Split.TEST)} images"):
            yield

    def show_interrupted(self, records: Sequence[TrialRecord], *, confirmed: int) -> None:
        """Says what is kept and how to go on; `confirmed` are trainings of the confirmation."""
        kept, variants = format_count(count_trained(records), "trained design"), _count_variants(records)
        runs = f", and {format_count(confirmed, 'training')} of the confirmation" if confirmed else ""
        self.console.print(
            f"\nInterrupted. Kept in study {self.name}: {kept}, and the last layer alone in "
            f"{format_count(variants, 'variant')}{runs}; the same command goes on.",
            soft_wrap=True,
        )

    def show_end(self, reason: str | None) -> None:
        """Says why the search ended before it had all its trials, where it did."""
        self._end = reason
        if reason is not None:
            self.console.print(reason, soft_wrap=True)

    def show_result(self, result: SearchResult) -> None:
        """Prints the front, the winner, the comparison and the next commands; or JSON."""
        if self.as_json:
            print(json.dumps(self._as_json(result), indent=2, ensure_ascii=False))
            return
        console, view, winner = self.console, result.view, result.winner
        metric = view.settings.training.metric
        console.print(self._funnel(view), soft_wrap=True)
        console.print()
        widths, front = bool(view.settings.wider), pareto_front(view.records)
        console.print(front_table(front, winner=winner, metric=metric, widths=widths))
        for note in front_notes(front, winner=winner):
            console.print(note, soft_wrap=True)
        accuracy = describe_accuracy(winner, view.confirmed.get(winner.design_id), metric=metric)
        console.print(f"\nWinner {winner.short_id}: {accuracy}", style="bold", soft_wrap=True)
        for line in memory_bars(winner.terms, budget_bytes=view.settings.available_bytes):
            console.print(line)
        for line in flash_line(winner.flash_bytes, limit_bytes=view.settings.flash_bytes):
            console.print(line)
        console.print()
        if winner.design_id in view.confirmed:
            console.print(confirmation_table(result))
            for sentence in conclusions(result):
                console.print(sentence, soft_wrap=True)
        else:
            console.print(comparison_table(result.compared, dict(view.tested), metric=metric, widths=widths))
        console.print(f"\nThe winner is in {study_folder(view.name) / 'best.yaml'}. Next:", soft_wrap=True)
        for command in next_commands(view, winner):
            console.print(f"  {command}", soft_wrap=True)

    def _funnel(self, view: StudyView) -> str:
        """Returns what became of all designs that were looked at, in a line."""
        seen, over = (sum(getattr(record, name) for record in view.records) for name in ("seen", "over"))
        looked = f"{format_count(seen, 'design')} looked at, {format_number(over)} of them over the limits; "
        trained = format_number(view.trained_count) if seen else format_count(view.trained_count, "design")
        pruned, repeated = view.count(Outcome.OVER_BUDGET), view.count(Outcome.REPEATED)
        stopped, cut_off, failed = map(view.count, (Outcome.STOPPED, Outcome.INTERRUPTED, Outcome.FAILED))
        return (
            f"{looked if seen else ''}{trained} trained{f', {stopped} of them stopped at a rung' if stopped else ''}, "
            f"and the last layer alone in {format_count(_count_variants(view.records), 'variant')}; "
            f"{format_number(pruned)} pruned as over budget, {format_number(repeated)} repeated, {failed} failed"
            f"{f', {cut_off} interrupted' if cut_off else ''}; {time.monotonic() - self._started:.0f} s."
        )

    def _as_json(self, result: SearchResult) -> dict[str, Any]:
        view = result.view
        compared = {name: self._describe(view, record) for name, record in result.compared}
        return {
            "study": view.name,
            "settings": view.settings.model_dump(mode="json"),
            "space": self._space,
            "counts": {outcome.value: view.count(outcome) for outcome in Outcome if outcome is not Outcome.RUNNING},
            "front": [dump_record(record) for record in pareto_front(view.records)],
            "compared": compared,
            "ended_early": self._end,
            "near_best": [record.design_id for record in result.near],
            "best_yaml": str(study_folder(view.name) / "best.yaml"),
        }

    def _describe(self, view: StudyView, record: TrialRecord) -> dict[str, Any]:
        """Returns a design of the comparison, with the runs of its confirmation where it has one."""
        confirmation = view.confirmed.get(record.design_id)
        runs = {} if confirmation is None else {"confirmed": [dump_run(run) for run in confirmation.runs]}
        return dump_record(record) | {"test_accuracy": view.tested.get(record.design_id)} | runs

    def _trained(self) -> int:
        return count_trained(self._records)

    def _line(self) -> str:
        pruned = sum(record.outcome is Outcome.OVER_BUDGET for record in self._records)
        best = best_under(self._records, budget_bytes=self.settings.available_bytes)
        accuracy = format_percent(best.validation_accuracy) if best is not None else "–"
        return f"over budget {pruned}, best {accuracy}{self._time_left()}"

    def _time_left(self) -> str:
        """Returns what is left as the end of a line; nothing before there is something to go by."""
        done = self._trained() - self._trained_before
        if done < 2:
            return ""
        seconds = (time.monotonic() - self._started) / done * (self.trials - self._trained())
        return f", time left {seconds / 60:.0f} min" if seconds >= 120 else f", time left {seconds:.0f} s"

    def _print_line(self, record: TrialRecord) -> None:
        counted = "" if record.origin in BASELINES else f"{self._trained()}/{self.trials} "
        accuracy = format_percent(record.validation_accuracy) if record.outcome is Outcome.TRAINED else record.reason
        self.console.print(
            f"{counted}{record.outcome.value} {record.short_id} ({record.origin.value}): "
            f"{format_size(record.ram_bytes)}, {accuracy}, {record.elapsed_seconds:.1f} s; {self._line()}",
            soft_wrap=True,
        )


def _count_variants(records: Sequence[TrialRecord]) -> int:
    """Returns in how many variants the last layer alone was trained."""
    return sum(record.outcome is Outcome.TRAINED and record.origin in BASELINES for record in records)


def _describe_share(share: float, error: float) -> str:
    """Returns the share of a space that fits, and its standard error.

    >>> _describe_share(0.4843, 0.0035), _describe_share(0.0004, 0.0001), _describe_share(0.0, 0.0)
    ('48.4 ± 0.4 %', '0.04 ± 0.01 %', 'fewer than 0.1 %')
    """
    if share < 2 * error or share == 0.0:
        return "fewer than 0.1 %"
    digits = 1 if share >= 0.01 else 2
    return f"{100 * share:.{digits}f} ± {100 * error:.{digits}f} %"


def _backbones(settings: StudySpec) -> str:
    """Returns the backbone in each of its widths, with its weights."""
    return "; ".join(
        f"{describe_backbone(spec)}, weights {weights.name}, input {weights.input_range}"
        for spec, weights in settings.all_weights.items()
    )
