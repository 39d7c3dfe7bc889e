"""The lean runtime against stock PyTorch: bytes kept for the backward pass, and time of a training step.

python -m studies.lean_speed [--to FILE.md]

MobileNetV2-0.35 with its last convolution, 96 px, frozen, its batch norms in eval mode; the gradient enters behind
block 2 through a connector whose module is next to nothing. Stock is torchvision's own network (norms apart) and, for
comparison, our frozen backbone (norms folded) on stock operators. One thread, medians, all in one run, interleaved.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from repnet_search.measure.kept import measure_kept_bytes, measure_lean_kept_bytes
from repnet_search.models.lean_runtime import LeanRuntime
from repnet_search.models.repnet import RepNet
from repnet_search.models.vision import torchvision
from repnet_search.models.weights import create_random_weights
from repnet_search.spec import BackboneSpec, Connector, Design, resolve
from repnet_search.spec.files import save_text
from repnet_search.spec.resolve import ResolvedDesign

RESOLUTION = 96
CLASSES = 10
ROUNDS = 5


class EnteredBackbone(nn.Module):
    """Torchvision's frozen MobileNetV2 in eval mode; the gradient path begins behind features[2]."""

    def __init__(self) -> None:
        super().__init__()
        self.network = torchvision.models.mobilenet_v2(width_mult=0.35, num_classes=CLASSES).eval()
        self.network.features.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits."""
        feature = self.network.features[:3](x).requires_grad_()
        pooled = self.network.features[3:](feature).mean((2, 3))
        logits: Tensor = self.network.classifier[1](pooled)
        return logits


def create_entered() -> tuple[RepNet, ResolvedDesign]:
    """Returns our model in which the gradient path begins at the same place."""
    connector = Connector(after_block=2, depth=0, pool=8)
    design = Design(resolution=RESOLUTION, backbone=BackboneSpec(last_conv=True), connectors=(connector,))
    resolved = resolve(design)
    return RepNet(resolved, create_random_weights(resolved.table, seed=0), classes=CLASSES), resolved


def create_batch(batch: int, *, resolution: int = RESOLUTION) -> tuple[Tensor, Tensor]:
    """Returns normalised images and labels."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, resolution, resolution, generator=generator), torch.arange(batch) % CLASSES


def measure_kept(*, batch: int) -> tuple[int, int]:
    """Returns the bytes that stock PyTorch and the lean runtime keep for the backward pass."""
    images, labels = create_batch(batch)
    stock = measure_kept_bytes(EnteredBackbone(), images, labels)
    model, resolved = create_entered()
    return stock, measure_lean_kept_bytes(LeanRuntime(model, resolved), images, labels)


def median_seconds(actions: list[Callable[[], object]], *, repeats: int) -> list[float]:
    """Returns the median time of each action; they take turns."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(repeats):
        for action, taken in zip(actions, times, strict=True):
            started = time.perf_counter()
            action()
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in times]


def measure_steps(batch: int) -> list[float]:
    """Returns the seconds of a step: torchvision, our folded backbone on stock operators, the lean runtime."""
    images, labels = create_batch(batch)
    stock = EnteredBackbone()
    model, resolved = create_entered()
    runtime = LeanRuntime(model, resolved)
    return median_seconds(
        [
            lambda: functional.cross_entropy(stock(images), labels).backward(),
            lambda: functional.cross_entropy(model(images), labels).backward(),
            lambda: runtime.loss(images, labels).backward(),
        ],
        repeats=ROUNDS * (24 if batch == 1 else 8),
    )


def report() -> str:
    """Returns the table."""
    lines = [
        "# The lean runtime against stock PyTorch",
        "",
        f"MobileNetV2-0.35, {RESOLUTION} px, gradient entering behind block 2; torch {torch.__version__}, one thread; "
        "`python -m studies.lean_speed`.",
        "",
        "| batch | kept, stock | kept, lean | stock / lean | step, lean / torchvision | step, lean / folded stock |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for batch in (1, 8):
        stock, lean = measure_kept(batch=batch)
        seconds = measure_steps(batch)
        lines.append(
            f"| {batch} | {stock} | {lean} | {stock / lean:.1f} | {seconds[2] / seconds[0]:.2f} | "
            f"{seconds[2] / seconds[1]:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prints the table, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, help="write the table to this file too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text = report()
    print(text, end="")
    if arguments.to is not None:
        save_text(arguments.to, text)


if __name__ == "__main__":
    main()
