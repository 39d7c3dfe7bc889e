"""`repnet-search export`: the winner of a study as a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from repnet_search.cli.options import Size, data_options, storage_option, weights_options


@click.command()
@click.option("--study", required=True, metavar="NAME", help="The study whose winner is exported.")
@click.option("--to", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The folder to write.")
@click.option("--budget", type=Size(), help="Export the best under this budget. Default: the study's own.")
@click.option("--force", is_flag=True, help="Replace a bundle that is there.")
@storage_option
@data_options
@weights_options
def export(
    *,
    study: str,
    to: Path,
    budget: int | None,
    force: bool,
    storage: str | None,
    data: Path | None,
    data_root: Path | None,
    download: bool,
    data_cache: int,
    proxy_images: int | None,
    skip_broken: bool,
    weights: tuple[Path, ...],
    input_range: str | None,
    accelerator: str,
) -> None:
    """Write the best design of a study as a bundle: design, weights, memory report, README.

    Give the same --data and --weights as to 'run'; of several weights, those of the winner's width are enough.
    """
    from repnet_search.cli.next_commands import evaluate_command
    from repnet_search.export.place import hold_place
    from repnet_search.export.study import choose_record, export_record, load_task_of
    from repnet_search.results.study import load_study
    from repnet_search.training.task import TaskOptions

    view = load_study(study, storage=storage)
    settings = view.settings
    record = choose_record(view, budget_bytes=budget)
    options = TaskOptions(
        data,
        proxy_images if proxy_images is not None else settings.data.proxy_images,
        skip_broken,
        weights,
        input_range or settings.all_weights[record.design.backbone].input_range,
        accelerator,
        data_root,
        download,
        data_cache,
    )
    with hold_place(to, force=force) as place:
        export_record(view, record, load_task_of(view, record, options), place)
    evaluate = evaluate_command(to, metric=settings.training.metric)
    print(f"Design {record.short_id} is in {to}; evaluate it with: {evaluate}")
