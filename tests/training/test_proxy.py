from __future__ import annotations

import pytest
import torch

from repnet_search.data import ImageSet, Split
from repnet_search.errors import SpecError
from repnet_search.models.backbone import FrozenConv
from repnet_search.spec import BackboneSpec, Design, Norm, Optimizer, Recipe, resolve
from repnet_search.spec.training import TrainingSpec
from repnet_search.training.evaluate import measure_test_accuracy
from repnet_search.training.proxy import Rungs, TrainingDivergedError, create_model, train_design
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
    assert measure_test_accuracy(model, resolved.design, task) > 0.75


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
        assert torch.equal(conv.weight, task.weights_of(BackboneSpec()).tensors[f"{spec.key}.weight"])
        assert torch.equal(conv.bias, task.weights_of(BackboneSpec()).tensors[f"{spec.key}.bias"])
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


def test_a_batch_norm_cannot_be_trained(task: Task) -> None:
    with pytest.raises(SpecError, match="norm 'batch'"):
        train_design(resolve(six_connectors(norm=Norm.BATCH)), task, SHORT)


@pytest.mark.parametrize("train_bias", [False, True])
def test_an_int8_backbone_learns_what_an_fp32_one_learns(train_bias: bool, task: Task) -> None:
    base = Design(connectors=six_connectors().connectors[2:], recipe=RECIPE, resolution=32, train_bias=train_bias)
    results = {}
    for bits in (32, 8):
        resolved = resolve(base.model_copy(update={"activation_bits": bits}))
        _, result = train_design(resolved, task, TrainingSpec(epochs=4, views=4))
        results[bits] = result
    assert results[8].losses[-1] < results[8].losses[0]
    assert results[8].losses[0] != results[32].losses[0]
    assert abs(results[8].validation_accuracy - results[32].validation_accuracy) < 0.06
    assert [block for block, _ in results[8].saturation] == [6, 10, 13, 17]
    assert all(share < 0.01 for _, share in results[8].saturation)
    assert results[32].saturation == ()


def test_an_int8_prefix_is_not_an_fp32_one(task: Task) -> None:
    features = {}
    for bits in (32, 8):
        resolved = resolve(Design(connectors=(), activation_bits=bits, resolution=32))
        model = create_model(resolved, task, seed=0)
        images = task.source.load(Split.VALIDATION, resolution=32).images[:8]
        with torch.no_grad():
            features[bits] = model.prefix(task.weights_of(BackboneSpec()).input_range.normalise(images)).feature
    error = (features[8] - features[32]).norm() / features[32].norm()
    assert 0 < error < 0.2
    scale = create_model(resolved, task, seed=0).backbone.blocks[-1].output.scale
    torch.testing.assert_close(torch.round(features[8] / scale) * scale, features[8], rtol=0, atol=1e-6)


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


def test_a_training_is_stopped_at_a_rung(task: Task) -> None:
    resolved = resolve(Design(connectors=(), recipe=RECIPE))
    training = TrainingSpec(epochs=4, views=2)
    seen: list[tuple[int, float]] = []

    def judge(epoch: int, accuracy: float) -> bool:
        seen.append((epoch, accuracy))
        return epoch < 2

    _, stopped = train_design(resolved, task, training, rungs=Rungs((1, 2, 3), judge))
    assert [epoch for epoch, _ in seen] == [1, 2]
    assert stopped.stopped
    assert stopped.validation_accuracy == seen[-1][1]
    _, whole = train_design(resolved, task, training)
    assert not whole.stopped
    assert whole.losses[:2] == stopped.losses


def test_looking_at_a_training_does_not_change_it(task: Task) -> None:
    resolved = resolve(six_connectors().model_copy(update={"recipe": RECIPE}))
    _, looked_at = train_design(resolved, task, SHORT, rungs=Rungs((1,), lambda *_: True))
    _, alone = train_design(resolved, task, SHORT)
    assert looked_at.losses == alone.losses
    assert looked_at.validation_accuracy == alone.validation_accuracy
