"""The two accuracies, and the search that follows the balanced one."""

from __future__ import annotations

import pytest
import torch

from repnet_search.data import Split
from repnet_search.spec import Design, resolve
from repnet_search.spec.training import Metric, TrainingSpec
from repnet_search.training.evaluate import measure_test_accuracy, predict
from repnet_search.training.metric import measure_predictions
from repnet_search.training.proxy import train_design
from repnet_search.training.task import Task


def test_the_two_accuracies_of_unequal_classes() -> None:
    labels = torch.tensor([0] * 8 + [2] * 2)
    predicted = torch.tensor([0] * 8 + [1, 2])
    assert measure_predictions(Metric.ACCURACY, predicted, labels) == pytest.approx(0.9)
    assert measure_predictions(Metric.BALANCED_ACCURACY, predicted, labels) == pytest.approx(0.75)  # class 1 has none


def test_training_and_test_are_measured_by_the_metric(task: Task) -> None:
    resolved = resolve(Design(connectors=(), resolution=32))
    plain = TrainingSpec(epochs=1, views=1)
    balanced = plain.model_copy(update={"metric": Metric.BALANCED_ACCURACY})
    model, first = train_design(resolved, task, plain)
    _, second = train_design(resolved, task, balanced)
    assert first.losses == second.losses
    assert first.validation_accuracy == pytest.approx(second.validation_accuracy)  # the digits validate 40 per class
    (predicted,), labels = predict(
        [model], resolved.design, task, task.source.batches(Split.TEST, resolution=32, batch=256)
    )
    shares = [float((predicted[labels == digit] == digit).double().mean()) for digit in range(10)]
    value = measure_test_accuracy(model, resolved.design, task, metric=Metric.BALANCED_ACCURACY)
    assert value == pytest.approx(sum(shares) / 10)
    assert value != measure_test_accuracy(model, resolved.design, task)


def test_a_plain_accuracy_goes_without_saying() -> None:
    assert Metric.ACCURACY.of("test") == "test"
    assert Metric.BALANCED_ACCURACY.of("test") == "test (balanced)"
    assert Metric.BALANCED_ACCURACY.label == "balanced accuracy"
