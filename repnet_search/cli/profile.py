"""`repnet-search profile`: what a space holds under a budget, before any training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from repnet_search.cli.limit_options import DeviceChoice, device_options
from repnet_search.cli.options import backbone_options, json_option, make_backbones, schedule_option
from repnet_search.cli.space_options import load_chosen_space, space_options

if TYPE_CHECKING:
    from rich.table import Table

    from repnet_search.search.profile import Driver, Extreme, SpaceProfile

_SHOWN_DRIVERS = 3
_BAR_WIDTH = 40


@click.command(short_help="Show what a search space holds under a budget.")
@device_options(budget_help="Training memory that a design may take, such as 256KB.")
@space_options
@click.option("--classes", type=click.IntRange(2, 100_000), default=10, show_default=True, help="Outputs of the head.")
@click.option(
    "--samples",
    type=click.IntRange(1000, 100_000_000),
    default=1_000_000,
    show_default=True,
    help="Designs drawn where the space is too large to count them all.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of the samples.")
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw the histogram: FILE.html or FILE.png."
)
@backbone_options
@schedule_option
@json_option
def profile(
    *,
    budget: int | None,
    board: str | None,
    reserve: int | None,
    flash: int | None,
    space: str,
    resolution: tuple[int, ...],
    activation_bits: str | None,
    classes: int,
    samples: int,
    seed: int,
    plot: Path | None,
    backbone: str,
    width_mult: tuple[float, ...],
    last_conv: bool,
    schedule: str,
    as_json: bool,
) -> None:
    """Show what a search space holds under a budget, before any training.

    How many of its designs fit, the smallest and the largest, the tightest budget that still has a side network to
    offer, how memory is spread, and which field drives it most.
    """
    import json

    from repnet_search.memory import check_backbone_fits
    from repnet_search.search.batch import SpaceMemory
    from repnet_search.search.profile import profile_space
    from repnet_search.search.space import SearchSpace
    from repnet_search.spec.table import get_table
    from repnet_search.spec.target import Schedule

    device = DeviceChoice(budget, board, reserve, flash).require()
    if plot is not None:
        from repnet_search.report.memory_plot import check_plot_path
        from repnet_search.report.profile_plot import save_profile_plot

        check_plot_path(plot)
    space_spec = load_chosen_space(space, resolution, activation_bits)
    search_space = SearchSpace(space_spec, *make_backbones(backbone, width_mult, last_conv=last_conv))
    narrowest, bits = search_space.backbones[0], space_spec.activation_bits
    check_backbone_fits(narrowest, activation_bits=bits, limits=device.limits, classes=classes)
    memory = SpaceMemory(search_space, classes=classes, schedule=Schedule(schedule))
    result = profile_space(memory, limits=device.limits, samples=samples, seed=seed)
    title = f"{space} on {' or '.join(get_table(item).name for item in search_space.backbones)}"
    if plot is not None:
        save_profile_plot(result, plot, title=title)
    if as_json:
        print(json.dumps({"account": "arena", "schedule": schedule, "micro_batch": 1, **_as_json(result)}, indent=2))
        return
    _print_profile(result, title=f"Space {title}", schedule=schedule)


def _print_profile(result: SpaceProfile, *, title: str, schedule: str) -> None:
    from repnet_search.cli.render import create_console
    from repnet_search.units import format_number, format_size

    console = create_console()
    console.print(f"{title}, account arena, schedule {schedule}, micro-batch 1", style="bold", soft_wrap=True)
    how = "all counted" if result.exact else f"{format_number(result.measured)} drawn"
    fitting = f"{100 * result.fitting_share:.2f} %"
    if not result.exact:
        fitting += f" ± {196 * result.share_error:.2f} (95 %)"
    found = "" if result.exact else " found"  # by climbing from those drawn
    lines = {
        "combinations": f"{format_number(result.combinations)} of choices, {how}; several may mean the same design",
        "fit": f"{fitting} within {format_size(result.budget_bytes)}{_describe_limits(result)}",
        "smallest": f"{format_size(result.smallest.ram_bytes)}: {_describe(result.smallest)}",
        "largest": f"{format_size(result.largest.ram_bytes)}{found}: {_describe(result.largest)}",
    }
    if result.tightest is not None:
        lines["tightest"] = (
            f"{format_size(result.tightest.ram_bytes)} is the least useful budget{found}, below it there is no "
            f"connector: {_describe(result.tightest)}"
        )
    for name, text in lines.items():
        console.print(f"  {name:<14}{text}", soft_wrap=True)
    console.print(_histogram(result))
    console.print(_driver_table(result.drivers[:_SHOWN_DRIVERS]))


def _describe_limits(result: SpaceProfile) -> str:
    """Returns what a design must fit beside the budget: flash, and the regions of RAM."""
    from repnet_search.units import format_size

    flash = f" and {format_size(result.flash_bytes)} of flash" if result.flash_bytes is not None else ""
    if result.placed_share is None:
        return flash
    return f"{flash}; {100 * result.placed_share:.0f} % of these go into the regions of the RAM (of those tried)"


def _describe(extreme: Extreme) -> str:
    """Returns the parameter values that say most: width, input, recipe, and the blocks of the connectors."""
    params = extreme.params
    blocks = [str(value) for name, value in params.items() if name.startswith("stage_") and value is not None]
    bits = "int8" if params["activation_bits"] == 8 else "fp32"
    where = f"connectors after {', '.join(blocks)}" if blocks else "last layer alone"
    biases = ", biases train" if params["train_bias"] else ""
    width = f"width {params['width_mult']:g}, " if "width_mult" in params else ""
    return f"{width}{params['resolution']} px, {bits}, {where}{biases}, recipe {params['recipe']}"


def _histogram(result: SpaceProfile) -> Table:
    """Returns the designs by memory, the bin with the budget marked."""
    from itertools import pairwise

    from rich.table import Table

    from repnet_search.units import format_size

    table = Table(title="\nDesigns by training memory", title_justify="left", box=None)
    for heading in ("from", "to", "share"):
        table.add_column(heading, justify="right")
    table.add_column("")
    most = max(result.counts)
    for (low, high), count in zip(pairwise(result.edges_bytes), result.counts, strict=True):
        bar = "█" * round(_BAR_WIDTH * count / most)
        mark = "  ← budget" if high == result.budget_bytes + 1 else ""
        share = f"{100 * count / result.measured:.2f} %"
        table.add_row(format_size(low), format_size(high), share, bar + mark)
    return table


def _driver_table(drivers: tuple[Driver, ...]) -> Table:
    """Returns what each choice of the strongest fields does to memory."""
    from rich.table import Table

    from repnet_search.units import format_size

    table = Table(title="\nWhat drives memory most (share of its variance)", title_justify="left", box=None)
    table.add_column("field")
    for heading in ("choice", "mean memory", "fit"):
        table.add_column(heading, justify="right")
    for driver in drivers:
        label = f"{driver.field} ({100 * driver.explained:.0f} %)"
        for choice, mean_bytes, share in driver.choices:
            table.add_row(
                label, "none" if choice is None else str(choice), format_size(round(mean_bytes)), f"{100 * share:.1f} %"
            )
            label = ""
    return table


def _as_json(result: SpaceProfile) -> dict[str, object]:
    import dataclasses

    return dataclasses.asdict(result)
