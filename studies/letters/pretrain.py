"""Pre-trains the embedded backbone on drawn letters, shapes and textures, on one CPU core.

python -m studies.letters.pretrain --to FILE.safetensors [--record FILE.json]
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from torch import Tensor
from torch.nn import functional

from repnet_search.models.vision import torchvision
from studies.letters.backbone import LettersNet, save_features, scale_input
from studies.letters.draw import IMAGE_PIXELS, draw_pool
from studies.letters.glyphs import CLASS_NAMES


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """What decides the weights, apart from library versions."""

    seed: int = 0
    train_images: int = 40_000
    held_out_images: int = 2_000
    epochs: int = 6
    batch_images: int = 128
    peak_rate: float = 3e-3
    warmup_steps: int = 200
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    shift_pixels: int = 4
    noise_levels: float = 12.0


def augment(images: Tensor, *, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Returns images (N, 3, H, W) uint8 as floats in 0..255, each moved, at random inverted, colour-swapped, noisy."""
    count, side = len(images), images.shape[-1]
    reach = recipe.shift_pixels
    moves = torch.randint(-reach, reach + 1, (2, count, 1), generator=generator)
    rows, columns = (torch.arange(side) + moves).clamp(0, side - 1)
    moved = images[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    picture = moved.permute(0, 3, 1, 2).float()
    flip = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
    picture = torch.where(flip, 255 - picture, picture)
    picture = picture[:, torch.randperm(3, generator=generator)]
    noise = torch.randn(count, 1, side, side, generator=generator)
    return picture + noise * (torch.rand(count, 1, 1, 1, generator=generator) * recipe.noise_levels)


def set_rate(optimizer: torch.optim.Optimizer, *, step: int, steps: int, recipe: Recipe) -> None:
    """Sets the learning rate of a step: linear warm-up, then half a cosine down to nothing."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    for group in optimizer.param_groups:
        group["lr"] = recipe.peak_rate * cosine * min(1.0, (step + 1) / recipe.warmup_steps)


def create_optimizer(net: LettersNet, *, recipe: Recipe) -> torch.optim.Optimizer:
    """Returns AdamW that decays matrices and kernels alone, not batch norm's scales and the biases."""
    decayed = [value for value in net.parameters() if value.ndim > 1]
    others = [value for value in net.parameters() if value.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.peak_rate)


def measure_accuracy(net: LettersNet, *, images: Tensor, labels: Tensor) -> float:
    """Returns the share of images (N, 3, H, W) uint8 that the net, in eval mode, puts into their class (N,)."""
    net.eval()
    with torch.inference_mode():
        guesses = torch.cat([net(scale_input(part)).argmax(1) for part in torch.split(images, 250)])
    net.train()
    return float((guesses == labels).double().mean())


def train(net: LettersNet, *, images: Tensor, labels: Tensor, held_out: tuple[Tensor, Tensor], recipe: Recipe) -> float:
    """Trains the net in place; returns its accuracy on the augmented images of the last epoch, in train mode."""
    net.train()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch 2.13 types Module.to without it
    optimizer = create_optimizer(net, recipe=recipe)
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    per_epoch = len(images) // recipe.batch_images
    share = 0.0
    for epoch in range(recipe.epochs):
        began, right = time.perf_counter(), 0
        order = torch.randperm(len(images), generator=generator)[: per_epoch * recipe.batch_images]
        for number, batch in enumerate(torch.split(order, recipe.batch_images)):
            set_rate(optimizer, step=epoch * per_epoch + number, steps=recipe.epochs * per_epoch, recipe=recipe)
            picture = scale_input(augment(images[batch], recipe=recipe, generator=generator))
            logits = net(picture.contiguous(memory_format=torch.channels_last))
            loss = functional.cross_entropy(logits, labels[batch], label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            right += int((logits.argmax(1) == labels[batch]).sum())
        share = right / len(order)
        held = measure_accuracy(net, images=held_out[0], labels=held_out[1])
        seconds = time.perf_counter() - began
        print(f"epoch {epoch + 1}: train {share:.4f}, held out {held:.4f}, {seconds:.0f} s", flush=True)
    return share


def describe_versions() -> dict[str, str]:
    """Returns the versions that the drawn images and the weights depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }


def pretrain(path: Path, *, recipe: Recipe, processes: int) -> dict[str, Any]:
    """Draws, trains and writes the weights to `path`; returns what the record says of it."""
    # One thread is faster than two for maps this small, and makes the sums' order independent of the machine's cores.
    torch.set_num_threads(1)
    began = time.perf_counter()
    # The held-out images have the seed after the training images'.
    pools = [
        draw_pool(count, seed=recipe.seed + offset, processes=processes)
        for offset, count in enumerate((recipe.train_images, recipe.held_out_images))
    ]
    (images, labels), held_out = [(torch.from_numpy(drawn), torch.from_numpy(kinds)) for drawn, kinds in pools]
    drawn_after = time.perf_counter() - began
    print(f"{len(images)} images drawn in {drawn_after:.0f} s", flush=True)
    torch.manual_seed(recipe.seed)
    net = LettersNet(len(CLASS_NAMES))
    train_accuracy = train(net, images=images, labels=labels, held_out=held_out, recipe=recipe)
    save_features(net, path=path)
    return {
        "recipe": dataclasses.asdict(recipe),
        "classes": list(CLASS_NAMES),
        "resolution_pixels": IMAGE_PIXELS,
        "drawing_seconds": round(drawn_after, 1),
        "training_seconds": round(time.perf_counter() - began - drawn_after, 1),
        "last_epoch_train_accuracy": round(train_accuracy, 4),
        "held_out_accuracy": round(measure_accuracy(net, images=held_out[0], labels=held_out[1]), 4),
        "weights_bytes": path.stat().st_size,
        "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "versions": describe_versions(),
    }


def save_record(record: dict[str, Any], *, path: Path) -> None:
    """Writes the record as JSON, under a temporary name first."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Pre-train the embedded backbone on drawn images.")
    parser.add_argument("--to", type=Path, required=True, help="the safetensors file to write")
    parser.add_argument("--record", type=Path, help="a JSON file to write the record to")
    parser.add_argument("--processes", type=int, default=2, help="processes that draw")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    options = parser.parse_args()
    chosen = Recipe() if options.epochs is None else dataclasses.replace(Recipe(), epochs=options.epochs)
    made = pretrain(options.to, recipe=chosen, processes=options.processes)
    print(json.dumps(made, indent=2))
    if options.record:
        save_record(made, path=options.record)
