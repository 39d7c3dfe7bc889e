"""`repnet-search adapt`: a bundle learns new images as its device would."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from repnet_search.cli.options import json_option, metric_option, source_options

if TYPE_CHECKING:
    from repnet_search.export.adapt import Adaptation, AdaptOptions
    from repnet_search.export.adapt_subject import AdaptSubject

# As in export/adapt.py, which costs too much to import for --help.
DECAYS = ("cosine", "none")


@click.command(short_help="Let a bundle learn new images as its device would.")
@click.argument("bundle", type=click.Path(path_type=Path), metavar="DIR")
@source_options
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    metavar="N",
    help="Learn from N images. Default: 1000, and with --stream all that are there to learn from.",
)
@click.option(
    "--stream",
    is_flag=True,
    help="See each image once, and ask for its class before learning it. Default: pass after pass, shuffled.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of the images' order.")
@click.option(
    "--lr-scale",
    type=click.FloatRange(0, 1000, min_open=True),
    default=1.0,
    show_default=True,
    metavar="FACTOR",
    help="Factor on the recipe's learning rate.",
)
@click.option(
    "--decay",
    type=click.Choice(DECAYS),
    help="How the learning rate falls: to 0 over the steps, as in training; or never, as on a device that goes on "
    "learning, at half the rate, which is the mean of the former. Default: cosine, and with --stream none.",
)
@click.option(
    "--new-head",
    is_flag=True,
    help="Start the last layer anew with the images' classes; the arena is then planned anew too.",
)
@metric_option
@click.option("--to", type=click.Path(path_type=Path), metavar="DIR", help="Write the adapted bundle here.")
@click.option("--force", is_flag=True, help="Replace the bundle that --to names.")
@click.option("--onnx", is_flag=True, help="Write model.onnx too; takes pip install 'repnet-search[onnx]'.")
@json_option
def adapt(
    *,
    bundle: Path,
    data: Path | None,
    data_root: Path | None,
    download: bool,
    data_cache: int,
    skip_broken: bool,
    steps: int | None,
    stream: bool,
    seed: int,
    lr_scale: float,
    decay: str | None,
    new_head: bool,
    metric: str,
    to: Path | None,
    force: bool,
    onnx: bool,
    as_json: bool,
) -> None:
    """Let a bundle learn new images as its device would, and compare before and after.

    One image at a time, in the bundle's recipe, with every buffer inside the arena of its plan.json; the command fails
    where a step takes other bytes. The images' classes are the bundle's labels, or some of them. It learns from the
    training images; the validation images show its way, the test images what has changed. Ctrl-C ends it early: what
    has been learnt by then is measured and written.
    """
    import json
    from contextlib import nullcontext

    from repnet_search.cli.render_adapt import adaptation_to_json, print_adaptation
    from repnet_search.data import create_source
    from repnet_search.errors import UsageError
    from repnet_search.export.adapt import AdaptOptions, Decay, save_adapted
    from repnet_search.export.adapt_subject import load_subject
    from repnet_search.export.onnx_file import check_onnx_installed
    from repnet_search.export.place import hold_place
    from repnet_search.spec.training import Metric
    from repnet_search.training.task import select_device

    if to is None and (force or onnx):
        raise UsageError("--force and --onnx are for the bundle that --to DIR writes; name it, or leave them out.")
    if onnx:
        check_onnx_installed()
    select_device("cpu")
    options = AdaptOptions(
        steps=steps,
        stream=stream,
        seed=seed,
        rate_scale=lr_scale,
        decay=Decay(decay or ("none" if stream else "cosine")),
        metric=Metric(metric),
    )
    with hold_place(to, force=force) if to is not None else nullcontext() as place:
        source = create_source(data, skip_broken=skip_broken, root=data_root, download=download, cache_bytes=data_cache)
        subject = load_subject(bundle, source, new_head=new_head)
        adaptation = _adapt(subject, options)
        if place is not None:
            save_adapted(place, subject, adaptation, metric=options.metric, onnx=onnx)
    if as_json:
        print(json.dumps(adaptation_to_json(subject, adaptation, options), indent=2, ensure_ascii=False))
    else:
        print_adaptation(subject, adaptation, options, to=to)
    if adaptation.interruption is not None:
        raise adaptation.interruption


def _adapt(subject: AdaptSubject, options: AdaptOptions) -> Adaptation:
    """Returns how the bundle did, and shows on stderr how far it is."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from repnet_search.cli.render import create_console
    from repnet_search.data import Split
    from repnet_search.export.adapt import adapt as run
    from repnet_search.export.adapt import choose_steps
    from repnet_search.report.wording import format_percent

    console = create_console(stderr=True)
    steps = choose_steps(options, available=subject.task.source.count(Split.TRAIN))
    columns = (
        TextColumn("learning"),
        MofNCompleteColumn(),
        BarColumn(bar_width=12),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=steps)

        def show(images: int, right: float) -> None:
            speed = progress.tasks[0].speed
            pace = f"{speed:.0f} images/s, " if speed else ""
            progress.update(bar, completed=images, description=f"{pace}{format_percent(right)} right before learning")

        adaptation = run(subject, options, on_images=show)
    if adaptation.interruption is not None:
        console.print(f"Interrupted; kept is what was learnt from {adaptation.images} images.", soft_wrap=True)
    return adaptation
