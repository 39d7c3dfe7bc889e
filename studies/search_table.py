"""Every design of a small space that fits, trained once: the table that studies/search_quality.py replays.

python -m studies.search_table digits
python -m studies.search_table cifar --weights FILE.safetensors --input-range=-1,1 --data DIR

writes studies/search_table_TASK.json: for each design its choices, training memory, validation accuracy after each
epoch and seconds, and the seconds of a plain PyTorch loop over the whole network (a few steps, scaled up). Seconds are
those of one core's computing, so that other programs do not count. An interrupted recording goes on. Weights and images
are not part of the project; the record holds their sha256.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch.nn import functional

from repnet_search.data import Split
from repnet_search.search.canonical import CanonicalChoices
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.space import SearchSpace
from repnet_search.spec import BackboneSpec, Optimizer, Recipe
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.spec.space import ModuleChoices, SpaceSpec
from repnet_search.spec.target import DeviceLimits
from repnet_search.spec.training import TrainingSpec
from repnet_search.training.proxy import Rungs, create_model, train_design
from repnet_search.training.task import Task, TaskOptions, load_task
from repnet_search.training.update import UpdateRule
from studies.recording import (
    add_recording_options,
    describe_task,
    load_lines,
    make_task_options,
    record_all,
    save_lines,
)

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
    """Returns a space of two depths and two recipes with some fields set."""
    module = ModuleChoices(depth=(0, 1), width=(1.0,), kernel=(3,), groups=(4,), pool=(2,))
    return SpaceSpec(write=("both",), module=module, recipe=RECIPES, **fields)


TASKS = {
    "digits": TableTask(
        create_space(resolution=(48,), image_pool=(2,), connector_blocks=(3, 5, 9, 12, 15, 17), readers=(0, 2, "all")),
        budget_bytes=168 * 1024,
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
        budget_bytes=136 * 1024,
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

        started = time.process_time()
        _, result = train_design(candidate.resolved, self.task, training, rungs=Rungs(range(1, training.epochs), judge))
        seconds = time.process_time() - started
        return {
            "choices": row,
            "id": candidate.resolved.id,
            "ram_bytes": candidate.memory.ram_bytes,
            "trainable_parameters": candidate.memory.trainable_parameters,
            "curve": [round(accuracy, 5) for accuracy in (*curve, result.validation_accuracy)],
            "seconds": round(seconds, 3),
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
            started = time.process_time()
            functional.cross_entropy(model(normalise(images)), labels).backward()
            rule.step()
            seconds.append(time.process_time() - started)
        steps = training.epochs * training.views * len(data) / recipe.accumulate
        return steps * min(seconds[1:])


def describe(name: str, task: Task) -> dict[str, Any]:
    """Returns what the table is of."""
    return {
        "task": name,
        "budget_bytes": TASKS[name].budget_bytes,
        "space": TASKS[name].space.model_dump(mode="json"),
        "training": TASKS[name].training.model_dump(mode="json"),
        **describe_task(task, proxy_images=TASKS[name].proxy_images),
    }


def main() -> None:
    """Records a table, or goes on with one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    add_recording_options(parser)
    arguments = parser.parse_args()
    options = make_task_options(arguments, proxy_images=TASKS[arguments.task].proxy_images)
    path = arguments.folder / f"search_table_{arguments.task}.json"
    head = describe(arguments.task, load_task(options, BackboneSpec()))
    designs = load_lines(path)
    known = {tuple(design["choices"]) for design in designs}
    rows = [row for row in list_designs(create_feasible(TASKS[arguments.task])) if tuple(row) not in known]
    print(f"{len(known)} designs recorded, {len(rows)} to go", flush=True)
    for design in record_all(partial(Recorder, arguments.task, options), rows, workers=arguments.workers):
        designs.append(design)
        if len(designs) % 20 == 0:
            save_lines(path, head, designs)
            print(f"{len(designs)}: {design['curve'][-1]:.3f}, {design['seconds']} s", flush=True)
    save_lines(path, head, designs)


if __name__ == "__main__":
    main()
