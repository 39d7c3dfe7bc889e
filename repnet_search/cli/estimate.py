"""`repnet-search estimate`: what a design needs and why, without training it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from repnet_search.cli.design_options import DesignChoice, design_options, make_schedule, target_options
from repnet_search.cli.options import Size, json_option

if TYPE_CHECKING:
    from repnet_search.memory import MemoryEstimate
    from repnet_search.memory.accounts import AccountFigure
    from repnet_search.memory.explain import MemoryExplanation
    from repnet_search.memory.ways_out import WaysOut
    from repnet_search.spec.resolve import ResolvedDesign


@click.command()
@design_options
@target_options
@click.option("--budget", type=Size(), help="Compare with a budget; exit code 3 where it is exceeded.")
@click.option("--accounts", "show_accounts", is_flag=True, help="Show every account and schedule side by side.")
@click.option("--by", type=click.Choice(["block"]), help="Show a row per block and module.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw what is alive when and where it lies: .html, or .png with the extra 'plot'.",
)
@click.option(
    "--nearest",
    "nearest_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.yaml",
    help="Where the design is over --budget, write the nearest one that fits.",
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
    budget: int | None,
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

    from repnet_search.cli.render_memory import explanation_to_json
    from repnet_search.errors import UsageError
    from repnet_search.memory.accounts import compare_accounts
    from repnet_search.memory.explain import explain_memory
    from repnet_search.memory.ways_out import find_ways_out
    from repnet_search.report.memory_plot import check_plot_path, save_memory_plot
    from repnet_search.spec.files import design_to_yaml, save_text
    from repnet_search.spec.resolve import resolve

    if nearest_file is not None and budget is None:
        raise UsageError("--nearest looks for a design under a budget, but got none; give --budget too.")
    if plot is not None:
        check_plot_path(plot)
    choice = DesignChoice(design, preset, backbone, width_mult, last_conv, resolution, activation_bits)
    written = choice.load()
    target = make_schedule(schedule)
    explained = explain_memory(resolve(written), classes=classes, batch=batch, schedule=target)
    ways_out = None
    if budget is not None:
        ways_out = find_ways_out(written, budget_bytes=budget, classes=classes, batch=batch, schedule=target)
    figures = compare_accounts(explained.resolved, classes=classes, batch=batch) if as_json or show_accounts else ()
    if plot is not None:
        save_memory_plot(plot, explained, budget_bytes=budget)
    if nearest_file is not None and ways_out is not None and ways_out.nearest:
        save_text(nearest_file, design_to_yaml(ways_out.nearest[0].design))
    if as_json:
        print(json.dumps(explanation_to_json(explained, figures, ways_out, budget_bytes=budget), indent=2))
    else:
        print_estimate(explained.resolved, explained.estimate, budget_bytes=budget)
        _print_explanation(explained, figures if show_accounts else (), ways_out, by_block=by is not None)
        _print_files(plot, nearest_file, ways_out)
    if budget is not None and ways_out is not None:
        raise _over_budget(explained, ways_out, budget)


def _over_budget(explained: MemoryExplanation, ways_out: WaysOut, budget_bytes: int) -> Exception:
    """Returns what ends the command with exit code 3."""
    from repnet_search.cli.render_memory import describe_nearest
    from repnet_search.errors import OverBudgetError
    from repnet_search.units import format_size

    memory, nearest = explained.estimate, ways_out.nearest
    fits = f"the nearest design that fits: {describe_nearest(nearest[0])}" if nearest else "no smaller design fits"
    return OverBudgetError(
        f"Design {explained.resolved.short_id} needs {format_size(memory.ram_bytes)}, "
        f"{format_size(ways_out.excess_bytes)} over the budget of {format_size(budget_bytes)}; largest part: "
        f"{memory.peak_place}; {fits}."
    )


def print_estimate(resolved: ResolvedDesign, memory: MemoryEstimate, *, budget_bytes: int | None) -> None:
    """Prints a design's account."""
    from repnet_search.cli.render import create_console, describe_connectors, describe_recipe, memory_bars
    from repnet_search.units import format_size

    console = create_console()
    design = resolved.design
    console.print(
        f"Design {resolved.short_id} on {resolved.table.name}, {design.resolution} px, "
        f"{'int8' if design.activation_bits == 8 else 'fp32'} backbone; connectors after block: "
        f"{describe_connectors(design)}; recipe {describe_recipe(design)}; account arena, schedule "
        f"{memory.schedule.value}, micro-batch {memory.batch}",
        soft_wrap=True,
    )
    for line in memory_bars(memory.terms, budget_bytes=budget_bytes):
        console.print(line)
    facts = {
        "peak": f"{memory.peak_place}; largest buffer there {memory.largest_buffer}, "
        f"{format_size(memory.largest_buffer_bytes)}",
        "arena": f"forward peak {format_size(memory.forward_peak_bytes)}, backward peak "
        f"{format_size(memory.backward_peak_bytes)}, kept for backward {format_size(memory.kept_bytes)}",
        "parameters": f"{memory.trainable_parameters} trainable",
        "flash": f"{format_size(memory.flash_bytes)} of frozen weights and biases",
        "MACs": f"{memory.forward_macs / 1e6:.2f} M forward, {memory.macs / 1e6:.2f} M per training step",
    }
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
