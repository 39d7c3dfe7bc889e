"""Measures how well the pre-trained features serve the embedded digits, with 10 training images per digit.

python -m studies.letters.probe FILE.safetensors [--record FILE.json] [--fine-tune]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from studies.letters.backbone import FEATURE_CHANNELS, LettersNet, load_features, scale_input
from studies.letters.pretrain import save_record

RESOLUTIONS_PIXELS = (32, 40, 48)
DIGITS_FILE = Path(__file__).resolve().parents[2] / "repnet_search" / "data" / "embedded" / "digits.npz"
TRAIN_PER_CLASS = 10
# The first 50 of a class are kept for training and validation, in other studies as well: no test image is among them.
KEPT_PER_CLASS = 50
_CLASS_COUNT = 10


def load_digits(resolution_pixels: int) -> tuple[Tensor, Tensor]:
    """Returns the embedded digits as the network sees them, (1797, 3, R, R) in -1..1, and labels (1797,)."""
    with np.load(DIGITS_FILE, allow_pickle=False) as arrays:
        images, labels = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])
    size = (resolution_pixels, resolution_pixels)
    ink = functional.interpolate(images[:, None].float() * 255 / 16, size, mode="bilinear", antialias=False)
    return scale_input(ink.round().to(torch.uint8).expand(-1, 3, -1, -1)), labels.long()


def split_digits(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the indices to train on, the first 10 of each class, and to test on, all after a class's first 50."""
    places = [torch.nonzero(labels == digit).flatten() for digit in range(_CLASS_COUNT)]
    return torch.cat([place[:TRAIN_PER_CLASS] for place in places]), torch.cat([p[KEPT_PER_CLASS:] for p in places])


def fit_head(features: Tensor, *, labels: Tensor, steps: int = 2000) -> nn.Linear:
    """Returns a linear head, started at zero, after full-batch Adam on features (N, 112): the same every time."""
    head = nn.Linear(FEATURE_CHANNELS, _CLASS_COUNT)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = functional.cross_entropy(head(features), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head


def extract(net: LettersNet, *, images: Tensor) -> Tensor:
    """Returns features (N, 112) of images (N, 3, R, R), with batch norm's stored statistics."""
    with torch.no_grad():
        return torch.cat([net.pool(part) for part in torch.split(images, 250)])


def measure_last_layer(weights: Path, *, resolution_pixels: int) -> tuple[float, float]:
    """Returns the accuracy in % on training and test digits of a linear head alone on the frozen features."""
    net = load_features(weights, class_count=_CLASS_COUNT)
    images, labels = load_digits(resolution_pixels)
    features = extract(net, images=images)
    train, test = split_digits(labels)
    head = fit_head(features[train], labels=labels[train])
    right = (head(features).argmax(1) == labels).double() * 100
    return float(right[train].mean()), float(right[test].mean())


def measure_fine_tuned(weights: Path, *, resolution_pixels: int, steps: int = 300, rate: float = 1e-3) -> float:
    """Returns the test accuracy in % after training everything but batch norm's statistics, from the fitted head on."""
    net = load_features(weights, class_count=_CLASS_COUNT)
    images, labels = load_digits(resolution_pixels)
    train, test = split_digits(labels)
    net.head = fit_head(extract(net, images=images[train]), labels=labels[train], steps=100)
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        loss = functional.cross_entropy(net(images[train]), labels[train])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    guesses = net.head(extract(net, images=images[test])).argmax(1)
    return float((guesses == labels[test]).double().mean() * 100)


def probe(weights: Path, *, fine_tune: bool) -> dict[str, dict[str, float]]:
    """Returns the accuracies in %, by resolution."""
    torch.set_num_threads(1)
    results: dict[str, dict[str, float]] = {}
    for pixels in RESOLUTIONS_PIXELS:
        train, test = measure_last_layer(weights, resolution_pixels=pixels)
        results[str(pixels)] = {"last_layer_train": round(train, 2), "last_layer_test": round(test, 2)}
        if fine_tune:
            results[str(pixels)]["fine_tuned_test"] = round(measure_fine_tuned(weights, resolution_pixels=pixels), 2)
        print(pixels, results[str(pixels)], flush=True)
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Probe the pre-trained features on the embedded digits.")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--fine-tune", action="store_true", help="also train all weights: the headroom above the head")
    parser.add_argument("--record", type=Path, help="a JSON record to add the figures to")
    options = parser.parse_args()
    figures = probe(options.weights, fine_tune=options.fine_tune)
    if options.record:
        save_record({**json.loads(options.record.read_text(encoding="utf-8")), "probe": figures}, path=options.record)
