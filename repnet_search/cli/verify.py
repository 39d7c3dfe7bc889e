"""`repnet-search verify`: a design's estimate against what this machine measures, term by term."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from repnet_search.cli.options import json_option
from repnet_search.cli.own_backbone import cut_option

if TYPE_CHECKING:
    from repnet_search.measure.verify import Verification
    from repnet_search.models.weights import BackboneWeights
    from repnet_search.spec.design import BackboneSpec


@click.command(short_help="Compare a design's measured memory with the estimate.")
@click.argument("design", type=click.Path(path_type=Path), metavar="DESIGN.yaml")
@click.option(
    "--backbone",
    metavar="NAME",
    help="Verify the design on another backbone than its own, perhaps yours as FILE.py:FUNCTION.",
)
@cut_option
@click.option(
    "--width-mult",
    type=click.FloatRange(0, 4, min_open=True),
    metavar="WIDTH",
    help="The width of --backbone. Default: as 'backbones' lists it.",
)
@click.option("--last-conv/--no-last-conv", default=False, help="Keep the last 1x1 convolution of --backbone.")
@click.option("--classes", type=click.IntRange(2, 100_000), default=10, show_default=True, help="Outputs of the head.")
@click.option("--batch", type=int, default=1, show_default=True, help="Images of a micro-batch.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of weights and images.")
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The backbone's weights as safetensors. Default: the embedded ones where they fit, else random ones.",
)
@json_option
def verify(
    *,
    design: Path,
    backbone: str | None,
    width_mult: float | None,
    last_conv: bool,
    classes: int,
    batch: int,
    seed: int,
    weights: Path | None,
    as_json: bool,
) -> None:
    """Run a design's training step and compare its memory with the estimate, to the byte.

    Exit code 1 where one term differs or one gradient is not autograd's.
    """
    import json

    from repnet_search.cli.options import make_backbone
    from repnet_search.errors import RepnetSearchError, UsageError
    from repnet_search.measure.verify import verify_design
    from repnet_search.spec.files import load_design
    from repnet_search.spec.resolve import resolve
    from repnet_search.training.task import select_device

    written = load_design(design)
    if backbone is not None:
        spec = make_backbone(backbone, width_mult, last_conv=last_conv)
        written = written.model_copy(update={"backbone": spec})
    elif width_mult is not None or last_conv:
        raise UsageError("--width-mult and --last-conv belong to --backbone, which is missing; name the backbone too.")
    resolved = resolve(written, source=str(design))
    select_device("cpu")
    given = _load_weights(resolved.design.backbone, weights, seed=seed)
    result = verify_design(resolved, given, classes=classes, batch=batch, seed=seed)
    if as_json:
        print(json.dumps({"design_id": resolved.id, "weights": given.name, **_as_json(result)}, indent=2))
    else:
        _print_verification(result, title=f"Design {resolved.short_id} on {resolved.table.name}", weights=given.name)
    if not result.passed:
        raise RepnetSearchError(
            f"Design {resolved.short_id} does not measure what is estimated: {_first_difference(result)}; please "
            "report it with the design file and the version of torch."
        )


def _load_weights(backbone: BackboneSpec, path: Path | None, *, seed: int) -> BackboneWeights:
    """Returns weights to compute with; memory does not depend on their values."""
    from repnet_search.models.weights import EMBEDDED_BACKBONE, create_random_backbone, load_weights

    if path is None and backbone != EMBEDDED_BACKBONE:
        return create_random_backbone(backbone, seed=seed)
    return load_weights(backbone, path=path)


def _print_verification(result: Verification, *, title: str, weights: str) -> None:
    import torch
    from rich.table import Table

    from repnet_search.cli.render import create_console

    table = Table(box=None)
    table.add_column("")
    for heading in ("estimated", "measured", ""):
        table.add_column(heading, justify="right")
    for term in result.terms:
        mark = "equal" if term.equal else f"off by {term.measured - term.estimated:+}"
        table.add_row(f"{term.name} ({term.unit})", str(term.estimated), str(term.measured), mark)
    console = create_console()
    made_with = f"micro-batch {result.batch}, weights {weights}, torch {torch.__version__}"
    console.print(f"{title}, {made_with}", style="bold", soft_wrap=True)
    console.print(table)
    console.print(_gradient_sentence(result), soft_wrap=True)
    console.print(_not_compared(result), soft_wrap=True)


def _gradient_sentence(result: Verification) -> str:
    errors = ", ".join(f"{schedule.value} {check.gradient_error:.0e}" for schedule, check in result.executions.items())
    lean = f"lean runtime (float64) {result.lean.gradient_error:.0e}; " if result.lean is not None else ""
    differing = sum(check.code_flips for check in result.executions.values())
    codes = "" if result.lean is not None else f" int8 codes that differ from the model's: {differing}."
    return (
        f"Gradients against stock autograd, largest relative difference: {lean}inside the arena (float32) {errors}."
        f"{codes}"
    )


def _not_compared(result: Verification) -> str:
    """Returns what was measured and compared with nothing, or not measured at all."""
    from repnet_search.units import format_size

    if result.lean is None:
        return (
            "Not compared: what PyTorch keeps and has alive, because there an int8 backbone's codes are float32 "
            "numbers; an int8 design is measured inside its arena alone."
        )
    surplus = result.lean.measured_backward_bytes - result.lean.planned_backward_bytes
    return (
        "Not compared: the lean runtime's backward peak in PyTorch is "
        f"{format_size(result.lean.measured_backward_bytes)}, {format_size(abs(surplus))} "
        f"{'more' if surplus >= 0 else 'less'} than planned: its kernels unpack masks and write gradients anew, which "
        "a fused kernel does not."
    )


def _first_difference(result: Verification) -> str:
    for term in result.terms:
        if not term.equal:
            return f"{term.name} is {term.measured} {term.unit} instead of {term.estimated}"
    for schedule, check in result.executions.items():
        if not check.passed:
            if check.code_flips:
                return f"inside the arena of schedule {schedule.value}, {check.code_flips} int8 codes are wrong"
            return f"inside the arena of schedule {schedule.value} the gradient of {check.worst_parameter} is wrong"
    error = result.lean.gradient_error if result.lean is not None else 0.0
    return f"the lean runtime's gradients are off by {error:.1e}"


def _as_json(result: Verification) -> dict[str, Any]:
    import dataclasses

    terms = [dataclasses.asdict(term) | {"equal": term.equal} for term in result.terms]
    executions = {schedule.value: dataclasses.asdict(check) for schedule, check in result.executions.items()}
    lean = result.lean
    return {
        "passed": result.passed,
        "batch": result.batch,
        "terms": terms,
        "lean_gradient_error": None if lean is None else lean.gradient_error,
        "executions": executions,
        "backward_peak": None
        if lean is None
        else {"planned_bytes": lean.planned_backward_bytes, "measured_bytes": lean.measured_backward_bytes},
    }
