"""`repnet-search boards`: what --board knows."""

from __future__ import annotations

import click

from repnet_search.cli.options import json_option


@click.command(short_help="List the boards: RAM by region, flash, core, data sheet.")
@json_option
def boards(*, as_json: bool) -> None:
    """List the boards: RAM by region, flash, core, and the data sheet that the figures are from."""
    import dataclasses
    import json

    from repnet_search.boards import list_boards

    if as_json:
        listed = [dataclasses.asdict(board) | {"ram_bytes": board.ram_bytes} for board in list_boards()]
        print(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    _print_table()


def _print_table() -> None:
    from rich.table import Table

    from repnet_search.boards import list_boards
    from repnet_search.cli.render import create_console
    from repnet_search.units import KIB, format_size

    table = Table(box=None)
    for heading in ("board", "what", "core", "MHz", "FPU", "RAM", "regions, KiB", "flash", "figures from"):
        right = heading in ("MHz", "RAM", "flash")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for board in list_boards():
        table.add_row(
            board.name,
            board.title,
            board.core.name,
            f"{board.clock_hz / 1e6:.0f}",
            "yes" if board.has_fpu else "no",
            format_size(board.ram_bytes),
            " + ".join(f"{region.name} {region.size_bytes // KIB}" for region in board.ram_regions),
            format_size(board.flash_bytes),
            board.datasheet,
        )
    console = create_console()
    console.print(table)
    for board in list_boards():
        if board.note:
            console.print(f"{board.name}: {board.note}", soft_wrap=True)
