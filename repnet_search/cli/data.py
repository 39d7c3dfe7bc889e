"""`repnet-search data`: what a source of images holds."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from repnet_search.cli.options import json_option, known_set_options

if TYPE_CHECKING:
    from repnet_search.data.summary import DataSummary, Duplicates, Sides

MOST_ROWS = 20
MOST_FILES = 5


@click.command()
@click.argument("source", type=click.Path(path_type=Path), required=False)
@known_set_options
@click.option("--decode-all", is_flag=True, help="Decode every image, to find those that are cut off.")
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw some images of each class: FILE.html or .png."
)
@json_option
def data(
    *, source: Path | None, data_root: Path | None, download: bool, decode_all: bool, plot: Path | None, as_json: bool
) -> None:
    """Show what a source of images holds, before training on it.

    SOURCE is what --data takes elsewhere: a folder, an .npz file, or a data set by name with --data-root. Default: the
    embedded handwritten digits. Files that are no readable image are listed, not refused.
    """
    import json

    from repnet_search.data import create_source
    from repnet_search.data.summary import summarise
    from repnet_search.report.contact_sheet import save_contact_sheet
    from repnet_search.report.memory_plot import check_plot_path

    if plot is not None:
        check_plot_path(plot)
    with reading_images(download=download):
        images = create_source(source, skip_broken=True, root=data_root, download=download)
        summary = summarise(images, decode_all=decode_all)
    if plot is not None:
        save_contact_sheet(plot, images)
    if as_json:
        print(json.dumps(_as_json(summary, sha256=images.sha256()), indent=2, ensure_ascii=False))
        return
    _print(summary)
    if plot is not None:
        print(f"\nThe contact sheet is in {plot}.")


def reading_images(*, download: bool) -> AbstractContextManager[object]:
    """Returns what shows on a terminal that images are being listed and read; a download shows itself."""
    from repnet_search.cli.render import create_console

    return nullcontext() if download else create_console(stderr=True).status("Reading the images …")


def _print(summary: DataSummary) -> None:
    from rich.text import Text

    from repnet_search.cli.render import create_console

    console = create_console()
    for heading, text in _describe(summary).items():
        console.print(Text.assemble((f"{heading:<11} ", "bold"), text), soft_wrap=True)
    console.print()
    _print_classes(summary)


def _describe(summary: DataSummary) -> dict[str, str]:
    """Returns what there is to say, by heading."""
    splits = ", ".join(f"{sum(counts)} {split.value}" for split, counts in summary.counts.items())
    lines = {
        "data": f"{summary.name} ({summary.kind.value}): {len(summary.classes)} classes, {summary.images} images",
        "splits": splits,
        "imbalance": _describe_imbalance(summary),
    }
    if summary.widths is not None and summary.heights is not None:
        lines["size"] = f"{_describe_sides(summary.widths)} wide, {_describe_sides(summary.heights)} high"
        lines["formats"] = ", ".join(f"{count} {mode}" for mode, count in summary.modes.items())
    if summary.duplicates is not None:
        lines["duplicates"] = _describe_duplicates(summary.duplicates)
    if summary.decode_seconds is not None:
        lines["decoding"] = f"about {_describe_seconds(summary.decode_seconds)} on one core, once per resolution"
    lines["unusable"] = _describe_unusable(summary)
    return lines


def _describe_imbalance(summary: DataSummary) -> str:
    from repnet_search.cli.render import describe_imbalance
    from repnet_search.data import Split
    from repnet_search.data.summary import measure_imbalance

    found = measure_imbalance(summary.classes, summary.counts[Split.TRAIN])
    text = describe_imbalance(found)
    return text if found.ratio < 2 else f"{text}; --metric balanced_accuracy counts each class alike"


def _describe_sides(sides: Sides) -> str:
    if sides.least == sides.most:
        return f"{sides.least} px"
    return f"{sides.least} to {sides.most} px (median {sides.median:g})"


def _describe_duplicates(found: Duplicates) -> str:
    if not found.extra:
        return "none"
    text = f"{found.extra} image{'' if found.extra == 1 else 's'} there already"
    if found.across_splits:
        text += f"; {found.across_splits} in several splits, such as {' and '.join(found.first_across)}"
    if found.across_classes:
        text += f"; {found.across_classes} in several classes"
    return text


def _describe_seconds(seconds: float) -> str:
    if seconds < 1:
        return "1 s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _describe_unusable(summary: DataSummary) -> str:
    if not summary.unusable:
        return "none"
    shown = [f"{name} {reason}" for name, reason in list(summary.unusable.items())[:MOST_FILES]]
    more = len(summary.unusable) - len(shown)
    return (
        f"{len(summary.unusable)}, --skip-broken leaves them out: " + "; ".join(shown) + f"; {more} more" * (more > 0)
    )


def _print_classes(summary: DataSummary) -> None:
    """Prints the images per class and split; of many classes the smallest and the largest alone."""
    from rich.table import Table

    from repnet_search.cli.render import create_console

    totals = summary.class_totals
    order = list(range(len(totals)))
    if len(totals) > MOST_ROWS:
        ranked = sorted(order, key=lambda label: totals[label])
        order = ranked[: MOST_ROWS // 2] + ranked[-MOST_ROWS // 2 :]
    table = Table(box=None)
    table.add_column("class", overflow="fold")
    for split in summary.counts:
        table.add_column(split.value, justify="right")
    for place, label in enumerate(order):
        if len(totals) > MOST_ROWS and place == MOST_ROWS // 2:
            table.add_row(f"… {len(totals) - MOST_ROWS} more …")
        table.add_row(summary.classes[label], *(str(counts[label]) for counts in summary.counts.values()))
    create_console().print(table)


def _as_json(summary: DataSummary, *, sha256: str) -> dict[str, Any]:
    import dataclasses

    value = dataclasses.asdict(summary)
    value["kind"] = summary.kind.value
    value["counts"] = {
        split.value: dict(zip(summary.classes, counts, strict=True)) for split, counts in summary.counts.items()
    }
    return {**value, "classes": len(summary.classes), "images": summary.images, "sha256": sha256}
