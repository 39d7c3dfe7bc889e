"""One contract for all backbones, of the registry and of the user's own: every line must hold for every one of them.

python -m studies.backbone_contract [--designs 12]     writes backbone_contract.json and .md beside this file

Shapes: every convolution of the original network has the channels and the map that the block table says, by forward
hooks. Forward: the frozen backbone computes what the original does, its norms shaken. Kept: over random designs the
bytes that stock PyTorch and the lean runtime (with exact and with 8-bit slopes) keep, the lean forward peak, and the
tables for batches, are what the op list says. Arena: whole steps inside it in every schedule. Paper: the preset trains.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

from repnet_search.backbones import BlockTable
from repnet_search.graph import Role, Schedule, Slopes, build_graph
from repnet_search.measure.execution import verify_execution
from repnet_search.measure.kept import measure_lean_kept_bytes
from repnet_search.measure.tracker import LiveBytesTracker
from repnet_search.measure.verify import LEAN_TOLERANCE
from repnet_search.memory import compute_liveness
from repnet_search.memory.tables import create_tables
from repnet_search.models.backbone import FrozenBackbone
from repnet_search.models.input_range import parse_input_range
from repnet_search.models.lean_runtime import LeanRuntime
from repnet_search.models.repnet import RepNet
from repnet_search.models.weights import BackboneWeights, create_random_weights, fold_weights
from repnet_search.spec import BackboneSpec, Design, ResolvedDesign, get_preset, resolve
from repnet_search.spec.files import save_text
from repnet_search.spec.table import get_table
from studies.contract_subjects import OWN, REGISTRY, create_subjects
from studies.memory_proof import create_subject, draw_case, measure_case
from tests.designs import random_resolved

FORWARD_TOLERANCE = 1e-4
CLASSES = 5


@dataclass(frozen=True, slots=True)
class Contract:
    """What was found of one backbone; of `designs` random designs each count says how many were off."""

    backbone: str
    convs: int
    shapes_off: int
    forward_error: float
    designs: int
    eager_off: int
    lean_off: int
    peak_off: int
    coarse_off: int
    tables_off: int
    gradients_off: int
    steps: int
    steps_off: int
    paper_trains: bool

    @property
    def holds(self) -> bool:
        """Whether every line holds."""
        counts = (self.shapes_off, self.eager_off, self.lean_off, self.peak_off, self.coarse_off, self.tables_off)
        nothing_off = not any((*counts, self.gradients_off, self.steps_off))
        return nothing_off and self.forward_error <= FORWARD_TOLERANCE and self.paper_trains


def check_backbone(spec: BackboneSpec, network: nn.Module, *, designs: int, seed: int = 0) -> Contract:
    """Returns how a backbone keeps the contract.

    Args:
        spec: the backbone, with its last convolution where it has one.
        network: the original, in evaluation.
        designs: random designs to measure; a third of them also run inside their arena.
        seed: of everything.
    """
    table = get_table(spec)
    cases = [draw_case(Random(seed + index), spec) for index in range(designs)]
    measured = [measure_case(case, batch, index, gradients=True) for index, (case, batch) in enumerate(cases)]
    steps = [step for index in range(math.ceil(designs / 3)) for step in _run_steps(spec, seed + index)]
    return Contract(
        backbone=table.name.rpartition("/")[2],
        convs=len(list(table.convs())),
        shapes_off=count_wrong_shapes(table, network, resolution=97),
        forward_error=measure_forward_error(table, network, resolution=96),
        designs=designs,
        eager_off=sum(case.eager_off != 0 for case in measured),
        lean_off=sum(case.lean_off != 0 for case in measured),
        peak_off=sum(case.peak_off != 0 for case in measured),
        coarse_off=sum(not _coarse_is_right(case, batch, index) for index, (case, batch) in enumerate(cases)),
        tables_off=sum(not _tables_are_right(case, batch) for case, batch in cases),
        gradients_off=sum((case.gradient_error or 0.0) > LEAN_TOLERANCE for case in measured),
        steps=len(steps),
        steps_off=sum(not step for step in steps),
        paper_trains=trains_paper_preset(spec),
    )


def count_wrong_shapes(table: BlockTable, network: nn.Module, *, resolution: int) -> int:
    """Returns how many convolutions of the original network write another shape than the table says."""
    seen: dict[str, tuple[int, ...]] = {}

    def remember(key: str, output: Tensor) -> None:
        seen[key] = tuple(output.shape[1:])

    handles = [
        network.get_submodule(conv.key).register_forward_hook(lambda _, __, output, key=conv.key: remember(key, output))
        for conv in table.convs()
    ]
    with torch.no_grad():
        network(torch.zeros(1, 3, resolution, resolution))
    for handle in handles:
        handle.remove()
    wrong = 0
    size = resolution
    for block, out_size in zip(table.blocks, table.output_sizes(resolution), strict=True):
        shapes = {}
        chain = 1 if block.pools_first else size
        for conv in block.convs:
            chain = conv.output_size(chain)
            shapes[conv.key] = (conv.out_channels, chain, chain)
        if block.shortcut is not None:
            shapes[block.shortcut.key] = (block.channels, chain, chain)
        if block.squeeze is not None:
            for conv in (block.squeeze.reduce, block.squeeze.expand):
                shapes[conv.key] = (conv.out_channels, 1, 1)
        # A linear layer, which a 1×1 convolution stands for, writes no map.
        wrong += sum(
            seen[key] not in (shape, shape[:1] if shape[1:] == (1, 1) else shape) for key, shape in shapes.items()
        )
        size = out_size
    return wrong


def measure_forward_error(table: BlockTable, network: nn.Module, *, resolution: int) -> float:
    """Returns how far the frozen backbone's pooled features are from what the original's last linear layer reads."""
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    seen: list[Tensor] = []
    handle = linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.randn(2, 3, resolution, resolution, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network(image)
        weights = fold_weights(network.state_dict(), table, name="of the original")
        pooled = functional.adaptive_avg_pool2d(FrozenBackbone(table, weights)(image), 1).flatten(1)
    handle.remove()
    return float((pooled - seen[0]).abs().max() / seen[0].abs().max())


def trains_paper_preset(spec: BackboneSpec) -> bool:
    """Returns whether a few steps of the paper's preset lower the loss, with a gradient for every parameter."""
    resolved = resolve(get_preset("paper", Design(backbone=spec, connectors=(), resolution=64)))
    torch.manual_seed(0)
    model = RepNet(resolved, create_random_weights(resolved.table, seed=0), classes=CLASSES)
    images, labels = torch.randn(4, 3, 64, 64), torch.arange(4)
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.002)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    finite = all(value.grad is not None and bool(value.grad.isfinite().all()) for value in trained)
    return finite and losses[-1] < losses[0]


def _coarse_is_right(resolved: ResolvedDesign, batch: int, seed: int) -> bool:
    """Whether the lean runtime with 8-bit slopes keeps and peaks at what the op list says."""
    model, images, labels = create_subject(resolved, batch, seed)
    coarse = Slopes.EIGHT_BIT
    liveness = compute_liveness(build_graph(resolved, classes=10, batch=batch, slopes=coarse))
    kept = measure_lean_kept_bytes(LeanRuntime(model, resolved, slopes=coarse), images, labels)
    runtime = LeanRuntime(model, resolved, slopes=coarse)
    with LiveBytesTracker() as tracker:
        _ = runtime.loss(images, labels)
        peak = tracker.peak_bytes
    return kept == liveness.kept_bytes and peak == liveness.forward_peak_bytes_without(Role.IMAGE)


def _tables_are_right(resolved: ResolvedDesign, batch: int) -> bool:
    """Whether the tables for batches of designs say what the op list says, in every schedule and with both slopes."""
    resolution = resolved.design.resolution
    for schedule in Schedule:
        for slopes in Slopes:
            tables = create_tables(
                resolved.table, resolution=resolution, classes=10, batch=batch, schedule=schedule, slopes=slopes
            )
            measured = tables.measure(tables.batch_of([resolved]))
            graph = build_graph(resolved, classes=10, batch=batch, schedule=schedule, slopes=slopes)
            liveness = compute_liveness(graph)
            wanted = (liveness.peak_bytes, liveness.kept_bytes, graph.parameter_count)
            found = (measured.live_peak_bytes[0], measured.kept_bytes[0], measured.trainable_parameters[0])
            if wanted != found:
                return False
    return True


def _run_steps(spec: BackboneSpec, seed: int) -> list[bool]:
    """Returns for every schedule whether a random design's step runs inside its arena with autograd's gradients."""
    resolved = random_resolved(Random(seed), resolutions=(32,), backbone=spec)
    tensors = create_random_weights(resolved.table, seed=seed)
    weights = BackboneWeights(tensors, "random", "", parse_input_range("imagenet"))
    return [
        verify_execution(resolved, weights, classes=CLASSES, batch=1 + seed % 2, schedule=schedule, seed=seed).passed
        for schedule in Schedule
    ]


def summarise(contracts: list[Contract]) -> str:
    """Returns the record as Markdown."""
    lines = [
        "# All backbones keep one contract",
        "",
        "Counts are of what was off: convolutions whose shape is another than the table's, designs of which a figure "
        "differs by a byte, steps inside their arena (three schedules) whose gradients are not autograd's. Written by "
        "`python -m studies.backbone_contract`, whose docstring says what is measured.",
        "",
        "| backbone | convs | shapes | forward error | designs | eager | lean | peak | 8-bit | tables | gradients | "
        "steps | off | paper preset |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for item in contracts:
        lines.append(
            f"| {item.backbone} | {item.convs} | {item.shapes_off} | {item.forward_error:.0e} | {item.designs} | "
            f"{item.eager_off} | {item.lean_off} | {item.peak_off} | {item.coarse_off} | {item.tables_off} | "
            f"{item.gradients_off} | {item.steps} | {item.steps_off} | {'trains' if item.paper_trains else 'fails'} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Checks every backbone, and records it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--designs", type=int, default=12)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    contracts = [
        check_backbone(spec, network, designs=arguments.designs)
        for spec, network in track(create_subjects(), description="backbones", total=len(REGISTRY) + len(OWN))
    ]
    here = Path(__file__)
    save_text(here.with_suffix(".json"), json.dumps([asdict(item) for item in contracts], indent=1) + "\n")
    text = summarise(contracts)
    save_text(here.with_suffix(".md"), text)
    print(text)
    broken = [item.backbone for item in contracts if not item.holds]
    if broken:
        sys.exit(f"The contract is broken by {', '.join(broken)}.")


if __name__ == "__main__":
    main()
