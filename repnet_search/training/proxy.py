"""Proxy training: a design trained in its exact recipe, its frozen prefix computed once per image."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from repnet_search.data import ImageSet, Split
from repnet_search.errors import RepnetSearchError, SpecError
from repnet_search.models.lean_runtime import LeanRuntime
from repnet_search.models.repnet import Prefix, RepNet
from repnet_search.spec.design import Norm
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.spec.training import Metric, TrainingSpec
from repnet_search.training.cache import prefix_bytes
from repnet_search.training.calibrate import get_calibration
from repnet_search.training.metric import measure_predictions
from repnet_search.training.room import check_room
from repnet_search.training.task import Task
from repnet_search.training.update import UpdateRule
from repnet_search.training.views import create_views

EVALUATION_BATCH = 64
LEAN_BATCH = 8
VIEWS_SEED = 0  # of the views alone: the same for every study, so that seeds differ in training and in nothing else


class TrainingDivergedError(RepnetSearchError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True, slots=True)
class ProxyResult:
    """What a proxy training gave: accuracy in 0..1 (balanced where that is the metric), mean losses, wall time.

    `saturation` is the share of b that was clamped behind each writing connector, by its block, in an int8 backbone.
    """

    validation_accuracy: float
    losses: tuple[float, ...]
    elapsed_seconds: float
    saturation: tuple[tuple[int, float], ...] = ()


def create_model(resolved: ResolvedDesign, task: Task, *, seed: int) -> RepNet:
    """Returns a design's model at its start: exactly the frozen backbone, modules drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        calibration = get_calibration(resolved, task)
        model = RepNet(resolved, task.weights.tensors, classes=task.classes, calibration=calibration)
        return model.to(task.device)


def train_design(
    resolved: ResolvedDesign,
    task: Task,
    training: TrainingSpec,
    *,
    on_epoch: Callable[[int, float], None] | None = None,
) -> tuple[RepNet, ProxyResult]:
    """Returns a trained model and how it did on the validation images.

    Args:
        resolved: the design.
        task: what it is trained on.
        training: epochs and seed.
        on_epoch: called after each epoch with its number from 1 and its mean loss.

    Raises:
        SpecError: this version cannot train the design (batch norm).
        TrainingDivergedError: the loss became NaN or infinite.
    """
    _check_trainable(resolved)
    started = time.perf_counter()
    model = create_model(resolved, task, seed=training.seed)
    losses = _run_epochs(model, resolved, task, training, on_epoch)
    accuracy = _validate(model, resolved, task, training.metric)
    elapsed = time.perf_counter() - started
    return model, ProxyResult(accuracy, losses, elapsed, tuple(sorted(model.saturation().items())))


def predict(model: RepNet, task: Task, batches: Iterator[ImageSet]) -> tuple[Tensor, Tensor]:
    """Returns predicted and true labels (N,) of a stream of image sets."""
    predicted, labels = [], []
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            images = task.weights.input_range.normalise(batch.images.to(task.device))
            predicted.append(model(images).argmax(1).cpu())
            labels.append(batch.labels)
    return torch.cat(predicted), torch.cat(labels)


def measure_test_accuracy(model: RepNet, task: Task, *, resolution: int, metric: Metric = Metric.ACCURACY) -> float:
    """Returns the accuracy on the test images, read one batch at a time; the balanced one where the metric says so."""
    batches = task.source.batches(Split.TEST, resolution=resolution, batch=256)
    return measure_predictions(metric, *predict(model, task, batches))


def _check_trainable(resolved: ResolvedDesign) -> None:
    for index, module in enumerate(resolved.modules):
        if module.norm is Norm.BATCH:
            raise SpecError(
                f"connectors[{index}] has norm 'batch', which couples the images of a batch, but recipes train at "
                "micro-batch 1; use norm 'group' or 'layer'."
            )


