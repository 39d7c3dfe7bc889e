from __future__ import annotations

import pytest
import torch

from repnet_search.data import ImageSet, Split
from repnet_search.errors import SpecError
from repnet_search.models.backbone import FrozenConv
from repnet_search.models.repnet import Prefix
from repnet_search.spec import Design, Norm, Optimizer, Recipe, resolve
from repnet_search.spec.training import TrainingSpec
from repnet_search.training.cache import PrefixCache
from repnet_search.training.proxy import TrainingDivergedError, measure_test_accuracy, train_design
from repnet_search.training.task import Task
from repnet_search.training.views import create_views
from tests.designs import six_connectors

RECIPE = Recipe(optimizer=Optimizer.NORMALISED_SGD, accumulate=16, lr=0.01)
SHORT = TrainingSpec(epochs=2, views=2)


def test_the_last_layer_alone_learns_the_digits(task: Task) -> None:
    resolved = resolve(Design(connectors=(), recipe=RECIPE))
    model, result = train_design(resolved, task, TrainingSpec())
    assert result.validation_accuracy > 0.75
    assert result.losses[-1] < result.losses[0]
    assert measure_test_accuracy(model, task, resolution=48) > 0.75


def test_the_same_seed_gives_the_same_result_and_another_does_not(task: Task) -> None:
    resolved = resolve(six_connectors().model_copy(update={"recipe": RECIPE}))
    first, one = train_design(resolved, task, SHORT)
    second, two = train_design(resolved, task, SHORT)
    _, three = train_design(resolved, task, SHORT.model_copy(update={"seed": 1}))
    assert one.losses == two.losses
    assert one.losses != three.losses
    for name, value in first.trainable_state().items():
        assert torch.equal(value, second.trainable_state()[name])


def test_training_changes_what_trains_and_nothing_else(task: Task) -> None:
    resolved = resolve(six_connectors().model_copy(update={"recipe": RECIPE}))
    model, _ = train_design(resolved, task, SHORT)
    convs = [module for module in model.backbone.modules() if isinstance(module, FrozenConv)]
    for conv, spec in zip(convs, resolved.table.convs(), strict=True):
        assert torch.equal(conv.weight, task.weights.tensors[f"{spec.key}.weight"])
        assert torch.equal(conv.bias, task.weights.tensors[f"{spec.key}.bias"])
    assert all(bool(gamma.any()) for gamma in model.gammas)


def test_each_epoch_is_announced(task: Task) -> None:
    seen: list[int] = []
    train_design(
        resolve(Design(connectors=(), recipe=RECIPE)), task, SHORT, on_epoch=lambda epoch, _: seen.append(epoch)
    )
    assert seen == [1, 2]


def test_a_rate_that_is_too_high_is_a_failure_with_its_reason(task: Task) -> None:
    recipe = Recipe(optimizer=Optimizer.SGD, accumulate=16, lr=100.0)
    design = six_connectors(norm="none").model_copy(update={"recipe": recipe})
    with pytest.raises(TrainingDivergedError, match="use a smaller learning rate than 100"):
        train_design(resolve(design), task, SHORT)


@pytest.mark.parametrize(
    ("design", "sentence"),
    [
        (Design(connectors=(), activation_bits=8), "cannot be trained|not trained"),
        (six_connectors(norm=Norm.BATCH), "norm 'batch'"),
    ],
)
def test_what_cannot_be_trained_is_refused(design: Design, sentence: str, task: Task) -> None:
    with pytest.raises(SpecError, match=sentence):
        train_design(resolve(design), task, SHORT)


def test_views_begin_with_the_images_and_follow_from_the_seed(task: Task) -> None:
    images = task.source.load(Split.TRAIN, resolution=32)
    views = create_views(images, views=3, seed=0)
    assert views.images.shape == (300, 3, 32, 32)
    assert views.images.dtype is torch.uint8
    assert torch.equal(views.images[:100], images.images)
    assert torch.equal(views.labels, images.labels.repeat(3))
    assert torch.equal(views.images, create_views(images, views=3, seed=0).images)
    assert not torch.equal(views.images, create_views(images, views=3, seed=1).images)
    assert not torch.equal(views.images[100:200], images.images)


def test_views_of_a_blank_image_are_blank() -> None:
    blank = ImageSet(torch.full((1, 3, 16, 16), 200, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    assert (create_views(blank, views=4, seed=0).images == 200).all()


def test_the_cache_computes_once_and_forgets_the_least_recently_used() -> None:
    calls: list[str] = []

    def prefix(name: str) -> Prefix:
        calls.append(name)
        return Prefix(torch.zeros(25), (), torch.zeros(0))

    cache = PrefixCache(limit_bytes=250)
    for name in ("a", "b", "a", "c", "a", "b"):
        cache.get(name, lambda name=name: prefix(name))
    assert calls == ["a", "b", "c", "b"]
