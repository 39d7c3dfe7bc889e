"""What `repnet-search adapt` gives: a bundle that knows upright digits learns turned or inverted ones inside its arena.

python -m studies.adapt_digits [--steps 400]                    writes adapt_digits.md beside this file

Two designs on the embedded default, in fp32 and int8, are trained shortly and exported; each bundle then learns its
shifted digits pass after pass, and as a stream that shows each once.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from repnet_search.data import Split, create_source
from repnet_search.export.adapt import Adaptation, AdaptOptions, Decay, adapt
from repnet_search.export.adapt_subject import load_subject
from repnet_search.export.bundle import save_bundle
from repnet_search.export.place import hold_place
from repnet_search.memory import estimate_memory
from repnet_search.spec import BackboneSpec, Connector, Design, Optimizer, Recipe, resolve
from repnet_search.spec.files import save_text
from repnet_search.spec.training import TrainingSpec
from repnet_search.training.proxy import train_design
from repnet_search.training.task import Task, TaskOptions, load_task

LATE = tuple(Connector(after_block=block) for block in (10, 13, 17))
DESIGNS = {
    "fp32, sgd ×1": Design(connectors=LATE, recipe=Recipe(optimizer=Optimizer.SGD, lr=0.0562)),
    "int8, sgd ×1": Design(connectors=LATE, activation_bits=8, recipe=Recipe(optimizer=Optimizer.SGD, lr=0.0562)),
}
SHIFTS = ("turned by 90°", "inverted")
TRAINING = TrainingSpec(epochs=4)
SIZE = 48
LEARNT = 250
"""Digits that may be learnt, a fifth of them held out to validate; the others are the test images."""


def write_shifted(path: Path, task: Task, shift: str) -> None:
    """Writes digits that a bundle has not been trained on, its test images, as an .npz file."""
    digits = task.source.load(Split.TEST, resolution=SIZE)
    pixels = 255 - digits.images if shift == "inverted" else torch.rot90(digits.images, dims=(2, 3))
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    arrays: dict[str, Any] = {}
    for split, chosen in (("train", order[:LEARNT]), ("test", order[LEARNT:])):
        arrays |= {f"x_{split}": pixels[chosen].numpy(), f"y_{split}": digits.labels[chosen].numpy()}
    np.savez(path, **arrays)


def write_bundle(folder: Path, design: Design, task: Task) -> None:
    """Trains a design shortly and writes its bundle."""
    resolved = resolve(design, clamp_groups=True)
    model, _ = train_design(resolved, task, TRAINING)
    memory = estimate_memory(resolved, classes=task.classes)
    with hold_place(folder, force=False) as place:
        save_bundle(place, resolved, model, task, memory, accuracies={})


def run_all(folder: Path, task: Task, *, steps: int) -> Iterator[tuple[str, str, str, Adaptation]]:
    """Yields design, shift, mode and what came of it."""
    modes = {
        "passes": AdaptOptions(steps=steps),
        "stream": AdaptOptions(stream=True, decay=Decay.NONE),
    }
    for number, (name, design) in enumerate(DESIGNS.items()):
        write_bundle(folder / str(number), design, task)
        for shift in SHIFTS:
            write_shifted(folder / "images.npz", task, shift)
            source = create_source(folder / "images.npz", cache_bytes=0)
            for mode, options in modes.items():
                yield name, shift, mode, adapt(load_subject(folder / str(number), source), options)


def report(runs: list[tuple[str, str, str, Adaptation]], *, steps: int) -> str:
    """Returns the record as Markdown."""
    _, _, _, first = runs[0]
    lines = [
        "# Bundles that go on learning",
        "",
        f"Designs on the embedded backbone, {SIZE} px, connectors after blocks 10, 13 and 17, trained "
        f"{TRAINING.epochs} epochs on 100 upright digits and exported. Then each learns shifted digits, one at a time, "
        "inside the arena of its plan.json: *passes* learns from all of them again and again while the learning rate "
        "falls to 0, *stream* sees each once at a constant rate. *Right before* is the share that was right before it "
        f"was learnt from; {first.after.images} digits are the test images. Times are those of the reference kernels "
        f"on one thread of a busy machine; torch {torch.__version__}. Written by `python -m studies.adapt_digits "
        f"--steps {steps}`.",
        "",
        "| design | digits | mode | images | test before | test after | right before | planned B | measured B | "
        "ms per image |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, shift, mode, result in runs:
        shares = (result.before.accuracy, result.after.accuracy, result.right_before)
        taken = (sum(result.planned.values()), sum(result.measured.values()), round(1000 * result.step_seconds))
        cells = (name, shift, mode, result.images, *map(_percent, shares), *taken)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    name, shift, mode, _ = runs[0]
    lines += ["", f"By class, {name}, {shift}, {mode}:", "", "| digit | before | after |", "|---|--:|--:|"]
    columns = (first.after.labels, first.before.class_accuracies, first.after.class_accuracies)
    for label, before, after in zip(*columns, strict=True):
        lines.append(f"| {label} | {_percent(before)} | {_percent(after)} |")
    lines += ["", "Validation images on the way, from the start to the end in tenths:", ""]
    lines += ["| | " + " | ".join(map(str, range(len(first.curve)))) + " |", "|---|" + "--:|" * len(first.curve)]
    for name, shift, mode, result in runs:
        way = " | ".join(_percent(point.validation) for point in result.curve)
        lines.append(f"| {name}, {shift}, {mode} | {way} |")
    return "\n".join(lines) + "\n"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def main() -> None:
    """Runs all and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    task = load_task(TaskOptions(accelerator="cpu"), BackboneSpec())
    runs = []
    with tempfile.TemporaryDirectory() as name:
        for run in run_all(Path(name), task, steps=arguments.steps):
            runs.append(run)
            print(*run[:3], f"{_percent(run[3].before.accuracy)} → {_percent(run[3].after.accuracy)}", flush=True)
    text = report(runs, steps=arguments.steps)
    save_text(Path(__file__).with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
