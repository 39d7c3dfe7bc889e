"""Bundles' models in a process that cannot import repnet_search, as their users run them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from repnet_search.export.frozen import dump_frozen, restore_frozen
from repnet_search.export.model_file import create_model_file
from repnet_search.models.calibration import calibrate
from repnet_search.models.input_range import parse_input_range
from repnet_search.models.repnet import RepNet
from repnet_search.models.weights import create_random_weights
from repnet_search.spec import ResolvedDesign

CLASSES = 7
IMAGES = 5
RANGE = parse_input_range("imagenet")

PROGRAM = """
import sys
sys.modules["repnet_search"] = None  # an import of it, or of anything in it, fails
import importlib.util
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
torch.set_num_threads(1)
for folder in map(Path, sys.argv[1:]):
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.inference_mode():
        logits = module.load()(load_file(folder / "images.safetensors")["images"])
    save_file({"logits": logits}, folder / "logits.safetensors")
"""


@dataclass(frozen=True)
class Written:
    """A model.py with its weights in a folder, and the logits that the design's own model gives."""

    folder: Path
    resolved: ResolvedDesign
    expected: Tensor


def create_trained(resolved: ResolvedDesign, *, seed: int, images: Tensor) -> tuple[RepNet, dict[str, Tensor]]:
    """Returns a model with random weights in all of it, as if it had been trained, and its frozen weights."""
    generator = torch.Generator().manual_seed(seed)
    weights = create_random_weights(resolved.table, seed=seed)
    is_int8 = resolved.design.activation_bits == 8
    calibration = calibrate(resolved.table, weights, RANGE.normalise(images)) if is_int8 else None
    model = RepNet(resolved, weights, classes=CLASSES, calibration=calibration).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.requires_grad and not name.startswith("backbone"):
                value.add_(torch.randn(value.shape, generator=generator) * 0.3)
            elif value.requires_grad:  # far from where it was, so that a frozen one in its place shows
                value.add_(torch.randn(value.shape, generator=generator) * 0.05)
    return model, weights


def create_images(resolution: int, *, seed: int = 0) -> Tensor:
    """Returns uint8 noise, as smooth as images are: (5, 3, resolution, resolution)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(IMAGES, 3, 4, 4, generator=generator) * 255
    noise = torch.rand(IMAGES, 3, resolution, resolution, generator=generator) * 40 - 20
    smooth = torch.nn.functional.interpolate(coarse, size=(resolution, resolution), mode="bilinear")
    return (smooth + noise).clamp(0, 255).to(torch.uint8)


def write_model(folder: Path, resolved: ResolvedDesign, *, seed: int) -> Written:
    """Writes what model.py needs, from random weights."""
    images = create_images(resolved.design.resolution, seed=seed)
    model, weights = create_trained(resolved, seed=seed, images=images)
    folder.mkdir(parents=True)
    frozen = dump_frozen(weights, activation_bits=resolved.design.activation_bits)
    save_file(frozen, folder / "backbone.safetensors")
    save_file(
        {name: value.contiguous() for name, value in model.trainable_state().items()}, folder / "trained.safetensors"
    )
    save_file({"images": images}, folder / "images.safetensors")
    text = create_model_file(resolved, model, input_range=RANGE, classes=CLASSES)
    (folder / "model.py").write_text(text)
    with torch.inference_mode():
        expected = model(RANGE.normalise(images))
    _check_restored(resolved, model, frozen, images, expected)
    return Written(folder, resolved, expected)


def run_models(written: Sequence[Written]) -> list[Tensor]:
    """Returns the logits that each model.py gives in a process without repnet_search."""
    command = [sys.executable, "-I", "-c", PROGRAM, *(str(item.folder) for item in written)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=written[0].folder)
    assert done.returncode == 0, done.stderr
    return [load_file(item.folder / "logits.safetensors")["logits"] for item in written]


def _check_restored(
    resolved: ResolvedDesign, model: RepNet, frozen: dict[str, Tensor], images: Tensor, expected: Tensor
) -> None:
    """Checks that a bundle's frozen weights make the same model again."""
    again = RepNet(resolved, restore_frozen(frozen), classes=CLASSES, calibration=model.calibration).eval()
    again.load_trainable_state(model.trainable_state())
    with torch.inference_mode():
        assert torch.equal(again(RANGE.normalise(images)), expected)
