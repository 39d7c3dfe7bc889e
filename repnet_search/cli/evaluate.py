"""`repnet-search evaluate`: a bundle on images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from repnet_search.cli.options import json_option

if TYPE_CHECKING:
    from repnet_search.export.evaluate import Evaluation


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR2",
    help="Images in folders by class. Default: the embedded handwritten digits.",
)
@click.option(
    "--split",
    type=click.Choice(["test", "all"]),
    default="test",
    show_default=True,
    help="The test images of the folder, or every image in it.",
)
@click.option("--skip-broken", is_flag=True, help="Leave out files that are no readable image, and count them.")
@json_option
def evaluate(*, bundle: Path, data: Path | None, split: str, skip_broken: bool, as_json: bool) -> None:
    """Measure a bundle on images: accuracy per class and the confusion matrix."""
    import json

    import torch

    from repnet_search.data import Split, create_source
    from repnet_search.export.bundle import load_model
    from repnet_search.export.evaluate import evaluate_bundle

    torch.set_num_threads(1)
    model = load_model(bundle)
    source = create_source(data, skip_broken=skip_broken)
    splits = (Split.TEST,) if split == "test" else tuple(Split)
    result = evaluate_bundle(model, source, splits=splits)
    if as_json:
        value = {
            "images": result.images,
            "accuracy": result.accuracy,
            "balanced_accuracy": result.balanced_accuracy,
            "labels": list(result.labels),
            "class_accuracies": result.class_accuracies,
            "confusion": result.confusion.tolist(),
        }
        print(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        _print(result)


def _print(result: Evaluation) -> None:
    from rich.table import Table
    from rich.text import Text

    from repnet_search.cli.render import create_console, format_percent

    console = create_console()
    console.print(
        f"{format_percent(result.accuracy)} of {result.images} images right "
        f"({format_percent(result.balanced_accuracy)} balanced over the classes)\n"
    )
    table = Table(title="Confusion: rows are true, columns predicted", title_justify="left", box=None)
    table.add_column("")
    table.add_column("accuracy", justify="right")
    for label in result.labels:
        table.add_column(label, justify="right")
    for index, label in enumerate(result.labels):
        counts = [
            Text(str(n), style="bold") if i == index else Text(str(n or "·"))
            for i, n in enumerate(result.confusion[index].tolist())
        ]
        table.add_row(label, format_percent(result.class_accuracies[index]), *counts)
    console.print(table)
