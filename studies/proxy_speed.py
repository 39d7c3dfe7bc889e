"""Designs trained per hour: a plain loop against ours, on the same designs, epochs and images.

python -m studies.proxy_speed --weights FILE.safetensors --input-range=-1,1 --data DIR [--to FILE.md]

Plain is one process with all cores that runs the whole network at every step. Ours are as many workers as cores, one
thread each, which share frozen features in a cache that is empty at first. Two samples, uniform over the designs of the
default space that fit 256KB in int8 at 96 px with one recipe: all of them, and those whose connectors only read. Then
the same designs from several seeds both ways: accuracies are to be equal within noise. What
bounds ours: studies/proxy_profile.py.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional

from repnet_search.data import Split
from repnet_search.results.statistics import mean_and_interval
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.space import Params, SearchSpace
from repnet_search.spec import BackboneSpec
from repnet_search.spec.bundled import load_space
from repnet_search.spec.files import save_text
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.spec.target import DeviceLimits
from repnet_search.spec.training import TrainingSpec
from repnet_search.training.metric import measure_predictions
from repnet_search.training.proxy import create_model, train_design
from repnet_search.training.task import Task, TaskOptions, load_task
from repnet_search.training.update import UpdateRule

BUDGET_BYTES = 256 * 1024
RESOLUTION = 96
READERS_ONLY: Params = {"readers": "all", "write": "both"}
EVALUATION_BATCH = 64


def sample_designs(count: int, *, fixed: Params) -> list[ResolvedDesign]:
    """Returns designs drawn uniformly from those that fit, with the space's first recipe and the values of `fixed`."""
    changes = {"resolution": (RESOLUTION,), "activation_bits": (8,)}
    space = SearchSpace(load_space("default").model_copy(update=changes), BackboneSpec())
    feasible = FeasibleSpace(space, limits=DeviceLimits(BUDGET_BYTES), classes=10)
    held = fixed | {"recipe": next(iter(space.recipes))}
    memory = feasible.fitting.memory
    drawn = feasible.fitting.draw(8 * count, seed=0, fixed=held).sample.choices
    found: dict[str, ResolvedDesign] = {}
    for row in drawn:
        candidate = feasible.candidate(memory.params(row))
        if candidate.resolved.modules and feasible.fits(candidate):
            found.setdefault(candidate.resolved.id, candidate.resolved)
    return list(found.values())[:count]


def train_plain(resolved: ResolvedDesign, task: Task, training: TrainingSpec) -> float:
    """Returns the validation accuracy of a plain loop: images in, the whole network forward, at every step."""
    recipe = resolved.design.recipe
    model = create_model(resolved, task, seed=training.seed)
    rule = UpdateRule(model, recipe, head=model.head_parameters())
    data = task.source.load(Split.TRAIN, resolution=RESOLUTION)
    normalise = task.weights_of(resolved.design.backbone).input_range.normalise
    order = torch.Generator().manual_seed(training.seed)
    steps = training.epochs * math.ceil(len(data) / recipe.accumulate)
    done = 0
    model.train()
    for _ in range(training.epochs):
        for chosen in torch.randperm(len(data), generator=order).split(recipe.accumulate):
            rule.scale = 0.5 * (1 + math.cos(math.pi * done / steps))
            functional.cross_entropy(model(normalise(data.images[chosen])), data.labels[chosen]).backward()
            rule.step()
            done += 1
    return _validate(model, task, normalise)


def _validate(model: torch.nn.Module, task: Task, normalise: object) -> float:
    data = task.source.load(Split.VALIDATION, resolution=RESOLUTION)
    metric = TrainingSpec().metric
    model.eval()
    assert callable(normalise)
    with torch.inference_mode():
        chunks = torch.arange(len(data)).split(EVALUATION_BATCH)
        predicted = torch.cat([model(normalise(data.images[chunk])).argmax(1) for chunk in chunks])
    return measure_predictions(metric, predicted, data.labels)


_task: list[Task] = []


