"""Kept bytes, forward peaks and gradients of random designs: what the account says against what is measured.

python -m studies.memory_proof [--designs 1000] [--gradients 200] [--to FILE]

Over six backbones, four resolutions and micro-batches of 1 to 8, every design with every norm, exchange, module and
recipe that a file can say: the bytes that stock PyTorch keeps for the backward pass (account `eager`) and the lean
runtime keeps (account `arena`) by autograd's hooks, the lean runtime's forward peak by the live-bytes tracker; and of
the first `--gradients` designs the lean runtime's gradients against stock autograd's, in float64. Exits 1 where one
byte differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from rich.progress import track
from torch import Tensor

from repnet_search.graph import Role, build_graph
from repnet_search.measure.kept import measure_kept_bytes, measure_lean_kept_bytes
from repnet_search.measure.verify import LEAN_TOLERANCE, measure_lean_gradient_error, measure_live_bytes
from repnet_search.memory import compute_liveness, count_kept_bytes
from repnet_search.models.lean_runtime import LeanRuntime
from repnet_search.models.repnet import RepNet
from repnet_search.models.weights import create_random_weights
from repnet_search.spec import BackboneSpec, Norm
from repnet_search.spec.files import save_text
from repnet_search.spec.resolve import ResolvedDesign
from tests.designs import random_resolved

BACKBONES = (
    BackboneSpec(),
    BackboneSpec(name="resnet18"),
    BackboneSpec(name="proxylessnas_mobile", last_conv=True),
    BackboneSpec(name="mobilenet_v3_small", last_conv=True),
    BackboneSpec(name="mobilenet_v3_large"),
    BackboneSpec(name="mnasnet"),
)
RESOLUTIONS = (32, 48, 64, 96)
NORMS = (Norm.GROUP, Norm.LAYER, Norm.NONE, Norm.BATCH)
CLASSES = 10


@dataclass(frozen=True, slots=True)
class Case:
    """A design and a micro-batch, and by how many bytes each estimate is off."""

    backbone: str
    resolution: int
    batch: int
    eager_off: int
    lean_off: int
    peak_off: int
    gradient_error: float | None


def draw_case(random: Random, backbone: BackboneSpec) -> tuple[ResolvedDesign, int]:
    """Returns a random design and a micro-batch that it can train with."""
    batch = random.randint(1, 8)
    norms = NORMS if batch > 1 else NORMS[:-1]
    return random_resolved(random, norms=norms, resolutions=RESOLUTIONS, backbone=backbone), batch


def create_subject(resolved: ResolvedDesign, batch: int, seed: int) -> tuple[RepNet, Tensor, Tensor]:
    """Returns the model with parameters that make no gradient 0 by construction, images and labels."""
    torch.manual_seed(seed)
    model = RepNet(resolved, create_random_weights(resolved.table, seed=0), classes=CLASSES)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.add_(torch.randn_like(value), alpha=0.1)
    size = resolved.design.resolution
    return model, torch.randn(batch, 3, size, size), torch.randint(CLASSES, (batch,))


def measure_case(resolved: ResolvedDesign, batch: int, seed: int, *, gradients: bool) -> Case:
    """Returns what one design's estimates are off."""
    model, images, labels = create_subject(resolved, batch, seed)
    graph = build_graph(resolved, classes=CLASSES, batch=batch)
    liveness = compute_liveness(graph)
    lean = measure_lean_kept_bytes(LeanRuntime(model, resolved), images, labels)
    live = measure_live_bytes(resolved, model, images, labels)
    return Case(
        backbone=resolved.table.name,
        resolution=resolved.design.resolution,
        batch=batch,
        eager_off=measure_kept_bytes(model, images, labels) - count_kept_bytes(graph),
        lean_off=lean - liveness.kept_bytes,
        peak_off=live.forward_peak_bytes - liveness.forward_peak_bytes_without(Role.IMAGE),
        gradient_error=measure_lean_gradient_error(resolved, model, images, labels) if gradients else None,
    )


def summarise(cases: list[Case]) -> dict[str, object]:
    """Returns the counts that the study reports."""
    errors = [case.gradient_error for case in cases if case.gradient_error is not None]
    return {
        "torch": torch.__version__,
        "designs": len(cases),
        "backbones": sorted({case.backbone for case in cases}),
        "resolutions": sorted({case.resolution for case in cases}),
        "batches": sorted({case.batch for case in cases}),
        "eager_different": sum(case.eager_off != 0 for case in cases),
        "lean_different": sum(case.lean_off != 0 for case in cases),
        "forward_peak_different": sum(case.peak_off != 0 for case in cases),
        "gradients_compared": len(errors),
        "largest_gradient_error": max(errors, default=0.0),
    }


def main() -> None:
    """Runs the designs, prints and records the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--designs", type=int, default=1000)
    parser.add_argument("--gradients", type=int, default=200)
    parser.add_argument("--to", type=Path, help="write the counts as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    random = Random(0)
    cases = []
    for index in track(range(arguments.designs), description="designs"):
        resolved, batch = draw_case(random, BACKBONES[index % len(BACKBONES)])
        cases.append(measure_case(resolved, batch, index, gradients=index < arguments.gradients))
    summary = summarise(cases)
    print(json.dumps(summary, indent=2))
    if arguments.to is not None:
        save_text(arguments.to, json.dumps(summary, indent=2) + "\n")
    different = [case for case in cases if case.eager_off or case.lean_off or case.peak_off]
    if different or any((case.gradient_error or 0.0) > LEAN_TOLERANCE for case in cases):
        sys.exit(f"{len(different)} designs differ, the first {different[:1]}.")


if __name__ == "__main__":
    main()
