"""Where the time of our training goes: what a faster search would have to make faster.

python -m studies.proxy_profile --weights FILE.safetensors --input-range=-1,1 --data DIR [--to FILE.md]

Designs of studies/proxy_speed.py's first sample, one epoch each, in one thread, the frozen features at hand.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from repnet_search.data import Split
from repnet_search.spec import BackboneSpec
from repnet_search.spec.files import save_text
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.spec.training import TrainingSpec
from repnet_search.training.proxy import train_design
from repnet_search.training.task import Task, TaskOptions, load_task
from studies.proxy_speed import RESOLUTION, sample_designs

KINDS = {
    "convolutions, backward": ("convolution_backward",),
    "convolutions, forward": ("conv",),
    "our autograd functions, which walk the op list in Python": ("_RunBlock", "_Requantise"),
}
"""Parts of the names of what a profile lists, by what they are called here; the first that is found counts."""

OTHER = "all other kernels: element-wise, pooling, copies"


@dataclass(frozen=True, slots=True)
class Profile:
    """Seconds of training without the profiler, by kind with it, and how many kernels were begun in how many steps."""

    wall: float
    seconds: dict[str, float]
    kernels: int
    steps: int


def profile_training(designs: Sequence[ResolvedDesign], task: Task) -> Profile:
    """Returns where the time of training designs goes."""
    training = TrainingSpec(epochs=1, views=1)
    images = task.source.count(Split.TRAIN)
    seconds = dict.fromkeys((*KINDS, OTHER), 0.0)
    wall, kernels, steps = 0.0, 0, 0
    for resolved in designs:
        train_design(resolved, task, training)  # its features are in the cache from here on
        started = time.perf_counter()
        train_design(resolved, task, training)
        wall += time.perf_counter() - started
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            train_design(resolved, task, training)
        for event in profiled.key_averages():
            kinds = (kind for kind, parts in KINDS.items() if any(part in event.key for part in parts))
            seconds[next(kinds, OTHER)] += event.self_cpu_time_total / 1e6
            kernels += event.count if event.key.startswith("aten::") else 0
        steps += -(-images // resolved.design.recipe.accumulate)
    return Profile(wall, seconds, kernels, steps)


def summarise(found: Profile, task: Task, *, designs: int) -> str:
    """Returns a profile as Markdown."""
    weights = task.weights_of(BackboneSpec())
    rest = max(0.0, found.wall - sum(found.seconds.values()))
    lines = [
        "# Where the time of our training goes",
        "",
        f"Weights {weights.name} (sha256 `{weights.sha256[:16]}…`), images {task.source.name}, int8, {RESOLUTION} px; "
        f"{designs} designs, one epoch of {task.source.count(Split.TRAIN)} images and its validation, one thread, "
        f"frozen features at hand; torch {torch.__version__}. Written by `python -m studies.proxy_profile`.",
        "",
        "| | share of the time |",
        "|---|--:|",
        *(f"| {kind} | {100 * seconds / found.wall:.0f} % |" for kind, seconds in found.seconds.items()),
        f"| Python around them | {100 * rest / found.wall:.0f} % |",
        "",
        f"{found.wall / designs:.2f} s per design, {1000 * found.wall / found.steps:.1f} ms per update (its share of "
        f"the validation included), in which {found.kernels / found.steps:.0f} PyTorch operators begin, one every "
        f"{1e6 * found.wall / found.kernels:.0f} µs.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prints the profile, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--input-range", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--designs", type=int, default=12)
    parser.add_argument("--to", type=Path)
    arguments = parser.parse_args()
    options = TaskOptions(
        data=arguments.data, proxy_images=2000, weights=(arguments.weights,), input_range=arguments.input_range
    )
    torch.set_num_threads(1)
    task = load_task(options, BackboneSpec())
    designs = sample_designs(arguments.designs, fixed={})
    text = summarise(profile_training(designs, task), task, designs=len(designs))
    print(text, end="")
    if arguments.to is not None:
        save_text(arguments.to, text)


if __name__ == "__main__":
    main()
