"""Recording trainings design by design in several processes; an interrupted recording goes on where it stopped.

A record is JSON: what it is about, and a line per design.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from repnet_search.spec import BackboneSpec
from repnet_search.spec.files import save_text
from repnet_search.training.task import Task, TaskOptions

Line = dict[str, Any]
"""What was recorded of a design."""


class Recorder(Protocol):
    """Trains designs in one process."""

    def record(self, job: Any) -> Line:
        """Returns a design's line."""
        ...


_recorder: list[Recorder] = []


def _prepare(create: Callable[[], Recorder]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes: the first one ends the others
    torch.set_num_threads(1)
    _recorder.append(create())


def _record(job: Any) -> Line:
    return _recorder[0].record(job)


def record_all(create: Callable[[], Recorder], jobs: Sequence[Any], *, workers: int) -> Iterator[Line]:
    """Yields the lines of designs as they end.

    Args:
        create: makes a process's recorder; it is pickled.
        jobs: what each line is made of.
        workers: processes, each of one thread.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _prepare, (create,)) as pool:
        yield from pool.imap_unordered(_record, jobs)


def load_lines(path: Path) -> list[Line]:
    """Returns what was recorded so far."""
    lines: list[Line] = json.loads(path.read_text())["designs"] if path.exists() else []
    return lines


def save_lines(path: Path, about: Line, lines: Sequence[Line]) -> None:
    """Writes a record, a design per line."""
    text = ",\n".join(map(json.dumps, lines))
    save_text(path, f'{{"about": {json.dumps(about)},\n"designs": [\n{text}\n]}}\n')


def describe_task(task: Task, *, proxy_images: int | None) -> Line:
    """Returns what a record is made with: neither weights nor images are part of the project."""
    weights = task.weights_of(BackboneSpec())
    return {
        "weights": {"name": weights.name, "sha256": weights.sha256},
        "data": {"name": task.source.name, "sha256": task.source.sha256(), "proxy_images": proxy_images},
        "torch": torch.__version__,
    }


def add_recording_options(parser: argparse.ArgumentParser) -> None:
    """Adds what a record is made with, and where it goes: next to the studies by default."""
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--input-range")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)


def make_task_options(arguments: argparse.Namespace, *, proxy_images: int | None) -> TaskOptions:
    """Returns the task that the options name."""
    return TaskOptions(
        data=arguments.data,
        proxy_images=proxy_images,
        weights=(arguments.weights,) if arguments.weights else (),
        input_range=arguments.input_range,
    )
