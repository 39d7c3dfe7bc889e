"""`repnet-search estimate`: what a design needs and why, without training it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from repnet_search.cli.design_options import DesignChoice, design_options, make_schedule, make_slopes, target_options
from repnet_search.cli.limit_options import Device, DeviceChoice, device_options
from repnet_search.cli.options import json_option

if TYPE_CHECKING:
    from repnet_search.memory import Fit, MemoryEstimate
    from repnet_search.memory.accounts import AccountFigure
    from repnet_search.memory.explain import MemoryExplanation
    from repnet_search.memory.ways_out import WaysOut
    from repnet_search.spec.resolve import ResolvedDesign


@click.command(short_help="Show the training memory of a design, term by term.")
@design_options
@target_options
@device_options(budget_help="Compare with a budget; exit code 3 where it is exceeded.")
@click.option("--accounts", "show_accounts", is_flag=True, help="Show every account and schedule side by side.")
@click.option("--by", type=click.Choice(["block"]), help="Show a row per block and module.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw what is alive when and where it lies: FILE.html or FILE.png.",
)
@click.option(
    "--nearest",
    "nearest_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.yaml",
    help="Where the design does not fit, write the nearest one that does.",
)
@json_option
def estimate(
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
    budget: int | None,
    board: str | None,
    reserve: int | None,
    flash: int | None,
    show_accounts: bool,
    by: str | None,
    plot: Path | None,
    nearest_file: Path | None,
    as_json: bool,
) -> None:
    """Show the training memory of a design, term by term, and where its peak comes from (account arena).

    The design is a file, or a preset: --preset paper --backbone mobilenet_v2 --resolution 96.
    """
    import json

    from repnet_search.cli.render_device import device_to_json
    from repnet_search.cli.render_memory import explanation_to_json
    from repnet_search.errors import OverBudgetError, UsageError
    from repnet_search.memory import check_fit, compare_accounts, describe_missing_flash, explain_memory, find_ways_out
    from repnet_search.report.memory_plot import check_plot_path, save_memory_plot
    from repnet_search.spec.files import design_to_yaml, save_text
    from repnet_search.spec.resolve import resolve

    device = DeviceChoice(budget, board, reserve, flash).create()
    if nearest_file is not None and device is None:
        raise UsageError("--nearest looks for a design under a budget, but got none; give --budget or --board too.")
    if nearest_file is not None and nearest_file.exists():
        raise UsageError(f"--nearest writes a new file, but {nearest_file} exists already; name another one.")
    if plot is not None:
        check_plot_path(plot)
    choice = DesignChoice(design, preset, backbone, width_mult, last_conv, resolution, activation_bits)
    written = choice.load()
    target = make_schedule(schedule)
    resolved = resolve(written, source=choice.source)
    slopes = make_slopes(hswish)
    explained = explain_memory(resolved, classes=classes, batch=batch, schedule=target, slopes=slopes)
    fit, ways_out = None, None
    if device is not None:
        fit = check_fit(explained, device.limits)
        ways_out = find_ways_out(
            written, limits=device.limits, classes=classes, batch=batch, schedule=target, slopes=slopes
        )
    wants_accounts = as_json or show_accounts
    figures = compare_accounts(resolved, classes=classes, batch=batch, slopes=slopes) if wants_accounts else ()
    if plot is not None:
        save_memory_plot(plot, explained, budget_bytes=device.limits.ram_bytes if device is not None else None)
    if nearest_file is not None and ways_out is not None and ways_out.nearest:
        save_text(nearest_file, design_to_yaml(ways_out.nearest[0].design))
    if as_json:
        available = device.limits.ram_bytes if device is not None else None
        value = explanation_to_json(explained, figures, ways_out, budget_bytes=available)
        if device is not None and fit is not None:
            value["device"] = device_to_json(device, explained.estimate, fit)
        print(json.dumps(value, indent=2))
    else:
        print_estimate(resolved, explained.estimate, device=device, fit=fit)
        _print_explanation(explained, figures if show_accounts else (), ways_out, by_block=by is not None)
        _print_files(plot, nearest_file, ways_out)
    if device is not None:
        frozen, bits = resolved.design.backbone, [resolved.design.activation_bits]
        missing = describe_missing_flash(frozen, activation_bits=bits, limits=device.limits, classes=classes)
        if missing:
            raise OverBudgetError(missing)
    if ways_out is not None:
        raise _over_budget(explained, ways_out)


def _over_budget(explained: MemoryExplanation, ways_out: WaysOut) -> Exception:
    """Returns what ends the command with exit code 3."""
    from repnet_search.cli.render_memory import describe_nearest
    from repnet_search.errors import OverBudgetError

    fit, nearest = ways_out.fit, ways_out.nearest
    largest = f"; largest part: {explained.estimate.peak_place}" if fit.ram_excess_bytes > 0 else ""
    fits = f"the nearest design that fits: {describe_nearest(nearest[0])}" if nearest else "no smaller design fits"
    return OverBudgetError(f"Design {explained.resolved.short_id} {fit.problem}{largest}; {fits}.")


def print_estimate(resolved: ResolvedDesign, memory: MemoryEstimate, *, device: Device | None, fit: Fit | None) -> None:
    """Prints a design's account, and on a device how it stands to it."""
    from repnet_search.cli.render import create_console, memory_bars
    from repnet_search.cli.render_device import device_lines
    from repnet_search.report.wording import describe_connectors, describe_recipe
    from repnet_search.units import format_number, format_size

    console = create_console()
    design = resolved.design
    console.print(
        f"Design {resolved.short_id} on {resolved.table.name}, {design.resolution} px, "
        f"{'int8' if design.activation_bits == 8 else 'fp32'} backbone; connectors after block: "
        f"{describe_connectors(design)}; recipe {describe_recipe(design)}; account arena, schedule "
        f"{memory.schedule.value}{'' if memory.slopes == 'exact' else ', slopes 8bit'}, micro-batch {memory.batch}",
        soft_wrap=True,
    )
    for line in memory_bars(memory.terms, budget_bytes=device.limits.ram_bytes if device is not None else None):
        console.print(line)
    if device is not None and fit is not None:
        for line in device_lines(device, memory, fit):
            console.print(line, soft_wrap=True)
    facts = {
        "peak": f"{memory.peak_place}; largest buffer there {memory.largest_buffer}, "
        f"{format_size(memory.largest_buffer_bytes)}",
        "arena": f"forward peak {format_size(memory.forward_peak_bytes)}, backward peak "
        f"{format_size(memory.backward_peak_bytes)}, kept for backward {format_size(memory.kept_bytes)}",
        "parameters": f"{format_number(memory.trainable_parameters)} trainable",
        "flash": f"{format_size(memory.flash_bytes)}: "
        + ", ".join(f"{name} {format_size(size)}" for name, size in memory.flash.terms),
        "MACs": f"{memory.forward_macs / 1e6:.2f} M forward, {memory.macs / 1e6:.2f} M per training step",
    }
    if device is not None and device.limits.flash_bytes is not None:
        del facts["flash"]  # shown above, with bars
    for name, text in facts.items():
        console.print(f"  {name:<12}{text}", soft_wrap=True)