def _prepare(options: TaskOptions) -> None:
    torch.set_num_threads(1)
    _task.append(load_task(options, BackboneSpec()))


def _train_ours(job: tuple[ResolvedDesign, TrainingSpec]) -> float:
    resolved, training = job
    return train_design(resolved, _task[0], training)[1].validation_accuracy


def time_ours(
    jobs: Sequence[tuple[ResolvedDesign, TrainingSpec]], options: TaskOptions, *, workers: int
) -> tuple[float, list[float]]:
    """Returns the seconds of worker processes, their start and an empty feature cache included, and the accuracies."""
    started = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(workers, _prepare, (options,)) as pool:
        accuracies = pool.map(_train_ours, jobs, chunksize=1)
    return time.perf_counter() - started, accuracies


def time_plain(
    jobs: Sequence[tuple[ResolvedDesign, TrainingSpec]], task: Task, *, cores: int
) -> tuple[float, list[float]]:
    """Returns the seconds of one process with all cores, and the accuracies."""
    torch.set_num_threads(cores)
    started = time.perf_counter()
    accuracies = [train_plain(resolved, task, training) for resolved, training in jobs]
    return time.perf_counter() - started, accuracies


def main() -> None:
    """Prints the comparison, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--input-range", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--designs", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--to", type=Path)
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    options = TaskOptions(
        data=arguments.data, proxy_images=2000, weights=(arguments.weights,), input_range=arguments.input_range
    )
    with tempfile.TemporaryDirectory() as cache:
        os.environ["REPNET_SEARCH_CACHE"] = cache
        text = compare(options, arguments, cores)
    print(text, end="")
    if arguments.to is not None:
        save_text(arguments.to, text)


def compare(options: TaskOptions, arguments: argparse.Namespace, cores: int) -> str:
    """Returns the record as Markdown."""
    task = load_task(options, BackboneSpec())
    weights = task.weights_of(BackboneSpec())
    task.source.load(Split.TRAIN, resolution=RESOLUTION)  # decoded for both
    lines = [
        "# Designs trained per hour",
        "",
        f"Weights {weights.name} (sha256 `{weights.sha256[:16]}…`), images {task.source.name}, int8, {RESOLUTION} px, "
        f"{arguments.epochs} epochs of {task.source.count(Split.TRAIN)} images; {cores} cores; torch "
        f"{torch.__version__}. Written by `python -m studies.proxy_speed`.",
        "",
        "| sample | designs | plain, per hour | ours, per hour | ratio |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, fixed in (("all that fit", {}), ("connectors that only read", READERS_ONLY)):
        designs = sample_designs(arguments.designs, fixed=fixed)
        jobs = [(resolved, TrainingSpec(epochs=arguments.epochs, views=1)) for resolved in designs]
        plain, _ = time_plain(jobs, task, cores=cores)
        ours, _ = time_ours(jobs, options, workers=cores)
        per_hour = [3600 * len(jobs) / seconds for seconds in (plain, ours)]
        lines.append(f"| {name} | {len(jobs)} | {per_hour[0]:.0f} | {per_hour[1]:.0f} | {plain / ours:.1f} |")
        print(lines[-1], flush=True)
    paired = sample_designs(2, fixed={})
    seeds = [
        (resolved, TrainingSpec(epochs=arguments.epochs, views=1, seed=seed))
        for resolved in paired
        for seed in range(arguments.seeds)
    ]
    _, plain_accuracies = time_plain(seeds, task, cores=cores)
    _, our_accuracies = time_ours(seeds, options, workers=cores)
    differences = [100 * (ours - plain) for ours, plain in zip(our_accuracies, plain_accuracies, strict=True)]
    mean, half = mean_and_interval(differences)
    lines += [
        "",
        f"Accuracy, ours less plain, over {len(paired)} designs and {arguments.seeds} seeds in pairs: {mean:+.2f} ± "
        f"{half:.2f} points (the largest difference {max(map(abs, differences)):.1f}; between seeds the accuracies "
        f"themselves vary by {100 * statistics.stdev(our_accuracies):.1f}).",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
