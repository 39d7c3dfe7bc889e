"""Proxy training: a design trained in its exact recipe, from frozen features that are computed once per view."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from repnet_search.data import Split
from repnet_search.errors import RepnetSearchError, SpecError
from repnet_search.models.repnet import RepNet
from repnet_search.spec.design import Norm
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.spec.training import TrainingSpec
from repnet_search.training.allocator import keep_freed_memory
from repnet_search.training.calibrate import get_calibration
from repnet_search.training.features import layout_on, load_features
from repnet_search.training.metric import measure_predictions
from repnet_search.training.task import Task
from repnet_search.training.update import UpdateRule

EVALUATION_BATCH = 64


class TrainingDivergedError(RepnetSearchError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True, slots=True)
class ProxyResult:
    """What a proxy training gave: accuracy in 0..1 (balanced where that is the metric), mean losses, wall time.

    `saturation` is the share of b that was clamped behind each writing connector, by its block, in an int8 backbone.
    `stopped` says that the training ended at a rung.
    """

    validation_accuracy: float
    losses: tuple[float, ...]
    elapsed_seconds: float
    saturation: tuple[tuple[int, float], ...] = ()
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Rungs:
    """After which epochs a training is looked at, and who says whether it goes on.

    `judge` is called with the epoch, from 1, and the validation accuracy.
    """

    epochs: Collection[int]
    judge: Callable[[int, float], bool]


def create_model(resolved: ResolvedDesign, task: Task, *, seed: int) -> RepNet:
    """Returns a design's model at its start: exactly the frozen backbone, modules drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        calibration = get_calibration(resolved, task)
        weights = task.weights_of(resolved.design.backbone)
        model = RepNet(resolved, weights.tensors, classes=task.classes, calibration=calibration)
        return model.to(task.device)


def train_design(
    resolved: ResolvedDesign,
    task: Task,
    training: TrainingSpec,
    *,
    on_epoch: Callable[[int, float], None] | None = None,
    rungs: Rungs | None = None,
) -> tuple[RepNet, ProxyResult]:
    """Returns a trained model and how it did on the validation images.

    Args:
        resolved: the design.
        task: what it is trained on.
        training: epochs and seed.
        on_epoch: called after each epoch with its number from 1 and its mean loss.
        rungs: where the training may be stopped.

    Raises:
        SpecError: this version cannot train the design (batch norm).
        TrainingDivergedError: the loss became NaN or infinite.
    """
    _check_trainable(resolved)
    started = time.perf_counter()
    layout = layout_on(task.device)
    if task.device.type == "cpu":
        keep_freed_memory()
    model = create_model(resolved, task, seed=training.seed).to(memory_format=layout)  # type: ignore[call-overload]
    losses: list[float] = []
    stopped_at: float | None = None
    for epoch, loss in _run_epochs(model, resolved, task, training):
        losses.append(loss)
        if on_epoch is not None:
            on_epoch(epoch, loss)
        if rungs is not None and epoch in rungs.epochs:
            accuracy = _validate(model, resolved, task, training)
            model.train()
            if not rungs.judge(epoch, accuracy):
                stopped_at = accuracy
                break
    accuracy = _validate(model, resolved, task, training) if stopped_at is None else stopped_at
    model.to(memory_format=torch.contiguous_format)  # as files and exports want it
    elapsed = time.perf_counter() - started
    saturation = tuple(sorted(model.saturation().items()))
    return model, ProxyResult(accuracy, tuple(losses), elapsed, saturation, stopped=stopped_at is not None)


def _check_trainable(resolved: ResolvedDesign) -> None:
    for index, module in enumerate(resolved.modules):
        if module.norm is Norm.BATCH:
            raise SpecError(
                f"connectors[{index}] has norm 'batch', which couples the images of a batch, but recipes train at "
                "micro-batch 1; use norm 'group' or 'layer'."
            )


def _run_epochs(
    model: RepNet, resolved: ResolvedDesign, task: Task, training: TrainingSpec
) -> Iterator[tuple[int, float]]:
    """Trains, and yields each epoch's number from 1 and its mean loss when it has ended."""
    recipe = resolved.design.recipe
    rule = UpdateRule(model, recipe, head=model.head_parameters())
    features, labels = load_features(model, resolved, task, Split.TRAIN, training)
    labels = labels.to(task.device)
    order = torch.Generator().manual_seed(training.seed)
    steps = training.epochs * math.ceil(len(labels) / recipe.accumulate)
    done = 0
    model.train()
    for epoch in range(1, training.epochs + 1):
        total = torch.zeros((), device=task.device)
        for chosen in torch.randperm(len(labels), generator=order).split(recipe.accumulate):
            rule.scale = 0.5 * (1 + math.cos(math.pi * done / steps))
            # Norms couple no images, so one batch of `accumulate` images is the mean of as many micro-batches of 1.
            loss = functional.cross_entropy(model.adapt(features.select(chosen)), labels[chosen])
            loss.backward()
            rule.step()
            total += loss.detach() * len(chosen)
            done += 1
        loss_mean = float(total) / len(labels)
        if not math.isfinite(loss_mean):
            raise TrainingDivergedError(
                f"The loss became {loss_mean} in epoch {epoch}; use a smaller learning rate than {recipe.lr:g}."
            )
        yield epoch, loss_mean


def _validate(model: RepNet, resolved: ResolvedDesign, task: Task, training: TrainingSpec) -> float:
    """Returns the metric on the validation images, from their cached features."""
    features, labels = load_features(model, resolved, task, Split.VALIDATION, training)
    model.eval()
    with torch.inference_mode():
        chunks = torch.arange(len(labels)).split(EVALUATION_BATCH)
        predicted = torch.cat([model.adapt(features.select(chunk)).argmax(1).cpu() for chunk in chunks])
    return measure_predictions(training.metric, predicted, labels)
