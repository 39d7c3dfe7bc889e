"""Ten thousand recorded trials: what a proposal costs then, and how long a study takes to answer.

python -m studies.many_trials [--trials 10000] [--proposals 40]     writes many_trials.md beside this file

Both studies are made up of random designs of the default space and random accuracies, and recorded as `run` records
them; each fourth design is over the budget. Times of one process each, medians; a proposal also waits for the disk,
which keeps each of its parameters by itself.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import TrialState

from repnet_search.results.journal import Journal
from repnet_search.results.record import Origin, Outcome, TrialRecord
from repnet_search.results.storage import JOURNAL_NAME, STUDIES_FOLDER, load_optuna_study, open_storage
from repnet_search.results.study import RECORD_KEY, SETTINGS_KEY, RecordReader, dump_record, read_settings
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.propose import Proposer
from repnet_search.search.run import MEMORY_CONSTRAINT
from repnet_search.search.space import Params, SearchSpace
from repnet_search.spec import BackboneSpec
from repnet_search.spec.bundled import load_space
from repnet_search.spec.files import save_text
from repnet_search.spec.study import DataSpec, StudySpec, WeightsSpec
from repnet_search.spec.training import TrainingSpec

STUDY = "many"
FEW_TRIALS = 300
BUDGET_BYTES = 256 * 1024
EPOCHS = 10
OVER_BUDGET_EVERY = 4
REPEATS = 3
COMMANDS = (f"best --study {STUDY}", f"best --study {STUDY} --budget 128KB", "studies")
SETTINGS = StudySpec(
    budget_bytes=BUDGET_BYTES,
    backbone=BackboneSpec(),
    weights=WeightsSpec(name="none", sha256="0" * 64, input_range="-1,1"),
    data=DataSpec(name="none", sha256="0" * 64, classes=10),
    space=load_space("default"),
    training=TrainingSpec(epochs=EPOCHS),
)


@dataclass(frozen=True, slots=True)
class Seconds:
    """Of the processor, and on the clock."""

    processor: float
    clock: float


class KeptJournal(BaseJournalBackend):
    """A journal in memory: on disk each entry is waited for, and a study has 30 per trial."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Adds entries."""
        self.entries += logs

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yields the entries from a number on."""
        yield from self.entries[log_number_from:]


def create_feasible() -> FeasibleSpace:
    """Returns the study's space under its budget."""
    return FeasibleSpace(SearchSpace(SETTINGS.space, SETTINGS.backbone), limits=SETTINGS.limits, classes=10)


def save_study(trials: int, *, seed: int) -> None:
    """Writes a study of so many ended trials to the journal in the current folder."""
    feasible, kept = create_feasible(), KeptJournal()
    study = optuna.create_study(study_name=STUDY, storage=JournalStorage(kept), direction="maximize")
    study.set_user_attr(SETTINGS_KEY, SETTINGS.model_dump(mode="json"))
    fitting = feasible.fitting.draw(trials, seed=seed).sample
    every = feasible.fitting.memory.sample(FEW_TRIALS + trials, seed=seed)
    over = every.select(~feasible.fitting.fits(every))
    generator = np.random.default_rng(seed)
    for number in range(trials):
        fits = number % OVER_BUDGET_EVERY != 0
        sample, place = (fitting, number) if fits else (over, number % len(over))
        params = feasible.fitting.memory.params(sample.choices[place])
        record_trial(study, feasible, params, int(sample.ram_bytes[place]), generator)
    path = STUDIES_FOLDER / JOURNAL_NAME
    path.parent.mkdir()
    Journal(path).append_logs(kept.entries)


