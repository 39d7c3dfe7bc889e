"""`repnet-search studies`, `spaces`, `backbones`: what there is."""

from __future__ import annotations

import click

from repnet_search.cli.options import json_option, storage_option


@click.command()
@storage_option
@json_option
def studies(*, storage: str | None, as_json: bool) -> None:
    """List the studies of a storage."""
    from repnet_search.results.record import Outcome
    from repnet_search.results.storage import open_storage
    from repnet_search.results.study import list_studies

    rows: list[dict[str, object]] = []
    for view in list_studies(open_storage(storage, params=False), on_unreadable=_tell_left_out):
        winner = view.choose_winner()
        rows.append(
            {
                "study": view.name,
                "budget_bytes": view.settings.budget_bytes,
                "data": view.settings.data.name,
                "trained": view.trained_count,
                "over_budget": view.count(Outcome.OVER_BUDGET),
                "failed": view.count(Outcome.FAILED),
                "interrupted": view.count(Outcome.INTERRUPTED),
                "metric": view.settings.training.metric.label,
                "best_accuracy": view.accuracy_of(winner) if winner is not None else None,
            }
        )
    _print(rows, as_json=as_json, empty="This storage holds no study yet.")


def _tell_left_out(error: Exception) -> None:
    click.echo(f"Left out: {error}", err=True)


@click.command(short_help="List the search spaces, or show one.")
@click.argument("name", required=False)
@json_option
def spaces(*, name: str | None, as_json: bool) -> None:
    """List the search spaces that come with the program; with a NAME, print its file to copy and edit."""
    from repnet_search.spec.bundled import list_spaces, load_space

    files = {path.stem: path for path in list_spaces()}
    if name is not None:
        space = load_space(name)
        text = files[name].read_text(encoding="utf-8") if name in files else ""
        click.echo(space.model_dump_json(indent=2) if as_json else text, nl=as_json)
        return
    rows: list[dict[str, object]] = [
        {"space": stem, "what": path.read_text(encoding="utf-8").splitlines()[0].lstrip("# "), "file": str(path)}
        for stem, path in files.items()
    ]
    _print(rows, as_json=as_json, empty="")


@click.command(short_help="List the backbones, their shapes, parameters and MACs.")
@click.option(
    "--resolution",
    type=click.IntRange(1, 2048),
    default=224,
    show_default=True,
    metavar="PX",
    help="Of the images that MACs are counted for.",
)
@click.option("--last-conv", is_flag=True, help="With the last 1x1 convolution where a backbone has one.")
@json_option
def backbones(*, resolution: int, last_conv: bool, as_json: bool) -> None:
    """List the backbones at their default width and at width 1, the classifier left out.

    A connector may sit after every connectable block; the paper's preset has one after each of the paper's blocks. In
    place of a name, --backbone takes a network of your own: FILE.py:FUNCTION, where the function returns an nn.Module.
    """
    from repnet_search.backbones import default_width_mult, get_block_table, has_last_conv, list_backbones

    rows: list[dict[str, object]] = []
    for name in list_backbones():
        for width_mult in sorted({default_width_mult(name), 1.0}):
            table = get_block_table(name, width_mult=width_mult, last_conv=last_conv and has_last_conv(name))
            rows.append(
                {
                    "backbone": name,
                    "width": width_mult,
                    "blocks": len(table.blocks),
                    "connectable_blocks": [i for i, block in enumerate(table.blocks) if not block.is_identity],
                    "paper_blocks": list(table.paper_blocks),
                    "frozen_parameters": table.weight_count + table.bias_count,
                    "macs": table.count_macs(resolution),
                    "features": table.feature_channels,
                }
            )
    _print(rows, as_json=as_json, empty="")


def _print(rows: list[dict[str, object]], *, as_json: bool, empty: str) -> None:
    import json

    from rich.table import Table

    from repnet_search.cli.render import create_console

    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not rows:
        print(empty)
        return
    table = Table(box=None)
    for key, value in rows[0].items():
        heading = key.removesuffix("_bytes").replace("_", " ")
        table.add_column(heading, justify="left" if isinstance(value, str) else "right", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(key, value) for key, value in row.items()))
    create_console().print(table)


def _cell(key: str, value: object) -> str:
    from repnet_search.report.wording import format_percent
    from repnet_search.units import format_size

    if key.endswith("_bytes") and isinstance(value, int):
        return format_size(value)
    if key.endswith("_accuracy"):
        return format_percent(value if isinstance(value, float) else None)
    if key == "macs" and isinstance(value, int):
        return f"{value / 1e6:.1f} M"
    return _format_runs(value) if isinstance(value, list) else str(value)


def _format_runs(numbers: list[int]) -> str:
    """Returns ascending numbers with their runs shortened.

    >>> _format_runs([0, 1, 2, 3, 6, 7, 9])
    '0-3, 6, 7, 9'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(texts)