def _print_explanation(
    explained: MemoryExplanation, figures: Sequence[AccountFigure], ways_out: WaysOut | None, *, by_block: bool
) -> None:
    from repnet_search.cli.render import create_console
    from repnet_search.cli.render_memory import (
        account_meanings,
        accounts_table,
        peak_lines,
        places_table,
        ways_out_lines,
    )

    console = create_console()
    for line in peak_lines(explained.peak, op_count=len(explained.graph.ops)):
        console.print(line, soft_wrap=True)
    if by_block:
        console.print()
        console.print(places_table(explained.places, explained))
    if figures:
        console.print()
        console.print(accounts_table(figures))
        for line in account_meanings():
            console.print(line, soft_wrap=True)
    if ways_out is not None:
        console.print()
        for line in ways_out_lines(ways_out):
            console.print(line, soft_wrap=True)


def _print_files(plot: Path | None, nearest_file: Path | None, ways_out: WaysOut | None) -> None:
    if plot is not None:
        print(f"  The plot is in {plot}.")
    if nearest_file is None:
        return
    if ways_out is None:
        print(f"  {nearest_file} was not written: the design fits.")
    elif ways_out.nearest:
        print(f"  The nearest design is in {nearest_file}.")
    else:
        print(f"  {nearest_file} was not written: no design fits.")