def record_trial(
    study: optuna.Study, feasible: FeasibleSpace, params: Params, ram_bytes: int, generator: np.random.Generator
) -> None:
    """Records a trial as `run` does: its parameters one by one, its constraint, its record before and after."""
    study.sampler = optuna.samplers.PartialFixedSampler(params, optuna.samplers.RandomSampler(seed=0))
    trial = study.ask(dict(feasible.space.distributions))
    resolved = feasible.space.design(params)
    terms = (("arena", ram_bytes // 2), ("parameters", ram_bytes - ram_bytes // 2))
    origin, design = Origin.SAMPLER, resolved.design
    record = TrialRecord(trial.number, Outcome.RUNNING, origin, design, resolved.id, ram_bytes, terms, 1000)
    trial.set_constraint(MEMORY_CONSTRAINT, ram_bytes - BUDGET_BYTES)
    if ram_bytes > BUDGET_BYTES:
        trial.set_user_attr(RECORD_KEY, dump_record(replace(record, outcome=Outcome.OVER_BUDGET)))
        study.tell(trial, state=TrialState.PRUNED)
        return
    trial.set_user_attr(RECORD_KEY, dump_record(record))
    end_trial(study, trial, record, generator)


def end_trial(study: optuna.Study, trial: optuna.Trial, record: TrialRecord, generator: np.random.Generator) -> None:
    """Records a made-up training."""
    accuracy, losses = float(generator.random()), tuple(generator.random(EPOCHS).tolist())
    ended = replace(record, outcome=Outcome.TRAINED, validation_accuracy=accuracy, losses=losses, elapsed_seconds=1.0)
    trial.set_user_attr(RECORD_KEY, dump_record(ended))
    study.tell(trial, accuracy)


def time_proposals(count: int) -> Seconds:
    """Returns the medians of reading a study's new records and proposing its next design.

    Raises:
        RuntimeError: no design is left.
    """
    study = load_optuna_study(STUDY, open_storage(None))
    settings, generator = read_settings(study), np.random.default_rng(0)
    proposer = Proposer(study, create_feasible(), settings.search, seed=0)
    reader = RecordReader(study)
    times = []
    for _ in range(1 + count):
        processor, clock = time.process_time(), time.perf_counter()
        proposal = proposer.next(reader.read(), waiting=False)
        times.append(Seconds(time.process_time() - processor, time.perf_counter() - clock))
        if proposal is None:
            raise RuntimeError("The study has every design of its space.")
        memory, resolved = proposal.candidate.memory, proposal.candidate.resolved
        record = TrialRecord(
            *(proposal.trial.number, Outcome.RUNNING, proposal.origin, resolved.design, resolved.id),
            *(memory.ram_bytes, memory.terms, memory.trainable_parameters),
        )
        end_trial(study, proposal.trial, record, generator)
    return middle(times[1:])  # the first one takes in all that there is


def time_command(command: str) -> Seconds:
    """Returns the medians of a command line of the program, its start included."""
    times = []
    for _ in range(REPEATS):
        before, clock = _children_seconds(), time.perf_counter()
        subprocess.run([sys.executable, "-m", "repnet_search", *command.split()], check=True, capture_output=True)
        times.append(Seconds(_children_seconds() - before, time.perf_counter() - clock))
    return middle(times)


def middle(times: list[Seconds]) -> Seconds:
    """Returns the medians."""
    return Seconds(statistics.median(item.processor for item in times), statistics.median(item.clock for item in times))


def measure(trials: int, *, proposals: int) -> dict[str, Seconds]:
    """Returns what each thing takes with a study of so many trials, in the current folder."""
    save_study(trials, seed=0)
    times = {f"`{command}`": time_command(command) for command in COMMANDS}
    return {"a proposal": time_proposals(proposals)} | times


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Makes a small and a large study, measures, and writes what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--proposals", type=int, default=40)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", ExperimentalWarning)  # of the sampler that is told what to choose
    found: dict[int, dict[str, Seconds]] = {}
    for trials in (FEW_TRIALS, arguments.trials):
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            found[trials] = measure(trials, proposals=arguments.proposals)
            size_bytes = (STUDIES_FOLDER / JOURNAL_NAME).stat().st_size
    lines = _report(found, size_bytes=size_bytes, proposals=arguments.proposals)
    print("\n".join(lines))
    save_text(arguments.to, "\n".join(lines) + "\n")


def _report(found: dict[int, dict[str, Seconds]], *, size_bytes: int, proposals: int) -> list[str]:
    few, many = found
    lines = [
        "# Ten thousand trials",
        "",
        f"`python -m studies.many_trials --trials {many} --proposals {proposals}`: studies of the default space, made",
        f"up and recorded as `run` records them (a journal of {size_bytes / 1e6:.0f} MB at {many} trials). Medians,",
        "seconds of the processor, in brackets on the clock, which other work on the machine and the disk lengthens.",
        "",
        f"| what | {few} trials | {many} trials |",
        "|---|--:|--:|",
    ]
    for what in found[few]:
        cells = [f"{item.processor:.3f} ({item.clock:.3f})" for item in (found[few][what], found[many][what])]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