def _run_epochs(
    model: RepNet,
    resolved: ResolvedDesign,
    task: Task,
    training: TrainingSpec,
    on_epoch: Callable[[int, float], None] | None,
) -> tuple[float, ...]:
    recipe = resolved.design.recipe
    rule = UpdateRule(model, recipe, head=model.head_parameters())
    prefix, labels = _cached_prefix(model, resolved, task, Split.TRAIN, views=training.views)
    labels = labels.to(task.device)
    loss_of = _create_loss(model, resolved)
    order = torch.Generator().manual_seed(training.seed)
    steps = training.epochs * math.ceil(len(labels) / recipe.accumulate)
    done = 0
    losses = []
    model.train()
    for epoch in range(1, training.epochs + 1):
        total = torch.zeros((), device=task.device)
        for chosen in torch.randperm(len(labels), generator=order).split(recipe.accumulate):
            rule.scale = 0.5 * (1 + math.cos(math.pi * done / steps))
            # Norms couple no images, so one batch of `accumulate` images is the mean of as many micro-batches of 1.
            loss = loss_of(_select(prefix, chosen), labels[chosen])
            loss.backward()
            rule.step()
            total += loss.detach() * len(chosen)
            done += 1
        losses.append(float(total) / len(labels))
        if not math.isfinite(losses[-1]):
            raise TrainingDivergedError(
                f"The loss became {losses[-1]} in epoch {epoch}; use a smaller learning rate than {recipe.lr:g}."
            )
        if on_epoch is not None:
            on_epoch(epoch, losses[-1])
    return tuple(losses)


def _create_loss(model: RepNet, resolved: ResolvedDesign) -> Callable[[Prefix, Tensor], Tensor]:
    """Returns the mean cross-entropy of a batch on the faster runtime; both give the same gradients.

    The lean runtime wins where gradients pass through the whole backbone in batches of some size: 0.7 to 0.9 of stock
    PyTorch's time where biases train, 1.0 to 1.5 elsewhere (studies/lean_speed.md).
    """
    design = resolved.design
    if design.train_bias and design.recipe.accumulate >= LEAN_BATCH and design.activation_bits == 32:
        return LeanRuntime(model, resolved).adapted_loss
    return lambda prefix, labels: functional.cross_entropy(model.adapt(prefix), labels)


def _validate(model: RepNet, resolved: ResolvedDesign, task: Task, metric: Metric) -> float:
    """Returns the metric on the validation images, from their cached features."""
    prefix, labels = _cached_prefix(model, resolved, task, Split.VALIDATION, views=1)
    model.eval()
    with torch.inference_mode():
        chunks = torch.arange(len(labels)).split(EVALUATION_BATCH)
        predicted = torch.cat([model.adapt(_select(prefix, chunk)).argmax(1).cpu() for chunk in chunks])
    return measure_predictions(metric, predicted, labels)


def _cached_prefix(
    model: RepNet, resolved: ResolvedDesign, task: Task, split: Split, *, views: int
) -> tuple[Prefix, Tensor]:
    """Returns the frozen prefix of a split's views and their labels, computed once for all designs that share it."""
    design = resolved.design
    images = task.source.load(split, resolution=design.resolution)
    readers = tuple(module.after_block for module in resolved.modules[: model.prefix_modules])
    image_pool = design.image_pool if resolved.modules else 0
    key = (
        split,
        views,
        design.backbone,
        design.activation_bits,
        design.resolution,
        image_pool,
        readers,
        model.prefix_blocks,
    )
    return task.cache.get(key, lambda: _compute_prefix(model, task, images, views)), images.labels.repeat(views)


def _compute_prefix(model: RepNet, task: Task, images: ImageSet, views: int) -> Prefix:
    """Returns the frozen prefix of all views, on the device."""
    # Joining the parts holds everything twice.
    check_room(2 * (views - 1) * images.images.nbytes, what=f"The {views} views of {len(images)} images")
    images = create_views(images, views=views, seed=VIEWS_SEED)
    parts: list[Prefix] = []
    with torch.no_grad():
        for batch in _chunks(images):
            parts.append(model.prefix(task.weights.input_range.normalise(batch.images.to(task.device))))
            if len(parts) == 1 and task.device.type == "cpu":
                needed_bytes = 2 * prefix_bytes(parts[0]) * len(images) // len(batch)
                check_room(needed_bytes, what=f"The frozen features of {len(images)} images or views")
    features = tuple(torch.cat(column) for column in zip(*(part.features for part in parts), strict=True))
    return Prefix(
        torch.cat([part.stream for part in parts]),
        features,
        torch.cat([part.feature for part in parts]),
    )


def _select(prefix: Prefix, chosen: Tensor) -> Prefix:
    return Prefix(
        prefix.stream[chosen],
        tuple(feature[chosen] for feature in prefix.features),
        prefix.feature[chosen],
    )


def _chunks(images: ImageSet) -> Iterator[ImageSet]:
    for start in range(0, len(images), EVALUATION_BATCH):
        stop = start + EVALUATION_BATCH
        yield ImageSet(images.images[start:stop], images.labels[start:stop])
