"""`repnet-search best`: any budget or board, answered from a study that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from repnet_search.cli.limit_options import Device, DeviceChoice, board_option, reserve_option
from repnet_search.cli.options import Size, json_option, storage_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from repnet_search.results.device import PlacedRecord
    from repnet_search.results.record import TrialRecord
    from repnet_search.results.study import StudyView
    from repnet_search.spec.target import DeviceLimits


@click.command(short_help="Show the best design of a study under a budget or on a board.")
@click.option("--study", required=True, metavar="NAME", help="The study to ask.")
@click.option("--budget", type=Size(), help="The budget to answer. Default: the study's own.")
@board_option
@reserve_option
@click.option("--flash", type=Size(), help="The flash to answer. Default: the board's, else the study's own, if any.")
@storage_option
@json_option
def best(
    *,
    study: str,
    budget: int | None,
    board: str | None,
    reserve: int | None,
    flash: int | None,
    storage: str | None,
    as_json: bool,
) -> None:
    """Show the best trained design of a study under a budget or on a board, without training anything."""
    import json

    from repnet_search.results.study import dump_record, load_study

    # A flash alone goes with the study's own budget.
    device = DeviceChoice(budget, board, reserve, flash if budget is not None or board is not None else None).create()
    view = load_study(study, storage=storage)
    limits = _limits(view, device, flash)
    placed, on_board = _place_front(view, limits, board) if board is not None else ([], None)
    front = [item.record for item in placed] if placed else _front(view, limits)
    winner = on_board.record if on_board is not None else _winner(view, limits, front)
    if as_json:
        answer = {
            "budget_bytes": limits.ram_bytes,
            "flash_bytes": limits.flash_bytes,
            "schedule": view.settings.schedule.value,
            "design": dump_record(winner) | _confirmed_to_json(view, winner),
        }
        device_answer = _device_to_json(device, on_board) if device is not None and on_board is not None else {}
        print(json.dumps(answer | device_answer, indent=2, ensure_ascii=False))
        return
    flash_lines = _flash_lines(winner, limits)
    lines = _device_lines(device, on_board) if device is not None and on_board is not None else flash_lines
    _print_answer(view, front, winner, limits, lines=lines, board=board)


def _limits(view: StudyView, device: Device | None, flash: int | None) -> DeviceLimits:
    """Returns what a design may take: what the options say, else the study's own."""
    from repnet_search.spec.target import DeviceLimits

    if device is not None and device.board is not None:
        return device.limits
    ram_bytes = device.limits.ram_bytes if device is not None else view.settings.available_bytes
    return DeviceLimits(ram_bytes, flash if flash is not None else view.settings.flash_bytes)


def _front(view: StudyView, limits: DeviceLimits) -> list[TrialRecord]:
    """Returns the Pareto front of what the records say is within the limits.

    Raises:
        OverBudgetError: there is none.
    """
    from repnet_search.errors import OverBudgetError
    from repnet_search.results.device import describe_shortage
    from repnet_search.results.front import pareto_front
    from repnet_search.units import format_size

    front = pareto_front(_fitting(view, limits))
    if front:
        return front
    flash = limits.flash_bytes
    with_flash = f" with {format_size(flash)} of flash" if flash is not None else ""
    asked = f"{format_size(limits.ram_bytes)}{with_flash}"
    raise OverBudgetError(f"No trained design of study {view.name!r} fits {asked}: {describe_shortage(view, limits)}.")


def _fitting(view: StudyView, limits: DeviceLimits) -> list[TrialRecord]:
    from repnet_search.results.front import fits_within

    ram, flash = limits.ram_bytes, limits.flash_bytes
    return [record for record in view.records if fits_within(record, budget_bytes=ram, flash_bytes=flash)]


def _winner(view: StudyView, limits: DeviceLimits, front: list[TrialRecord]) -> TrialRecord:
    """Returns the winner among what is within the limits: as `run` and `export` choose it."""
    from repnet_search.results.confirmation import choose_winner

    winner = choose_winner(_fitting(view, limits), view.confirmed, budget_bytes=limits.ram_bytes)
    return winner if winner is not None else front[-1]


