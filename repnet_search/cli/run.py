"""`repnet-search run`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from repnet_search.cli.data import reading_images
from repnet_search.cli.limit_options import Device, DeviceChoice, device_options
from repnet_search.cli.options import (
    backbone_options,
    data_options,
    feature_options,
    json_option,
    make_backbones,
    metric_option,
    schedule_option,
    storage_option,
    weights_options,
)
from repnet_search.cli.search_options import SearchChoice, search_options
from repnet_search.cli.space_options import load_chosen_space, space_options

if TYPE_CHECKING:
    from repnet_search.spec.space import SpaceSpec
    from repnet_search.spec.study import SearchSpec, StudySpec
    from repnet_search.spec.training import TrainingSpec
    from repnet_search.training.task import Task

SHARE_SAMPLES = 20_000


@click.command(short_help="Search the design that learns best within a memory budget.")
@device_options(budget_help="Training memory that a design may take, such as 256KB.")
@space_options
@search_options
@click.option(
    "--epochs",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    help="Passes over the training images' views that each design gets.",
)
@click.option(
    "--views",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Views of each training image: itself, and slightly turned, scaled and shifted copies.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that train side by side. Default: the cores. One worker and the same seed give the same "
    "study, trial by trial.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Of the training and the search; never of the splits.",
)
@metric_option
@click.option("--study", metavar="NAME", help="The study's name. Default: made of data, budget and settings.")
@schedule_option
@storage_option
@data_options
@feature_options
@backbone_options
@weights_options
@json_option
def run(
    *,
    budget: int | None,
    board: str | None,
    reserve: int | None,
    flash: int | None,
    space: str,
    resolution: tuple[int, ...],
    activation_bits: str | None,
    trials: int,
    timeout: float | None,
    patience: int | None,
    sampler: str,
    show_cut: int,
    warm_start: tuple[str, ...],
    reduction: int,
    confirm: int,
    confirm_seeds: int,
    confirm_epochs: int | None,
    epochs: int,
    views: int,
    workers: int | None,
    seed: int,
    metric: str,
    study: str | None,
    schedule: str,
    storage: str | None,
    data: Path | None,
    data_root: Path | None,
    download: bool,
    data_cache: int,
    proxy_images: int | None,
    skip_broken: bool,
    feature_cache: int,
    feature_cache_type: str,
    backbone: str,
    width_mult: tuple[float, ...],
    last_conv: bool,
    weights: tuple[Path, ...],
    input_range: str | None,
    accelerator: str,
    as_json: bool,
) -> None:
    """Search the design that learns best within a training-memory budget.

    Designs that need more than the budget are recognised by arithmetic and never trained; the others are trained
    briefly, in their exact recipes. The same command goes on where it stopped.
    """
    import math
    import time
    from dataclasses import replace

    from repnet_search.cli.health import report_features
    from repnet_search.cli.present import RunPresenter
    from repnet_search.errors import UsageError
    from repnet_search.memory import check_backbone_fits
    from repnet_search.results.confirmation import read_runs
    from repnet_search.results.session import add_session
    from repnet_search.results.storage import load_optuna_study, open_storage, study_folder
    from repnet_search.results.study import RecordReader
    from repnet_search.search.confirm import Confirmer, plan_runs
    from repnet_search.search.feasible import FeasibleSpace
    from repnet_search.search.finish import finish_search
    from repnet_search.search.run import Limits, Search, describe_end
    from repnet_search.search.space import SearchSpace
    from repnet_search.search.study import open_study
    from repnet_search.search.warm_start import enqueue_winners
    from repnet_search.search.workers import Job, confirm_with_workers, run_workers
    from repnet_search.spec.study import Sampler
    from repnet_search.spec.training import FeatureType, Metric, TrainingSpec
    from repnet_search.training.task import TaskOptions, load_task

    if timeout is not None and not math.isfinite(timeout):
        raise UsageError(f"--timeout must be a number of seconds, but got {timeout}.")
    device = DeviceChoice(budget, board, reserve, flash).require()
    deadline = time.time() + timeout if timeout is not None else None
    limits = Limits(trials=trials, deadline=deadline, patience=patience)
    backbones = make_backbones(backbone, width_mult, last_conv=last_conv, weights=weights)
    space_spec = load_chosen_space(space, resolution, activation_bits)
    check_backbone_fits(backbones[0], activation_bits=space_spec.activation_bits, limits=device.limits)
    search_space = SearchSpace(space_spec, *backbones)
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
    with reading_images(download=download):
        task = load_task(options, *backbones)
    kind = FeatureType(feature_cache_type)
    training = TrainingSpec(epochs=epochs, views=views, seed=seed, metric=Metric(metric), feature_cache_type=kind)
    choice = SearchChoice(sampler, show_cut, reduction, confirm, confirm_seeds, confirm_epochs)
    search = choice.create()
    settings = _settings(device, task, space_spec, training, search, proxy_images, schedule)
    feasible = FeasibleSpace(search_space, limits=settings.limits, classes=task.classes, schedule=settings.schedule)
    feasible.check_attainable()
    if search.sampler is Sampler.EXHAUSTIVE:
        feasible.fitting.check_countable()
    name = study or default_name(settings)
    study_folder(name)  # refuses what is no name, before the storage is made
    count = _count_workers(workers, task, storage)
    report_features(task, resolutions=space_spec.resolution)
    others = [load_optuna_study(other, open_storage(storage)) for other in warm_start]
    presenter = RunPresenter(name, settings, task, trials=trials, workers=count, as_json=as_json)
    with open_study(name, open_storage(storage, create=True), settings, feasible) as optuna_study:
        add_session(optuna_study, choice.create_session(epochs=epochs, workers=count, warm_start=warm_start))
        taken_over = enqueue_winners(optuna_study, feasible, others)
        reader = RecordReader(optuna_study)
        share = feasible.fitting.measure_share(samples=SHARE_SAMPLES, seed=seed)
        presenter.show_header(search_space.combinations, *share, warm_start=warm_start, taken_over=taken_over)
        job = Job(name, storage, settings, options, limits, count=count)
        try:
            with presenter.progress(reader.read()):
                if count == 1:
                    Search(optuna_study, settings, task, feasible).run(limits, listener=presenter.on_record)
                else:
                    run_workers(job, optuna_study, listener=presenter.on_record)
            presenter.show_end(describe_end(reader.read(), limits))
            plan = choice.create_confirmation(epochs=epochs)
            runs = plan_runs(optuna_study, feasible, settings, plan) if plan is not None else []
            with presenter.confirming(len(runs)) as on_run:
                if count == 1:
                    Confirmer(optuna_study, settings, task).run(runs, listener=on_run)
                elif runs:
                    confirm_with_workers(replace(job, runs=tuple(runs)), optuna_study, listener=on_run)
            with presenter.testing():
                result = finish_search(optuna_study, task)
            presenter.show_result(result)
        except KeyboardInterrupt:
            presenter.show_interrupted(reader.read(), confirmed=len(read_runs(optuna_study)))
            raise


def _count_workers(workers: int | None, task: Task, storage: str | None) -> int:
    """Returns what --workers says; by default a worker per core that this process may use, one on an accelerator.

    Raises:
        UsageError: several workers on SQLite, which gives the same queued trial to two of them.
    """
    import os

    from repnet_search.errors import UsageError

    on_sqlite = storage is not None and storage.startswith("sqlite")
    if on_sqlite and workers is not None and workers > 1:
        raise UsageError("SQLite is for one worker; use --workers 1, a journal file, or a database server.")
    if workers is not None:
        return workers
    if on_sqlite or task.device.type != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_name(settings: StudySpec) -> str:
    """Returns a study's name made of data, budget and the hash of all settings."""
    import re

    from repnet_search.units import format_size

    data = re.sub(r"[^A-Za-z0-9_-]+", "-", settings.data.name).strip("-_") or "data"
    size = format_size(settings.budget_bytes).replace(" ", "").removesuffix("iB").replace(".0", "") + "B"
    return f"{data[:40]}-{settings.board or size}-{settings.digest}"


def _settings(
    device: Device,
    task: Task,
    space: SpaceSpec,
    training: TrainingSpec,
    search: SearchSpec,
    proxy_images: int | None,
    schedule: str,
) -> StudySpec:
    from repnet_search.spec.study import DataSpec, StudySpec, WeightsSpec, WidthSpec
    from repnet_search.spec.target import Schedule

    source = task.source
    weights = {
        backbone: {"name": item.name, "sha256": item.sha256, "input_range": item.input_range.text}
        for backbone, item in task.weights.items()
    }
    narrowest, *wider = weights
    return StudySpec(
        budget_bytes=device.ram_bytes,
        reserve_bytes=device.reserve_bytes,
        flash_bytes=device.limits.flash_bytes,
        board=device.board.name if device.board is not None else None,
        schedule=Schedule(schedule),
        backbone=narrowest,
        weights=WeightsSpec(**weights[narrowest]),
        wider=tuple(WidthSpec(width_mult=backbone.width_mult, **weights[backbone]) for backbone in wider),
        data=DataSpec(name=source.name, sha256=source.sha256(), classes=len(source.classes), proxy_images=proxy_images),
        space=space,
        training=training,
        search=search,
    )
