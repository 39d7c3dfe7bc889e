"""Every design of a small space that fits, trained once: the table that studies/search_quality.py replays.

python -m studies.search_table digits
python -m studies.search_table cifar --weights FILE.safetensors --input-range=-1,1 --data DIR

writes studies/search_table_TASK.json: for each design its choices, training memory, validation accuracy after each
epoch and seconds, and the seconds of a plain PyTorch loop over the whole network (a few steps, scaled up). An
interrupted recording goes on. Weights and images are not part of the project; the record holds their sha256.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from repnet_search.data import Split
from repnet_search.search.canonical import CanonicalChoices
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.space import SearchSpace
from repnet_search.spec import BackboneSpec, Optimizer, Recipe
from repnet_search.spec.files import save_text
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.spec.space import ModuleChoices, SpaceSpec
from repnet_search.spec.target import DeviceLimits
from repnet_search.spec.training import TrainingSpec
from repnet_search.training.proxy import Rungs, create_model, train_design
from repnet_search.training.task import Task, TaskOptions, load_task
from repnet_search.training.update import UpdateRule

RECIPES = (
    Recipe(optimizer=Optimizer.NORMALISED_SGD, accumulate=16, lr=0.01),
    Recipe(optimizer=Optimizer.NORMALISED_SGD, accumulate=64, lr=0.0178, head_lr_ratio=0.1),
)
STOCK_STEPS = 3


@dataclass(frozen=True, slots=True)
class TableTask:
    """A small space, a budget, and how its designs are trained."""

    space: SpaceSpec
    budget_bytes: int
    training: TrainingSpec
    proxy_images: int | None = None


def create_space(**fields: Any) -> SpaceSpec:
    """Returns a space of two widths and two recipes with some fields set."""
    module = ModuleChoices(depth=(1,), width=(0.5, 1.0), kernel=(3,), groups=(4,), pool=(2,))
    return SpaceSpec(write=("both",), module=module, recipe=RECIPES, **fields)


TASKS = {
    "digits": TableTask(
        create_space(resolution=(48,), image_pool=(2,), connector_blocks=(3, 5, 9, 12, 15, 17), readers=(0, 2, "all")),
        budget_bytes=176 * 1024,
        training=TrainingSpec(epochs=10, views=8),
    ),
    "cifar": TableTask(
        create_space(
            resolution=(64, 96),
            activation_bits=(8,),
            image_pool=(4,),
            connector_blocks=(5, 9, 12, 15, 17),
            readers=(0, 1, "all"),
        ),
        budget_bytes=152 * 1024,
        training=TrainingSpec(epochs=8, views=1),
        proxy_images=2000,
    ),
}


def create_feasible(task: TableTask) -> FeasibleSpace:
    """Returns a task's space under its budget."""
    space = SearchSpace(task.space, BackboneSpec())
    return FeasibleSpace(space, limits=DeviceLimits(task.budget_bytes), classes=10)


def list_designs(feasible: FeasibleSpace) -> list[list[int]]:
    """Returns canonical choices of every design that fits, each design once, in a shuffled order."""
    memory = feasible.fitting.memory
    rows = np.unique(CanonicalChoices(feasible.space)(feasible.fitting.list_all()), axis=0)
    found: dict[str, list[int]] = {}
    for row in rows[np.random.default_rng(0).permutation(len(rows))]:
        candidate = feasible.candidate(memory.params(row))
        if feasible.fits(candidate):
            found.setdefault(candidate.resolved.id, row.tolist())
    return list(found.values())


