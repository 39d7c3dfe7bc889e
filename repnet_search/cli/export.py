"""`repnet-search export`: the winner of a study as a bundle, and whether a bundle is whole."""

from __future__ import annotations

from pathlib import Path

import click

from repnet_search.cli.options import Size, data_options, storage_option, weights_options


@click.command()
@click.option("--study", metavar="NAME", help="The study whose winner is exported.")
@click.option("--to", type=click.Path(path_type=Path), metavar="DIR", help="The folder to write.")
@click.option("--budget", type=Size(), help="Export the best under this budget. Default: the study's own.")
@click.option(
    "--onnx",
    is_flag=True,
    help="Write model.onnx too, for inference with batches of any size; takes pip install 'repnet-search[onnx]'.",
)
@click.option("--force", is_flag=True, help="Replace a bundle that is there.")
@click.option(
    "--check",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write nothing, but say whether a bundle is whole: its files, and that all its models give the same logits.",
)
@storage_option
@data_options
@weights_options
def export(
    *,
    study: str | None,
    to: Path | None,
    budget: int | None,
    onnx: bool,
    force: bool,
    check: Path | None,
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
    """Write the best design of a study as a bundle, or check one.

    A bundle stands alone: design, weights, a readable model.py that needs torch alone, the memory plan as JSON and as a
    C header, labels, and a card of what it is and how good. It has its name only once its models give the same logits.

    Give the same --data and --weights as to 'run'; of several weights, those of the winner's width are enough. The
    input range is the study's.
    """
    from repnet_search.cli.next_commands import evaluate_command
    from repnet_search.errors import UsageError
    from repnet_search.export.onnx_file import check_onnx_installed
    from repnet_search.export.place import hold_place
    from repnet_search.export.study import choose_record, export_record, load_task_of
    from repnet_search.results.study import load_study
    from repnet_search.training.task import TaskOptions

    if check is not None:
        if study is not None or to is not None:
            raise UsageError("--check DIR looks at a bundle that is there; leave --study and --to out.")
        _check(check)
        return
    if study is None or to is None:
        raise UsageError("An export needs --study NAME and --to DIR; 'repnet-search studies' lists the studies.")
    if onnx:
        check_onnx_installed()
    view = load_study(study, storage=storage)
    settings = view.settings
    record = choose_record(view, budget_bytes=budget)
    options = TaskOptions(
        data=data,
        proxy_images=proxy_images if proxy_images is not None else settings.data.proxy_images,
        skip_broken=skip_broken,
        weights=weights,
        input_range=input_range or settings.all_weights[record.design.backbone].input_range,
        accelerator=accelerator,
        data_root=data_root,
        download=download,
        data_cache_bytes=data_cache,
    )
    with hold_place(to, force=force) as place:
        export_record(view, record, load_task_of(view, record, options), place, onnx=onnx)
    evaluate = evaluate_command(to, metric=settings.training.metric)
    print(f"Design {record.short_id} is in {to}; evaluate it with: {evaluate}")


def _check(folder: Path) -> None:
    """Prints what was compared.

    Raises:
        RepnetSearchError: the bundle is not whole; the failures behind the first are printed before.
    """
    import sys

    import torch

    from repnet_search.export.check import check_bundle

    torch.set_num_threads(1)
    check = check_bundle(folder)
    for line in (*check.notes, *check.failures[1:]):
        print(f"Note: {line}", file=sys.stderr)
    check.raise_failures(folder)
    models = ", ".join(f"{name} by at most {difference:.1e}" for name, difference in check.differences.items())
    print(f"The bundle {folder} is whole. From the model that was trained, logits of noise differ in {models}.")
