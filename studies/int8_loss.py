"""What int8 costs: test accuracy of the same designs with the frozen backbone in fp32 and in int8.

python -m studies.int8_loss [--weights FILE.safetensors --input-range=-1,1 --data DIR] [--seeds 3] [--to FILE.md]

The last layer alone and three designs: six connectors that exchange both ways, four late ones, three that only read.
Without --weights and --data it is the embedded default; what comes in by them is recorded with its sha256. Pairs share
images, views, seeds and recipe, so only the arithmetic differs.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch

from repnet_search.spec import BackboneSpec, Connector, Design, Exchange, Optimizer, Recipe, resolve
from repnet_search.spec.files import save_text
from repnet_search.spec.training import TrainingSpec
from repnet_search.training.evaluate import measure_test_accuracy
from repnet_search.training.proxy import train_design
from repnet_search.training.task import Task, TaskOptions, load_task

RECIPE = Recipe(optimizer=Optimizer.NORMALISED_SGD, accumulate=16, lr=0.01)


def connectors(exchange: Exchange, *blocks: int) -> tuple[Connector, ...]:
    """Returns connectors of one kind."""
    return tuple(Connector(after_block=block, exchange=exchange) for block in blocks)


DESIGNS = {
    "last layer alone": (),
    "six, both ways": connectors(Exchange.BOTH, 1, 3, 6, 10, 13, 17),
    "four late, both ways": connectors(Exchange.BOTH, 6, 10, 13, 17),
    "three readers": connectors(Exchange.TO_REPNET, 6, 13, 17),
}


def measure(task: Task, name: str, bits: int, *, resolution: int, training: TrainingSpec) -> tuple[float, float]:
    """Returns the test accuracy in percent and the largest saturation behind a connector."""
    design = Design(
        connectors=DESIGNS[name], recipe=RECIPE, resolution=resolution, activation_bits=8 if bits == 8 else 32
    )
    resolved = resolve(design, clamp_groups=True)
    model, result = train_design(resolved, task, training)
    saturation = max((share for _, share in result.saturation), default=0.0)
    return 100 * measure_test_accuracy(model, design, task), saturation


def report(task: Task, *, resolution: int, epochs: int, views: int, seeds: int) -> str:
    """Returns the table."""
    weights = task.weights_of(BackboneSpec())
    lines = [
        "# What int8 costs",
        "",
        f"Weights {weights.name} (sha256 `{weights.sha256[:16]}…`), images {task.source.name}, "
        f"{resolution} px, {epochs} epochs of {views} views, {seeds} seeds; torch {torch.__version__}. "
        "Written by `python -m studies.int8_loss`.",
        "",
        "| design | fp32, test % | int8, test % | difference | largest saturation |",
        "|---|--:|--:|--:|--:|",
    ]
    for name in DESIGNS:
        pairs = []
        for seed in range(seeds):
            training = TrainingSpec(epochs=epochs, views=views, seed=seed)
            pairs.append([measure(task, name, bits, resolution=resolution, training=training) for bits in (32, 8)])
        exact, found = (statistics.mean(pair[side][0] for pair in pairs) for side in (0, 1))
        saturation = max(pair[1][1] for pair in pairs)
        lines.append(f"| {name} | {exact:.1f} | {found:.1f} | {found - exact:+.1f} | {100 * saturation:.2f} % |")
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prints the table, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--input-range")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--proxy-images", type=int)
    parser.add_argument("--resolution", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--to", type=Path, help="write the table to this file too")
    arguments = parser.parse_args()
    options = TaskOptions(
        data=arguments.data,
        proxy_images=arguments.proxy_images,
        weights=() if arguments.weights is None else (arguments.weights,),
        input_range=arguments.input_range,
        accelerator="cpu",
    )
    text = report(
        load_task(options, BackboneSpec()),
        resolution=arguments.resolution,
        epochs=arguments.epochs,
        views=arguments.views,
        seeds=arguments.seeds,
    )
    if arguments.to is not None:
        save_text(arguments.to, text)


if __name__ == "__main__":
    main()
