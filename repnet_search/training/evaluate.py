"""Accuracy on the test images, read one batch at a time; models that share a frozen prefix compute it once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from repnet_search.data import ImageSet, Split
from repnet_search.models.repnet import RepNet
from repnet_search.spec.design import Design
from repnet_search.spec.training import Metric
from repnet_search.training.metric import measure_predictions
from repnet_search.training.task import Task

TEST_BATCH = 256


def predict(
    models: Sequence[RepNet], design: Design, task: Task, batches: Iterator[ImageSet]
) -> tuple[list[Tensor], Tensor]:
    """Returns what each of a design's models predicts and the true labels, each (N,), of a stream of image sets."""
    input_range = task.weights_of(design.backbone).input_range
    parts: list[list[Tensor]] = []
    labels = []
    for model in models:
        model.eval()
    with torch.inference_mode():
        for batch in batches:
            # What is frozen is the same in all of them; what trains is all behind the prefix.
            prefix = models[0].prefix(input_range.normalise(batch.images.to(task.device)))
            parts.append([model.adapt(prefix).argmax(1).cpu() for model in models])
            labels.append(batch.labels)
    return [torch.cat(column) for column in zip(*parts, strict=True)], torch.cat(labels)


def measure_test_accuracies(
    models: Sequence[RepNet], design: Design, task: Task, *, metric: Metric = Metric.ACCURACY
) -> list[float]:
    """Returns the test accuracy of each of a design's models; the balanced one where the metric says so."""
    batches = task.source.batches(Split.TEST, resolution=design.resolution, batch=TEST_BATCH)
    predicted, labels = predict(models, design, task, batches)
    return [measure_predictions(metric, column, labels) for column in predicted]


def measure_test_accuracy(model: RepNet, design: Design, task: Task, *, metric: Metric = Metric.ACCURACY) -> float:
    """Returns the test accuracy of one model."""
    (accuracy,) = measure_test_accuracies([model], design, task, metric=metric)
    return accuracy
