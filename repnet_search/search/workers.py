"""Worker processes on one study: each proposes, trains and records; the parent watches.

Workers ignore Ctrl-C, which a terminal sends to all; the parent asks them to stop, and each then records its running
trial as failed.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from types import FrameType

import optuna

from repnet_search.errors import RepnetSearchError, describe_os_error
from repnet_search.results.record import Outcome
from repnet_search.results.storage import load_optuna_study, open_storage
from repnet_search.results.study import RecordReader
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.run import Limits, Listener, Search
from repnet_search.search.space import SearchSpace
from repnet_search.spec.study import StudySpec
from repnet_search.training.task import TaskOptions, load_task

POLL_SECONDS = 0.2
STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker process needs to know."""

    study_name: str
    storage: str | None
    settings: StudySpec
    options: TaskOptions
    limits: Limits


def run_workers(job: Job, study: optuna.Study, *, count: int, listener: Listener) -> None:
    """Runs worker processes until a limit is reached, telling the listener of each trial that ends.

    Raises:
        RepnetSearchError: a worker gave up; the others were stopped.
        KeyboardInterrupt: passed on, after all workers have stopped.
    """
    context = multiprocessing.get_context("spawn")
    complaints: SimpleQueue[str] = context.SimpleQueue()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        workers = [context.Process(target=_work, args=(job, index, complaints)) for index in range(1, count + 1)]
        for worker in workers:
            worker.start()
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        _watch(workers, study, listener)
    finally:
        _stop(workers)
    if not complaints.empty():
        raise RepnetSearchError(complaints.get())
    if any(worker.exitcode for worker in workers):
        raise RepnetSearchError(
            "A worker process was killed, perhaps for memory; what was finished is kept, and the same command goes on. "
            "Use --workers 1 to need less memory."
        )


def _watch(workers: Sequence[BaseProcess], study: optuna.Study, listener: Listener) -> None:
    """Tells the listener of new records until all workers have ended, or one has failed."""
    reader = RecordReader(study)
    told = {record.number for record in reader.read() if record.outcome is not Outcome.RUNNING}
    running = True
    while running:
        # Asked before reading, so that the last records are not missed.
        running = any(worker.is_alive() for worker in workers) and not any(worker.exitcode for worker in workers)
        for record in reader.read():
            if record.outcome is not Outcome.RUNNING and record.number not in told:
                told.add(record.number)
                listener(record)
        if running:
            time.sleep(POLL_SECONDS)


def _stop(workers: Sequence[BaseProcess]) -> None:
    for worker in workers:
        if worker.is_alive():
            worker.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
        if worker.is_alive():
            worker.kill()
            worker.join()


def _work(job: Job, index: int, complaints: SimpleQueue[str]) -> None:
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        settings = job.settings
        task = load_task(job.options, settings.backbone)
        feasible = FeasibleSpace(
            SearchSpace(settings.space, settings.backbone),
            limits=settings.limits,
            classes=task.classes,
            schedule=settings.schedule,
        )
        study = load_optuna_study(job.study_name, open_storage(job.storage))
        Search(study, settings, task, feasible, worker=index).run(job.limits, listener=lambda _: None)
    except KeyboardInterrupt:
        return
    except RepnetSearchError as error:
        complaints.put(str(error))
        raise SystemExit(1) from None
    except OSError as error:
        complaints.put(describe_os_error(error))
        raise SystemExit(1) from None


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt
