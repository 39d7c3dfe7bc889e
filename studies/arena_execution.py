"""The planned arena suffices: random designs whose whole training step runs inside it, against stock autograd.

python -m studies.arena_execution --designs 200 --controls 24     writes arena_execution.json and .md beside this file
python -m studies.arena_execution --activation-bits 8 --designs 60 --controls 12             arena_execution_int8.*

Runs from the checkout: its designs are those of tests/designs.py. Weights, parameters and images are random.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch

from repnet_search.graph import Schedule, build_graph
from repnet_search.measure.arena_memory import ArenaViolationError
from repnet_search.measure.codes import watch_codes
from repnet_search.measure.execution import GRADIENT_TOLERANCE, Subject, gradient_error, verify_execution
from repnet_search.measure.forgetting import plan_forgetfully
from repnet_search.models.input_range import parse_input_range
from repnet_search.models.weights import BackboneWeights, create_random_weights
from repnet_search.spec import BackboneSpec, Norm, ResolvedDesign, resolve
from tests.designs import NORMS, random_resolved

CLASSES = 5
BATCHES = (1, 2, 3)
# Over two values, which a 1x1 map at batch 2 has, a batch norm's gradient is singular: rounding and nothing else.
BATCH_NORM_BATCH = 4
# (backbone, resolutions, how often): a streamed step costs a second per thousand hidden channels here
SUBJECTS = (
    (BackboneSpec(name="mobilenet_v2"), (32, 48, 64), 6),
    (BackboneSpec(name="mobilenet_v2", width_mult=0.5, last_conv=True), (32, 48), 1),
    (BackboneSpec(name="resnet18"), (32, 48), 2),
    (BackboneSpec(name="proxylessnas_mobile"), (32,), 1),
)


def draw(number: int, *, bits: int) -> tuple[ResolvedDesign, int]:
    """Returns random design `number` and its micro-batch; every fourth one may have batch norms."""
    random = Random(number)
    kinds = [(spec, resolutions) for spec, resolutions, weight in SUBJECTS for _ in range(weight)]
    backbone, resolutions = kinds[number % len(kinds)]
    norms = (*NORMS, Norm.BATCH) if random.random() < 0.25 else NORMS
    resolved = random_resolved(random, norms=norms, resolutions=resolutions, backbone=backbone)
    resolved = resolve(resolved.design.model_copy(update={"activation_bits": bits}), clamp_groups=True)
    couples = any(module.norm is Norm.BATCH for module in resolved.modules)
    return resolved, BATCH_NORM_BATCH if couples else random.choice(BATCHES)


def random_weights(resolved: ResolvedDesign, seed: int) -> BackboneWeights:
    """Returns weights that nothing was trained for."""
    tensors = create_random_weights(resolved.table, seed=seed)
    return BackboneWeights(tensors, "random", "", parse_input_range("imagenet"))


def check(number: int, *, bits: int) -> dict[str, Any]:
    """Returns how one design ran in every schedule."""
    resolved, batch = draw(number, bits=bits)
    weights = random_weights(resolved, number)
    recipe = resolved.design.recipe
    record: dict[str, Any] = {
        "design": resolved.id,
        "number": number,
        "backbone": resolved.table.name,
        "resolution": resolved.design.resolution,
        "batch": batch,
        "connectors": len(resolved.modules),
        "train_bias": resolved.design.train_bias,
        "optimizer": recipe.optimizer.value,
        "accumulate": recipe.accumulate,
    }
    for schedule in Schedule:
        result = verify_execution(resolved, weights, classes=CLASSES, batch=batch, schedule=schedule, seed=number)
        record[schedule.value] = {
            "passed": result.passed,
            "arena_bytes": result.arena_bytes,
            "live_peak_bytes": result.live_peak_bytes,
            "touched_bytes": result.touched_bytes,
            "gradient_error": result.gradient_error,
            "worst_parameter": result.worst_parameter,
            "loss_error": result.loss_error,
            "updates_equal": result.updates_equal,
            "trained_tensors": result.parameters,
            "idle_tensors": result.idle_parameters,
            "drawn_again": result.seed != number,
        }
        if bits == 8:
            record[schedule.value]["code_flips"] = result.code_flips
    return record


def control(number: int, *, bits: int) -> dict[str, Any]:
    """Returns how many of a design's plans that forget a use and clash are caught; each design has one schedule."""
    schedule = list(Schedule)[number % len(Schedule)]
    resolved, batch = draw(number, bits=bits)
    weights = random_weights(resolved, number)
    sound = verify_execution(resolved, weights, classes=CLASSES, batch=batch, schedule=schedule, seed=number)
    subject = Subject(resolved, weights, classes=CLASSES, batch=batch, seed=sound.seed)
    with watch_codes(subject.model) as codes:
        _, expected = subject.autograd(torch.float32)
    exact = subject.exact_gradients(codes)
    graph = build_graph(resolved, classes=CLASSES, batch=batch, schedule=schedule)
    clashing, missed = 0, []
    for plan in plan_forgetfully(graph):
        clashing += 1
        try:
            _, executor = subject.execute(graph, plan.arena, forgets=False)
        except ArenaViolationError:
            continue  # a kernel found overwritten what cannot be: caught as well
        error, _ = gradient_error(executor.gradients, expected, exact=exact)
        if not error > GRADIENT_TOLERANCE:
            over = [buffer.name for buffer in plan.clashing]
            missed.append({"forgotten": plan.forgotten.name, "clashing": over, "gradient_error": error})
    return {"number": number, "schedule": schedule.value, "clashing": clashing, "missed": missed}


INT8_TEXT = (
    "The backbone is int8: its tensors have 1 byte per element in the arena, its arithmetic is that of integers, and "
    "every code must be that of the int8 RepNet in PyTorch, whose straight-through gradients are the reference. "
    "Activations get a half (behind a ReLU) or a quarter of the range that they have on random images, so that every "
    "clamp has something to do. "
)


def summarise(checks: list[dict[str, Any]], controls: list[dict[str, Any]], *, bits: int) -> str:
    """Returns the record as Markdown."""
    int8 = bits == 8
    lines = [
        "# The planned arena suffices" + ", int8" * int8,
        "",
        f"{len(checks)} random designs, each with its whole training step (forward, backward, update) run inside one "
        "poisoned byte array of exactly the planned size, and compared with stock autograd: random weights, parameters "
        f"and images, {CLASSES} classes, micro-batches of 1 to {BATCH_NORM_BATCH}. The gradient error is the largest "
        "difference relative to the largest gradient of the same tensor; the tolerance is "
        f"{GRADIENT_TOLERANCE:g}, but never below what float32 resolves (see `gradient_error`). Updated "
        "parameters must equal the update rule's bit for bit. A step is drawn again where its gradients differ and a "
        f"value fell on another side of a ReLU's kink, which another order of summation can do. {INT8_TEXT * int8}"
        f"Written by `python -m studies.arena_execution{' --activation-bits 8' * int8}`.",
        "",
        "| schedule | passed | drawn again | worst gradient error | worst loss error | uses all planned bytes | "
        "arena = live sum |" + " codes that differ |" * int8,
        "|---|--:|--:|--:|--:|--:|--:|" + "--:|" * int8,
    ]
    for schedule in Schedule:
        runs = [item[schedule.value] for item in checks]
        lines.append(
            f"| {schedule.value} | {sum(run['passed'] for run in runs)} of {len(runs)} | "
            f"{sum(run['drawn_again'] for run in runs)} | "
            f"{max(run['gradient_error'] for run in runs):.1e} | {max(run['loss_error'] for run in runs):.1e} | "
            f"{sum(run['touched_bytes'] == run['arena_bytes'] for run in runs)} | "
            f"{sum(run['arena_bytes'] == run['live_peak_bytes'] for run in runs)} |"
            + (f" {sum(run['code_flips'] for run in runs)} |" if int8 else "")
        )
    by_backbone: dict[str, int] = {}
    for item in checks:
        by_backbone[item["backbone"]] = by_backbone.get(item["backbone"], 0) + 1
    trained = sum(item["layer"]["trained_tensors"] for item in checks)
    idle = sum(item["layer"]["idle_tensors"] for item in checks)
    lines += [
        "",
        "Designs: " + ", ".join(f"{count} on {name}" for name, count in sorted(by_backbone.items())) + ". "
        f"Trained tensors: {trained}, of which {idle} had a gradient of 0 everywhere.",
        "",
        "Negative control: a plan forgets the last use of one buffer that is kept for the backward pass. Caught are "
        "those that give wrong gradients, of the plans under which another buffer then overlaps it in bytes and time "
        "(buffers are poisoned before their first use, as everywhere; not after their last).",
        "",
        "| schedule | designs | clashing plans | caught |",
        "|---|--:|--:|--:|",
    ]
    for schedule in Schedule:
        runs = [item for item in controls if item["schedule"] == schedule.value]
        clashing = sum(run["clashing"] for run in runs)
        missed = sum(len(run["missed"]) for run in runs)
        lines.append(f"| {schedule.value} | {len(runs)} | {clashing} | {clashing - missed} |")
    for item in controls:
        for miss in item["missed"]:
            over = ", ".join(miss["clashing"])
            lines += [
                "",
                f"Not caught: design {item['number']} ({item['schedule']}), {miss['forgotten']} under {over}.",
            ]
    return "\n".join(lines) + "\n"


def use_one_thread() -> None:
    """Keeps workers from sharing their cores."""
    torch.set_num_threads(1)


def dump(record: dict[str, Any]) -> str:
    """Returns a record as JSON with one line per design."""
    fields = []
    for name, value in record.items():
        lines = value if isinstance(value, list) else None
        text = "[\n" + ",\n".join(map(json.dumps, lines)) + "\n]" if lines is not None else json.dumps(value)
        fields.append(f"{json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(fields) + "\n}\n"


def main() -> None:
    """Runs designs and controls, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--designs", type=int, default=200)
    parser.add_argument("--controls", type=int, default=24, help="designs whose plans are made to clash")
    parser.add_argument("--activation-bits", type=int, choices=(8, 32), default=32)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    bits = arguments.activation_bits
    checks, controls = [], []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, mp_context=context, initializer=use_one_thread) as pool:
        for item in pool.map(partial(check, bits=bits), range(arguments.designs)):
            checks.append(item)
            runs = [item[schedule.value] for schedule in Schedule]
            verdict = "passed" if all(run["passed"] for run in runs) else "FAILED"
            worst = max(run["gradient_error"] for run in runs)
            print(f"design {item['number']}: {verdict}, gradient error {worst:.1e}", flush=True)
        for item in pool.map(partial(control, bits=bits), range(arguments.controls)):
            controls.append(item)
            print(f"control {item['number']}: {item}", flush=True)
    here = Path(__file__).with_name("arena_execution_int8.json" if bits == 8 else "arena_execution.json")
    record = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "checks": checks,
        "controls": controls,
    }
    here.write_text(dump(record), encoding="utf-8")
    summary = summarise(checks, controls, bits=bits)
    here.with_suffix(".md").write_text(summary, encoding="utf-8")
    print(summary)


if __name__ == "__main__":
    main()