class Recorder:
    """Trains designs of a task in one process."""

    def __init__(self, name: str, options: TaskOptions) -> None:
        self.table_task = TASKS[name]
        self.feasible = create_feasible(self.table_task)
        self.task = load_task(options, BackboneSpec())

    def record(self, row: list[int]) -> dict[str, Any]:
        """Returns a design's line of the table."""
        candidate = self.feasible.candidate(self.feasible.fitting.memory.params(np.array(row, dtype=np.int16)))
        training = self.table_task.training
        curve: list[float] = []

        def judge(_: int, accuracy: float) -> bool:
            curve.append(accuracy)
            return True

        _, result = train_design(candidate.resolved, self.task, training, rungs=Rungs(range(1, training.epochs), judge))
        return {
            "choices": row,
            "id": candidate.resolved.id,
            "ram_bytes": candidate.memory.ram_bytes,
            "trainable_parameters": candidate.memory.trainable_parameters,
            "curve": [round(accuracy, 5) for accuracy in (*curve, result.validation_accuracy)],
            "seconds": round(result.elapsed_seconds, 3),
            "stock_seconds": round(self._time_stock(candidate.resolved), 3),
        }

    def _time_stock(self, resolved: ResolvedDesign) -> float:
        """Returns the seconds that all steps of a plain loop would take: images in, whole network, every step."""
        training, recipe = self.table_task.training, resolved.design.recipe
        model = create_model(resolved, self.task, seed=0)
        rule = UpdateRule(model, recipe, head=model.head_parameters())
        data = self.task.source.load(Split.TRAIN, resolution=resolved.design.resolution)
        normalise = self.task.weights_of(resolved.design.backbone).input_range.normalise
        images, labels = data.images[: recipe.accumulate], data.labels[: recipe.accumulate]
        seconds = []
        for _ in range(1 + STOCK_STEPS):
            started = time.perf_counter()
            functional.cross_entropy(model(normalise(images)), labels).backward()
            rule.step()
            seconds.append(time.perf_counter() - started)
        steps = training.epochs * training.views * len(data) / recipe.accumulate
        return steps * min(seconds[1:])


_recorder: list[Recorder] = []


def _prepare(name: str, options: TaskOptions) -> None:
    torch.set_num_threads(1)
    _recorder.append(Recorder(name, options))


def _record(row: list[int]) -> dict[str, Any]:
    return _recorder[0].record(row)


def record_all(name: str, options: TaskOptions, rows: list[list[int]], workers: int) -> Iterator[dict[str, Any]]:
    """Yields the lines of designs as they end."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _prepare, (name, options)) as pool:
        yield from pool.imap_unordered(_record, rows)


def describe(name: str, task: Task) -> dict[str, Any]:
    """Returns what the table is of."""
    weights = task.weights_of(BackboneSpec())
    return {
        "task": name,
        "budget_bytes": TASKS[name].budget_bytes,
        "space": TASKS[name].space.model_dump(mode="json"),
        "training": TASKS[name].training.model_dump(mode="json"),
        "weights": {"name": weights.name, "sha256": weights.sha256},
        "data": {"name": task.source.name, "sha256": task.source.sha256(), "proxy_images": TASKS[name].proxy_images},
        "torch": torch.__version__,
    }


def save_table(path: Path, head: dict[str, Any], designs: list[dict[str, Any]]) -> None:
    """Writes the table, a design per line."""
    lines = ",\n".join(json.dumps(design) for design in designs)
    save_text(path, f'{{"about": {json.dumps(head)},\n"designs": [\n{lines}\n]}}\n')


def main() -> None:
    """Records a table, or goes on with one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--input-range")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    options = TaskOptions(
        data=arguments.data,
        proxy_images=TASKS[arguments.task].proxy_images,
        weights=(arguments.weights,) if arguments.weights else (),
        input_range=arguments.input_range,
    )
    path = arguments.folder / f"search_table_{arguments.task}.json"
    head = describe(arguments.task, load_task(options, BackboneSpec()))
    designs = json.loads(path.read_text())["designs"] if path.exists() else []
    known = {tuple(design["choices"]) for design in designs}
    rows = [row for row in list_designs(create_feasible(TASKS[arguments.task])) if tuple(row) not in known]
    print(f"{len(known)} designs recorded, {len(rows)} to go", flush=True)
    for design in record_all(arguments.task, options, rows, arguments.workers):
        designs.append(design)
        if len(designs) % 20 == 0:
            save_table(path, head, designs)
            print(f"{len(designs)}: {design['curve'][-1]:.3f}, {design['seconds']} s", flush=True)
    save_table(path, head, designs)


if __name__ == "__main__":
    main()
