"""Worker processes on one study: each proposes, trains and records; the parent watches.

Workers never see Ctrl-C, which a terminal sends to all; the parent asks them to stop, and each then records its running
trial as interrupted. One that is killed is replaced, its design tried again. Workers whose parent is killed end
themselves.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType

import optuna

from repnet_search.errors import RepnetSearchError, describe_os_error
from repnet_search.results.confirmation import ConfirmedRun, read_runs
from repnet_search.results.record import Outcome
from repnet_search.results.storage import open_storage, study_folder
from repnet_search.results.study import RecordReader
from repnet_search.search.confirm import Confirmer, RunListener
from repnet_search.search.cut_off import CutOff, MarkedStudy, settle_cut_off
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.lock import hold_study
from repnet_search.search.run import Limits, Listener, Search, save_best
from repnet_search.search.space import SearchSpace
from repnet_search.spec.study import StudySpec
from repnet_search.training.task import TaskOptions, load_task

POLL_SECONDS = 0.2
SETTLE_SECONDS = 5.0
STOP_SECONDS = 20.0
REPLACEMENTS = 5
"""Killed workers that one run replaces: where more are killed, the next would be as well."""

_FAILED_CODE = 1
_STOPPED_CODE = 128 + signal.SIGTERM


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker process needs to know."""

    study_name: str
    storage: str | None
    settings: StudySpec
    options: TaskOptions
    limits: Limits
    runs: tuple[ConfirmedRun, ...] = ()
    """Trainings of a confirmation, which the workers share; where there are none, they search."""
    count: int = 1


@dataclass(frozen=True, slots=True)
class _Worker:
    """A process, and where it says why it gave up."""

    index: int
    process: BaseProcess
    complaint: Connection

    @property
    def is_lost(self) -> bool:
        """Whether it ended without having finished."""
        return self.process.exitcode not in (None, 0)


def run_workers(job: Job, study: optuna.Study, *, listener: Listener) -> None:
    """Runs worker processes until a limit is reached, telling the listener of each trial that ends.

    Raises:
        RepnetSearchError: a worker gave up, or too many were killed; the others were stopped.
        KeyboardInterrupt: passed on, after all workers have stopped.
    """
    _run_team(job, study, _tell_of_records(study, listener))
    # Two workers may have finished at once, and the one with the older view have written last.
    save_best(study, job.settings, RecordReader(study).read())


def confirm_with_workers(job: Job, study: optuna.Study, *, listener: RunListener) -> None:
    """Runs the trainings of a confirmation in worker processes, telling the listener of each; raises alike."""
    _run_team(job, study, _tell_of_runs(study, job.runs, listener))


def _tell_of_records(study: optuna.Study, listener: Listener) -> Callable[[], None]:
    """Returns what tells a listener of the trials that have ended since it was asked last."""
    reader = RecordReader(study)
    told = {record.number for record in reader.read() if record.outcome is not Outcome.RUNNING}

    def tell() -> None:
        for record in reader.read():
            if record.outcome is not Outcome.RUNNING and record.number not in told:
                told.add(record.number)
                listener(record)

    return tell


def _tell_of_runs(study: optuna.Study, runs: Sequence[ConfirmedRun], listener: RunListener) -> Callable[[], None]:
    """Returns the same for the trainings of a confirmation."""
    waiting = {run.key for run in runs}

    def tell() -> None:
        for run in read_runs(study):
            if run.key in waiting:
                waiting.remove(run.key)
                listener(run)

    return tell


def _run_team(job: Job, study: optuna.Study, tell: Callable[[], None]) -> None:
    team = _Team(job)
    try:
        for index in range(1, job.count + 1):
            team.start(index)
        _watch(team, study, tell)
    finally:
        team.stop()


