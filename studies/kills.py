"""Nothing is lost: a run with two workers is killed at random moments, again and again, and then ends as it should.

python -m studies.kills [--kills 20] [--seed 0]     writes kills.md beside this file

Each kill draws its moment, its signal (SIGKILL, SIGTERM, SIGINT) and whom it hits: the run or one of its workers. After
each one, what was finished before it is still there. In the end the run goes on to its end, no design is trained
twice, every design that was cut off is tried again, and designs train as in one process alone. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from repnet_search.results.record import INTERRUPTED, Origin, Outcome, TrialRecord
from repnet_search.results.storage import open_storage
from repnet_search.results.study import StudyView, list_studies, load_study
from repnet_search.search.cut_off import CutOff
from repnet_search.spec.files import save_text

STUDY = "killed"
QUICK = ("--epochs", "1", "--views", "1", "--workers", "2", "--confirm", "0")
TASK = ("--budget", "160KB", "--space", "tiny", *QUICK, "--study", STUDY)
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
EXIT_CODES = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
WAIT_SECONDS = 60.0
LONGEST_SECONDS = 12.0
MORE_TRIALS = 4
RETRAINED = 8


@dataclass(frozen=True, slots=True)
class Kill:
    """A signal to the run or to one of its workers, so long after the last one or the start."""

    hits_run: bool
    signal: signal.Signals
    after_seconds: float


@dataclass(slots=True)
class Tally:
    """What was seen."""

    kills: list[Kill] = field(default_factory=list)
    starts: int = 0
    seen: set[tuple[int, str, float | None]] = field(default_factory=set)
    lost: int = 0
    wrong_codes: list[str] = field(default_factory=list)
    left_behind: list[bytes] = field(default_factory=list)
    longest_end_seconds: float = 0.0


class KilledRun:
    """A run of the command line in a folder, started again whenever it has ended."""

    def __init__(self, folder: Path, random: Random) -> None:
        self.folder = folder
        self.random = random
        self.tally = Tally()
        self.process: subprocess.Popen[str] | None = None

    def start(self, *, trials: int) -> subprocess.Popen[str]:
        """Returns the run, begun or gone on with."""
        command = [sys.executable, "-m", "repnet_search", "run", *TASK, "--trials", str(trials)]
        # A shell ignores Ctrl-C for what it starts in the background, and a child would inherit that.
        default = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        errors = (self.folder / "stderr.txt").open("a")
        self.process = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=errors, text=True, preexec_fn=default
        )
        errors.close()
        self.tally.starts += 1
        return self.process

    def kill(self, kill: Kill) -> None:
        """Sends a signal when its time has come; after one to the run, waits until nothing of it is left."""
        process = self.process
        if process is None or process.poll() is not None:
            process = self.start(trials=10_000)
        time.sleep(kill.after_seconds)
        target = process.pid if kill.hits_run else self._await_worker(process)
        children = _children(process.pid)
        self.look()
        os.kill(target, kill.signal)
        self.tally.kills.append(kill)
        if kill.hits_run:
            code = process.wait(WAIT_SECONDS)
            if code != EXIT_CODES[kill.signal]:
                self.tally.wrong_codes.append(f"{kill.signal.name}: {code}")
            self._await_end(children)
        self.look()

    def finish(self) -> StudyView:
        """Returns the study after the run, stopped once more, has gone on to its end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(WAIT_SECONDS)
        trials = load_study(STUDY).trained_count + MORE_TRIALS
        code = self.start(trials=trials).wait(4 * WAIT_SECONDS)
        if code != 0:
            self.tally.wrong_codes.append(f"end: {code}")
        self.look()
        return load_study(STUDY)

    def look(self) -> None:
        """Compares the study with what was finished when it was last looked at."""
        journal = self.folder / "repnet-studies" / "journal.log"
        if journal.exists():
            records = [record for view in list_studies(open_storage(None)) for record in view.records]
            found = {(r.number, r.design_id, r.validation_accuracy) for r in records if r.outcome is Outcome.TRAINED}
            self.tally.lost += len(self.tally.seen - found)
            self.tally.seen |= found

    def _await_worker(self, process: subprocess.Popen[str]) -> int:
        """Returns the id of a worker, once there is one.

        Raises:
            RuntimeError: the run has ended by itself.
        """
        while process.poll() is None:
            workers = [child for child, command in _children(process.pid).items() if b"spawn_main" in command]
            if workers:
                return self.random.choice(workers)
            time.sleep(0.02)
        said = (self.folder / "stderr.txt").read_text()
        raise RuntimeError(f"The run ended by itself with code {process.returncode}: {said}")

    def _await_end(self, children: dict[int, bytes]) -> None:
        started = time.monotonic()
        left = children
        while left and time.monotonic() < started + WAIT_SECONDS:
            left = {child: command for child, command in left.items() if _command(child) == command}
            time.sleep(0.02)
        self.tally.longest_end_seconds = max(self.tally.longest_end_seconds, time.monotonic() - started)
        self.tally.left_behind += left.values()