def _place_front(view: StudyView, limits: DeviceLimits, board: str) -> tuple[list[PlacedRecord], PlacedRecord]:
    """Returns the Pareto front of what a board holds, each placed into its regions, and the winner.

    Raises:
        OverBudgetError: there is none.
    """
    from repnet_search.errors import OverBudgetError
    from repnet_search.results.device import front_on_device, place_record, winner_on_device
    from repnet_search.results.front import pareto_front

    placed = front_on_device(view, limits)
    if placed:
        return placed, winner_on_device(view, limits, front=placed)
    every = pareto_front(view.records)
    least = "it has trained none yet"
    if every:
        least = f"its least, {every[0].short_id}, {place_record(every[0], view.settings, limits=limits).fit.problem}"
    raise OverBudgetError(f"No trained design of study {view.name!r} fits {board}: {least}.")


def _print_answer(
    view: StudyView,
    front: list[TrialRecord],
    winner: TrialRecord,
    limits: DeviceLimits,
    *,
    lines: Sequence[Text],
    board: str | None,
) -> None:
    from repnet_search.cli.render import create_console, front_table, memory_bars
    from repnet_search.report.wording import describe_accuracy, front_notes
    from repnet_search.spec.files import design_to_yaml
    from repnet_search.units import format_size

    console, metric = create_console(), view.settings.training.metric
    where = f"on {board}" if board is not None else f"under {format_size(limits.ram_bytes)}"
    console.print(
        f"Best of study {view.name} {where}, schedule {view.settings.schedule.value}: design {winner.short_id}, "
        f"{describe_accuracy(winner, view.confirmed.get(winner.design_id), metric=metric)}",
        soft_wrap=True,
    )
    searched = view.settings.available_bytes
    if limits.ram_bytes > searched:
        console.print(f"The study searched up to {format_size(searched)} and knows nothing of larger designs.")
    for line in (*memory_bars(winner.terms, budget_bytes=limits.ram_bytes), *lines):
        console.print(line, soft_wrap=True)
    console.print()
    console.print(front_table(front, winner=winner, metric=metric, widths=bool(view.settings.wider)))
    for note in front_notes(front, winner=winner):
        console.print(note, soft_wrap=True)
    console.print()
    console.print(design_to_yaml(winner.design), end="", soft_wrap=True)


def _flash_lines(winner: TrialRecord, limits: DeviceLimits) -> Sequence[Text]:
    from repnet_search.cli.render import flash_line

    return flash_line(winner.flash_bytes, limit_bytes=limits.flash_bytes)


def _device_lines(device: Device, placed: PlacedRecord) -> Sequence[Text]:
    """Returns the regions, the flash and the time of a step on a board, and what of that is assumed."""
    from rich.text import Text

    from repnet_search.cli.render_device import device_lines

    not_checked = Text(f"  Not checked: {'; '.join(_not_checked(device))}.")
    return [*device_lines(device, placed.memory, placed.fit), not_checked]


def _confirmed_to_json(view: StudyView, winner: TrialRecord) -> dict[str, Any]:
    """Returns the runs of a design's confirmation and their mean; nothing where it has none."""
    from repnet_search.results.confirmation import dump_run

    confirmation = view.confirmed.get(winner.design_id)
    if confirmation is None:
        return {}
    runs = [dump_run(run) for run in confirmation.runs]
    return {"confirmed_accuracy": confirmation.validation[0], "confirmed": runs}


def _device_to_json(device: Device, placed: PlacedRecord) -> dict[str, Any]:
    from repnet_search.cli.render_device import device_to_json

    return {"device": device_to_json(device, placed.memory, placed.fit), "not_checked": _not_checked(device)}


def _not_checked(device: Device) -> list[str]:
    """Returns what the answer takes for granted, in clauses."""
    from repnet_search.memory.flash import CODE_BYTES
    from repnet_search.units import format_size

    reserve = f"whether {format_size(device.reserve_bytes)} are enough for stack, runtime and camera"
    return [reserve, f"whether the code takes no more than the {format_size(CODE_BYTES)} of flash that are assumed"]