class _Team:
    """The worker processes of a run."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.workers: list[_Worker] = []
        self.killed = 0

    @property
    def is_working(self) -> bool:
        """Whether a worker is alive."""
        return any(worker.process.is_alive() for worker in self.workers)

    def start(self, index: int) -> None:
        """Starts a worker; its index decides what it proposes."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(self.job, index, theirs))
        with _held_interrupt():
            process.start()
        theirs.close()
        self.workers.append(_Worker(index, process, ours))

    def replace(self, lost: list[_Worker]) -> None:
        """Starts others in the place of workers that were killed.

        Raises:
            RepnetSearchError: a worker gave up by itself, or too many were killed.
        """
        for worker in lost:
            self.workers.remove(worker)
            complaint = _read_complaint(worker)
            if complaint:
                raise RepnetSearchError(complaint)
            self.killed += 1
            if self.killed > REPLACEMENTS:
                raise RepnetSearchError(
                    f"Workers were killed {self.killed} times (the last by {_cause(worker)}), perhaps for memory; what "
                    "was finished is kept, and the same command goes on. Use fewer --workers to need less memory."
                )
            self.start(worker.index)

    def stop(self) -> None:
        """Asks the workers to stop, and kills those that do not within STOP_SECONDS or until a second interrupt."""
        processes = [worker.process for worker in self.workers]
        try:
            for process in processes:
                process.terminate()
            deadline = time.monotonic() + STOP_SECONDS
            for process in processes:
                process.join(max(0.0, deadline - time.monotonic()))
        finally:
            for process in processes:
                process.kill()
                process.join()


def _watch(team: _Team, study: optuna.Study, tell: Callable[[], None]) -> None:
    """Tells of what is new until all workers have ended, replacing those that are killed."""
    settled = time.monotonic()
    while True:
        # Asked before reading, so that the last records are not missed.
        is_working = team.is_working
        lost = [worker for worker in team.workers if worker.is_lost]
        # Now and then without a loss too: of another run on the study nobody may be left.
        if lost or time.monotonic() > settled + SETTLE_SECONDS:
            failed = any(worker.process.exitcode == _FAILED_CODE for worker in lost)
            settle_cut_off(study, reason=CutOff.WORKER_FAILED if failed else CutOff.WORKER_KILLED)
            settled = time.monotonic()
        tell()
        team.replace(lost)
        if not is_working and not lost:
            return
        time.sleep(POLL_SECONDS)


@contextmanager
def _held_interrupt() -> Iterator[None]:
    """Holds Ctrl-C back from us and, for good, from a process that is started meanwhile."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # lifts the mask where it has to start first
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _read_complaint(worker: _Worker) -> str:
    """Returns why a worker that has ended gave up, "" where it said nothing."""
    try:
        complaint: str = worker.complaint.recv()
    except (EOFError, OSError):  # killed while it spoke
        return ""
    return complaint


def _cause(worker: _Worker) -> str:
    code = worker.process.exitcode or 0
    return signal.Signals(-code).name if code < 0 else f"an end with code {code}"


def _work(job: Job, index: int, complaint: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        signal.signal(signal.SIGTERM, _interrupt)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with hold_study(study_folder(job.study_name)):
            _do_share(job, index)
    except KeyboardInterrupt:
        raise SystemExit(_STOPPED_CODE) from None
    except RepnetSearchError as error:
        complaint.send(str(error))
        raise SystemExit(_FAILED_CODE) from None
    except OSError as error:
        complaint.send(describe_os_error(error))
        raise SystemExit(_FAILED_CODE) from None
    except Exception as error:
        complaint.send(f"A worker failed: {type(error).__name__}: {error}. What was finished is kept.")
        raise  # with _FAILED_CODE; its traceback goes to stderr


def _do_share(job: Job, index: int) -> None:
    settings = job.settings
    task = load_task(job.options, *settings.backbones)
    study = MarkedStudy(job.study_name, open_storage(job.storage))
    if job.runs:
        Confirmer(study, settings, task).run(job.runs[index - 1 :: job.count], listener=lambda _: None)
        return
    feasible = FeasibleSpace(
        SearchSpace(settings.space, *settings.backbones),
        limits=settings.limits,
        classes=task.classes,
        schedule=settings.schedule,
    )
    Search(study, settings, task, feasible, worker=index).run(job.limits, listener=lambda _: None)


def _interrupt(_: int, __: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what the first cuts off is being recorded
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """Waits until the parent has ended, however it did; then ends this process, its running trial recorded."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        os._exit(_STOPPED_CODE)