def draw_kills(random: Random, count: int) -> list[Kill]:
    """Returns kills at random moments."""
    return [
        Kill(random.random() < 0.5, random.choice(SIGNALS), random.uniform(0.0, LONGEST_SECONDS)) for _ in range(count)
    ]


def doubled(records: Sequence[TrialRecord]) -> int:
    """Returns how many trained trials have a design that another one has."""
    trained = [record.design_id for record in records if record.outcome is Outcome.TRAINED]
    return len(trained) - len(set(trained))


def cut_off(records: Sequence[TrialRecord]) -> set[str]:
    """Returns the designs that a kill or an interrupt cut off."""
    reasons = {*CutOff, INTERRUPTED}
    return {
        record.design_id for record in records if record.outcome is Outcome.INTERRUPTED and record.reason in reasons
    }


def untried(records: Sequence[TrialRecord]) -> set[str]:
    """Returns the designs that were cut off and not trained later."""
    return cut_off(records) - {record.design_id for record in records if record.outcome is Outcome.TRAINED}


def retrained_alike(view: StudyView, random: Random, *, count: int) -> tuple[int, int]:
    """Returns how many designs this process trains to the very losses and accuracy of the study, and of how many."""
    from repnet_search.spec.resolve import resolve
    from repnet_search.training.proxy import train_design
    from repnet_search.training.task import TaskOptions, load_task

    task = load_task(TaskOptions(accelerator="cpu"), view.settings.backbone)
    trained = [record for record in view.records if record.outcome is Outcome.TRAINED]
    chosen = random.sample(trained, min(count, len(trained)))
    alike = 0
    for record in chosen:
        _, result = train_design(resolve(record.design), task, view.settings.training)
        losses = tuple(float(f"{loss:.5g}") for loss in result.losses)
        alike += (result.validation_accuracy, losses) == (record.validation_accuracy, record.losses)
    return alike, len(chosen)


def _children(process: int) -> dict[int, bytes]:
    """Returns the living children of a process and their command lines."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return {}
    commands = {int(child): _command(int(child)) for child in children}
    return {child: command for child, command in commands.items() if command}  # those that have ended have none


def _command(process: int) -> bytes:
    """Returns a process's command line, empty where it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def main() -> None:
    """Kills, finishes, compares, and writes what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    random = Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        run = KilledRun(Path(folder), random)
        for number, kill in enumerate(draw_kills(random, arguments.kills), 1):
            run.kill(kill)
            print(f"{number}: {kill}; {len(run.tally.seen)} finished, {run.tally.lost} lost", flush=True)
        view = run.finish()
        print((run.folder / "stderr.txt").read_text().strip(), file=sys.stderr)
        lines = _report(run, view, random, seed=arguments.seed)
    print("\n".join(lines))
    save_text(arguments.to, "\n".join(lines) + "\n")


def _report(run: KilledRun, view: StudyView, random: Random, *, seed: int) -> list[str]:
    tally, records = run.tally, view.records
    journal = (run.folder / "repnet-studies" / "journal.log").read_bytes().splitlines()
    baselines = [r for r in records if r.origin is Origin.LAST_LAYER and r.outcome is Outcome.TRAINED]
    alike, compared = retrained_alike(view, random, count=RETRAINED)
    hit = {(who, name): 0 for who in ("run", "workers") for name in SIGNALS}
    for kill in tally.kills:
        hit["run" if kill.hits_run else "workers", kill.signal] += 1
    kinds = "; ".join(f"{count} × {name.name} to the {who}" for (who, name), count in hit.items())
    return [
        "# Killed, and nothing lost",
        "",
        f"`python -m studies.kills --kills {len(tally.kills)} --seed {seed}`: a run of two workers on the tiny space,",
        f"hit at random moments and started {tally.starts} times.",
        "",
        f"Hits: {kinds}.",
        "",
        "| what | found |",
        "|---|--:|",
        f"| trained designs | {view.count(Outcome.TRAINED)} |",
        f"| finished trials lost | {tally.lost} |",
        f"| designs trained twice | {doubled(records)} |",
        f"| designs cut off | {len(cut_off(records))} |",
        f"| of them not tried again | {len(untried(records))} |",
        f"| last layers alone trained, of 9 | {len(baselines)} |",
        f"| trials still running | {view.count(Outcome.RUNNING)} |",
        f"| journal lines that are no JSON | {sum(not _is_json(line) for line in journal)} of {len(journal)} |",
        f"| wrong exit codes | {len(tally.wrong_codes)} {' '.join(tally.wrong_codes)} |",
        f"| processes left behind | {len(tally.left_behind)} |",
        f"| longest until workers had ended, seconds | {tally.longest_end_seconds:.1f} |",
        f"| tracebacks on stderr | {(run.folder / 'stderr.txt').read_text().count('Traceback')} |",
        f"| trained alike by one process alone | {alike} of {compared} |",
    ]


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    main()
