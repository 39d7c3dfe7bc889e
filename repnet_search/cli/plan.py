"""`repnet-search plan`: where every buffer of a training step lies, for programs and for C."""

from __future__ import annotations

from pathlib import Path

import click

from repnet_search.cli.design_options import DesignChoice, design_options, make_schedule, make_slopes, target_options
from repnet_search.cli.limit_options import DeviceChoice, board_option, reserve_option

STDOUT = Path("-")


@click.command(short_help="Write the memory plan of a design: where each buffer lies.")
@design_options
@target_options
@board_option
@reserve_option
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Write the plan as JSON; - for stdout.",
)
@click.option(
    "--c-header",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the plan as a C header with tables and static assertions.",
)
def plan(
    *,
    design: Path | None,
    preset: str | None,
    backbone: str | None,
    width_mult: float | None,
    last_conv: bool | None,
    resolution: int | None,
    activation_bits: str | None,
    classes: int,
    batch: int,
    schedule: str,
    hswish: str,
    board: str | None,
    reserve: int | None,
    json_file: Path | None,
    c_header: Path | None,
) -> None:
    """Write the memory plan of a design: offset, size and lifetime of every buffer, and the operators in order.

    For a --board, with the region of RAM in which each buffer and each parameter lies. It is a plan, not a trainer:
    it holds no kernels and no weights.
    """
    import json
    import sys

    from repnet_search.errors import UsageError
    from repnet_search.export.plan import create_plan, plan_to_json
    from repnet_search.export.plan_header import plan_to_c_header
    from repnet_search.memory import check_backbone_fits
    from repnet_search.spec.files import save_text
    from repnet_search.units import format_size

    if json_file is None and c_header is None:
        raise UsageError("A plan is written to files, but none is named; give --json FILE, --c-header FILE, or both.")
    if board is None and reserve is not None:
        raise UsageError("--reserve keeps part of a board's RAM free; give --board too.")
    device = DeviceChoice(None, board, reserve, None).create()
    choice = DesignChoice(design, preset, backbone, width_mult, last_conv, resolution, activation_bits)
    resolved = choice.resolve()
    limits = device.limits if device is not None else None
    if limits is not None:
        bits = [resolved.design.activation_bits]
        check_backbone_fits(resolved.design.backbone, activation_bits=bits, limits=limits, classes=classes)
    made = create_plan(
        resolved,
        classes=classes,
        batch=batch,
        schedule=make_schedule(schedule),
        slopes=make_slopes(hswish),
        limits=limits,
    )
    if c_header is not None:
        save_text(c_header, plan_to_c_header(made))
    if json_file is not None:
        text = json.dumps(plan_to_json(made), indent=2)
        if json_file == STDOUT:
            print(text)
        else:
            save_text(json_file, text + "\n")
    memory = made.memory
    out = sys.stderr if json_file == STDOUT else sys.stdout
    print(
        f"Plan of design {resolved.short_id}: {len(made.buffers)} buffers and {len(made.ops)} operators in an arena of "
        f"{format_size(memory.arena_bytes)} (schedule {memory.schedule.value}, micro-batch {memory.batch}); "
        f"{format_size(memory.ram_bytes)} with parameters and their state (recipe "
        f"{resolved.design.recipe.optimizer.value} ×{resolved.design.recipe.accumulate}).",
        file=out,
    )
    if made.regions:
        used = ", ".join(
            f"{format_size(region.used_bytes)} of {region.name}'s {format_size(region.size_bytes)}"
            for region in made.regions
        )
        print(f"It takes {used}.", file=out)
