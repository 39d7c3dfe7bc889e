"""`repnet-search train`: a design file, trained and reported as `run` reports its winner."""

from __future__ import annotations

from pathlib import Path

import click

from repnet_search.cli.limit_options import DeviceChoice, device_options
from repnet_search.cli.options import (
    data_options,
    feature_options,
    json_option,
    metric_option,
    schedule_option,
    weights_options,
)


@click.command(short_help="Train a design file and report its memory and accuracy.")
@click.argument("design", type=click.Path(path_type=Path), metavar="DESIGN.yaml")
@device_options(budget_help="Refuse to train what needs more (exit code 3).")
@click.option("--epochs", type=click.IntRange(1, 10_000), default=None, help="Passes over the views. Default: as run.")
@click.option(
    "--views", type=click.IntRange(1, 64), default=None, help="Views of each training image. Default: as run."
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of the training.")
@metric_option
@schedule_option
@click.option("--to", type=click.Path(path_type=Path), metavar="DIR", help="Write the trained design as a bundle.")
@click.option("--force", is_flag=True, help="Replace the bundle that --to names.")
@data_options
@feature_options
@weights_options
@json_option
def train(
    *,
    design: Path,
    budget: int | None,
    board: str | None,
    reserve: int | None,
    flash: int | None,
    epochs: int | None,
    views: int | None,
    seed: int,
    metric: str,
    schedule: str,
    to: Path | None,
    force: bool,
    data: Path | None,
    data_root: Path | None,
    download: bool,
    data_cache: int,
    proxy_images: int | None,
    skip_broken: bool,
    feature_cache: int,
    feature_cache_type: str,
    weights: tuple[Path, ...],
    input_range: str | None,
    accelerator: str,
    as_json: bool,
) -> None:
    """Train a design file, also an edited one, and report memory and accuracy."""
    import json
    from contextlib import nullcontext

    from rich.progress import Progress

    from repnet_search.cli.estimate import print_estimate
    from repnet_search.cli.health import report_features
    from repnet_search.cli.next_commands import evaluate_command
    from repnet_search.cli.render import create_console
    from repnet_search.cli.render_device import device_to_json
    from repnet_search.errors import OverBudgetError
    from repnet_search.export.bundle import save_bundle
    from repnet_search.export.card import Provenance
    from repnet_search.export.place import hold_place
    from repnet_search.memory import check_backbone_fits, check_fit, explain_memory
    from repnet_search.report.wording import format_percent
    from repnet_search.spec.files import load_design
    from repnet_search.spec.resolve import resolve
    from repnet_search.spec.target import Schedule
    from repnet_search.spec.training import FeatureType, Metric, TrainingSpec
    from repnet_search.training.evaluate import measure_test_accuracy
    from repnet_search.training.proxy import train_design
    from repnet_search.training.task import TaskOptions, load_task
    from repnet_search.units import format_count

    device = DeviceChoice(budget, board, reserve, flash).create()
    resolved = resolve(load_design(design), source=str(design))
    if device is not None:
        bits = [resolved.design.activation_bits]
        check_backbone_fits(resolved.design.backbone, activation_bits=bits, limits=device.limits)
    # Before any work: a folder that cannot be written would cost the whole training.
    with hold_place(to, force=force) if to is not None else nullcontext() as place:
        options = TaskOptions(
            data=data,
            proxy_images=proxy_images,
            skip_broken=skip_broken,
            weights=weights,
            input_range=input_range,
            accelerator=accelerator,
            data_root=data_root,
            download=download,
            data_cache_bytes=data_cache,
            feature_cache_bytes=feature_cache,
        )
        task = load_task(options, resolved.design.backbone)
        explained = explain_memory(resolved, classes=task.classes, schedule=Schedule(schedule))
        memory = explained.estimate
        fit = check_fit(explained, device.limits) if device is not None else None
        if fit is not None and not fit.fits:
            largest = f"; largest part of the memory: {memory.peak_place}" if fit.ram_excess_bytes > 0 else ""
            raise OverBudgetError(f"Design {resolved.short_id} {fit.problem}{largest}. It was not trained.")
        report_features(task, resolutions=[resolved.design.resolution])
        changes = {name: value for name, value in (("epochs", epochs), ("views", views)) if value is not None}
        kind = FeatureType(feature_cache_type)
        training = TrainingSpec(seed=seed, metric=Metric(metric), feature_cache_type=kind).model_copy(update=changes)
        console = create_console(stderr=True)
        with Progress(console=console, transient=True) as progress:
            bar = progress.add_task("training", total=training.epochs)
            model, result = train_design(
                resolved, task, training, on_epoch=lambda epoch, _: progress.update(bar, completed=epoch)
            )
        test_accuracy = measure_test_accuracy(model, resolved.design, task, metric=training.metric)
        named = training.metric.of
        accuracies = {named("validation"): result.validation_accuracy, named("test"): test_accuracy}
        if place is not None:
            provenance = Provenance(training=training)
            save_bundle(place, resolved, model, task, memory, accuracies=accuracies, provenance=provenance)
    if as_json:
        report = {
            "design_id": resolved.id,
            "schedule": schedule,
            "ram_bytes": memory.ram_bytes,
            "terms": dict(memory.terms),
            "flash_bytes": memory.flash_bytes,
            "flash_terms": dict(memory.flash.terms),
        }
        if device is not None and fit is not None:
            report["device"] = device_to_json(device, memory, fit)
        print(json.dumps(report | {"accuracy": accuracies, "losses": result.losses}, indent=2))
        return
    print_estimate(resolved, memory, device=device, fit=fit)
    out = create_console()
    out.print(
        f"\nTrained {format_count(training.epochs, 'epoch')} of {format_count(training.views, 'view')} in "
        f"{result.elapsed_seconds:.1f} s: "
        f"{format_percent(result.validation_accuracy)} {training.metric.of('on validation')}, "
        f"{format_percent(test_accuracy)} {training.metric.of('on the test images')}.",
        soft_wrap=True,
    )
    if to is not None:
        evaluate = evaluate_command(to, metric=training.metric)
        out.print(f"The bundle is in {to}; evaluate it with: {evaluate}", soft_wrap=True)
