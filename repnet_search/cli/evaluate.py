"""`repnet-search evaluate`: a bundle on images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from repnet_search.cli.options import json_option, metric_option, source_options

if TYPE_CHECKING:
    from repnet_search.export.evaluate import Evaluation
    from repnet_search.spec.training import Metric

MOST_COLUMNS = 16
MOST_ROWS = 10
MOST_LABELS_AS_MATRIX = 1000


@click.command(short_help="Measure a bundle on images: accuracy per class, confusions.")
@click.argument("bundle", type=click.Path(path_type=Path), metavar="DIR")
@source_options
@click.option(
    "--split",
    type=click.Choice(["test", "all"]),
    default="test",
    show_default=True,
    help="The test images, or every image.",
)
@metric_option
@json_option
def evaluate(
    *,
    bundle: Path,
    data: Path | None,
    data_root: Path | None,
    download: bool,
    data_cache: int,
    skip_broken: bool,
    split: str,
    metric: str,
    as_json: bool,
) -> None:
    """Measure a bundle on images: accuracy per class and the confusion matrix."""
    import json

    import torch

    from repnet_search.data import Split, create_source
    from repnet_search.export.bundle import load_model
    from repnet_search.export.evaluate import evaluate_bundle
    from repnet_search.export.manifest import refuse_damage
    from repnet_search.spec.training import Metric

    torch.set_num_threads(1)
    refuse_damage(bundle)
    model = load_model(bundle)
    source = create_source(data, skip_broken=skip_broken, root=data_root, download=download, cache_bytes=data_cache)
    splits = (Split.TEST,) if split == "test" else tuple(Split)
    result = evaluate_bundle(model, source, splits=splits)
    if as_json:
        print(json.dumps(_as_json(result, Metric(metric)), indent=2, ensure_ascii=False))
    else:
        _print(result, Metric(metric))
        if split == "test":
            print("\nThese are the test images; --split all takes those to train and validate on too.")


def _as_json(result: Evaluation, metric: Metric) -> dict[str, Any]:
    """Returns the result; beyond a thousand labels the mistakes in place of the matrix."""
    counts: dict[str, Any] = {"mistakes": result.mistakes}
    if len(result.labels) <= MOST_LABELS_AS_MATRIX:
        counts = {"confusion": result.confusion.tolist()}
    return {
        "images": result.images,
        "metric": metric.value,
        "value": result.value(metric),
        "accuracy": result.accuracy,
        "balanced_accuracy": result.balanced_accuracy,
        "labels": list(result.labels),
        "class_accuracies": result.class_accuracies,
        **counts,
    }


def _print(result: Evaluation, metric: Metric) -> None:
    from repnet_search.cli.render import create_console
    from repnet_search.report.wording import format_percent
    from repnet_search.spec.training import Metric

    console = create_console()
    plain, balanced = format_percent(result.accuracy), format_percent(result.balanced_accuracy)
    if metric is Metric.ACCURACY:
        console.print(f"{plain} of {result.images} images right ({balanced} balanced over the classes)\n")
    else:
        console.print(f"{balanced} right as the mean over the classes ({plain} of all {result.images} images)\n")
    if len(result.labels) <= MOST_COLUMNS:
        _print_matrix(result)
    else:
        _print_extremes(result)


def _print_matrix(result: Evaluation) -> None:
    from rich.table import Table
    from rich.text import Text

    from repnet_search.cli.render import create_console
    from repnet_search.report.wording import format_percent

    table = Table(title="Confusion: rows are true, columns predicted", title_justify="left", box=None)
    table.add_column("")
    table.add_column("accuracy", justify="right")
    for label in result.labels:
        table.add_column(label, justify="right")
    confusion = result.confusion.tolist()
    for index, label in enumerate(result.labels):
        counts = [
            Text(str(n), style="bold") if i == index else Text(str(n or "·")) for i, n in enumerate(confusion[index])
        ]
        table.add_row(label, format_percent(result.class_accuracies[index]), *counts)
    create_console().print(table)


def _print_extremes(result: Evaluation) -> None:
    """Prints the worst and the best classes and the most frequent mistakes: a matrix would fill the screen."""
    from rich.table import Table

    from repnet_search.cli.render import create_console
    from repnet_search.report.wording import format_percent

    known = [
        (share, label, count)
        for share, label, count in zip(result.class_accuracies, result.labels, result.class_counts, strict=True)
        if share is not None
    ]
    ranked = sorted(known, key=lambda entry: entry[0])
    shown = ranked if len(ranked) <= 2 * MOST_ROWS else [*ranked[:MOST_ROWS], *ranked[-MOST_ROWS:]]
    title = f"{len(result.labels)} classes, the worst first; --json has all"
    table = Table("class", title=title, title_justify="left", box=None)
    table.add_column("accuracy", justify="right")
    table.add_column("images", justify="right")
    for place, (share, label, count) in enumerate(shown):
        if len(shown) < len(ranked) and place == MOST_ROWS:
            table.add_row("…")
        table.add_row(label, format_percent(share), str(count))
    mistakes = Table("true", "predicted", title="\nMost frequent mistakes", title_justify="left", box=None)
    mistakes.add_column("images", justify="right")
    for true, predicted, count in result.mistakes[:MOST_ROWS]:
        mistakes.add_row(true, predicted, str(count))
    create_console().print(table, mistakes)
