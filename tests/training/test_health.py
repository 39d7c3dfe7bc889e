"""Broken weights are told from healthy ones, by what the backbone makes of images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from repnet_search.backbones import Activation, BlockTable, default_width_mult, list_backbones
from repnet_search.data import Split
from repnet_search.errors import WeightsError
from repnet_search.models.input_range import parse_input_range
from repnet_search.models.vision import torchvision
from repnet_search.models.weights import BackboneWeights, create_random_backbone, fold_weights
from repnet_search.spec import BackboneSpec
from repnet_search.spec.table import get_table
from repnet_search.training.health import Ailment, FeatureHealth, check_features, measure_health
from repnet_search.training.task import Task

CPU = torch.device("cpu")
LETTERS = BackboneSpec()

Change = Callable[[dict[str, Tensor]], None]


def task_with(task: Task, backbone: BackboneSpec, weights: BackboneWeights) -> Task:
    """Returns a task on the same images with other weights."""
    return Task({backbone: weights}, task.source, CPU)


def health_of(task: Task, change: Change, *, resolution: int = 32) -> FeatureHealth:
    """Returns the health of a task's weights after a change."""
    weights = task.weights_of(LETTERS)
    tensors = {key: value.clone() for key, value in weights.tensors.items()}
    change(tensors)
    changed = task_with(task, LETTERS, replace(weights, tensors=tensors))
    return measure_health(changed, LETTERS, task.source.load(Split.TRAIN, resolution=resolution).images[::2])


def scale_weights(factor: float) -> Change:
    def change(tensors: dict[str, Tensor]) -> None:
        for key, value in tensors.items():
            if key.endswith(".weight"):
                value.mul_(factor)

    return change


def shift_biases(table: BlockTable, by: float, *, block: int | None = None) -> Change:
    """Returns what shifts the biases in front of every ReLU6, of one block or of all."""

    def change(tensors: dict[str, Tensor]) -> None:
        for index, part in enumerate(table.blocks):
            for conv in part.all_convs():
                if block in (None, index) and conv.activation is Activation.RELU6:
                    tensors[f"{conv.key}.bias"].add_(by)

    return change


def zero_weights(table: BlockTable, block: int) -> Change:
    def change(tensors: dict[str, Tensor]) -> None:
        for conv in table.blocks[block].all_convs():
            tensors[f"{conv.key}.weight"].zero_()

    return change


@pytest.mark.parametrize("resolution", [16, 32, 48, 64])
def test_the_embedded_backbone_is_healthy(task: Task, resolution: int) -> None:
    health = check_features(task, LETTERS, resolution=resolution)
    assert health.images == 64
    assert health.warnings == ()


@pytest.mark.parametrize("name", list_backbones())
def test_random_backbones_are_healthy(task: Task, name: str) -> None:
    spec = BackboneSpec(name=name, width_mult=default_width_mult(name), last_conv=False)
    random = task_with(task, spec, create_random_backbone(spec, seed=0))
    health = check_features(random, spec, resolution=32)
    assert health.warnings == ()
    assert len(health.places) > len(get_table(spec).blocks)


def test_fresh_torchvision_weights_are_healthy_and_a_raw_image_is_seen(task: Task) -> None:
    spec = BackboneSpec(name="resnet18", width_mult=1.0)
    table = get_table(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = torchvision.models.resnet18().state_dict()
    weights = BackboneWeights(fold_weights(state, table, name="fresh"), "fresh", "", parse_input_range("imagenet"))
    images = task.source.load(Split.TRAIN, resolution=32).images[:32]
    assert measure_health(task_with(task, spec, weights), spec, images).warnings == ()
    raw = replace(weights, input_range=parse_input_range("0,255"))
    (warning,) = measure_health(task_with(task, spec, raw), spec, images).warnings
    assert "the first convolution's values are of size" in warning
    assert "--input-range 0,255" in warning


def test_features_that_vanish_are_a_warning(task: Task) -> None:
    """In evaluation mode norms without statistics pass what initial weights make ever smaller."""
    table = get_table(LETTERS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = torchvision.models.mobilenet_v2(width_mult=0.35).state_dict()
    weights = BackboneWeights(fold_weights(state, table, name="fresh"), "fresh", "", parse_input_range("imagenet"))
    (warning,) = check_features(task_with(task, LETTERS, weights), LETTERS, resolution=32).warnings
    assert "the last feature vanishes: its values are of size" in warning


def test_a_raw_image_saturates_the_embedded_backbone(task: Task) -> None:
    raw = replace(task.weights_of(LETTERS), input_range=parse_input_range("0,255"))
    health = check_features(task_with(task, LETTERS, raw), LETTERS, resolution=48)
    (warning,) = health.warnings
    assert "With the weights letters (embedded) and --input-range 0,255, block 0 has 3" in warning
    assert "of its ReLU6 units stopped at 6" in warning


@pytest.mark.parametrize("block", [0, 2, 17])
def test_zero_weights_that_nothing_leads_around_are_an_error(task: Task, table: BlockTable, block: int) -> None:
    health = health_of(task, zero_weights(table, block))
    assert f"the same for all 50 training images tried: block {block} has 100.0 % of its channels" in health.error


@pytest.mark.parametrize("block", [3, 5, 10])
def test_zero_weights_beside_a_shortcut_are_a_warning(task: Task, table: BlockTable, block: int) -> None:
    health = health_of(task, zero_weights(table, block))
    assert health.error == ""
    (warning,) = health.warnings
    assert f"block {block} has 100.0 % of its channels the same for every image; use the range" in warning


@pytest.mark.parametrize(("by", "clause"), [(100, "stopped at 6"), (-100, "at 0")])
def test_shifted_biases_everywhere_are_an_error(task: Task, table: BlockTable, by: float, clause: str) -> None:
    health = health_of(task, shift_biases(table, by))
    assert f"the same for all 50 training images tried: block 0 has 100.0 % of its ReLU6 units {clause}" in health.error


@pytest.mark.parametrize(("by", "ailment"), [(100, Ailment.SATURATED), (-100, Ailment.DEAD)])
def test_shifted_biases_of_a_block_are_a_warning(task: Task, table: BlockTable, by: float, ailment: Ailment) -> None:
    health = health_of(task, shift_biases(table, by, block=5))
    assert health.error == ""
    assert len(health.warnings) == 1
    assert "block 5 has 100.0 % of its ReLU6 units" in health.warnings[0]
    assert {place.ailment for place in health.places if place.block == 5} >= {ailment}


def test_many_sick_blocks_are_one_sentence(task: Task) -> None:
    health = health_of(task, scale_weights(10))
    (warning,) = health.warnings
    assert "blocks are like that)" in warning


def test_an_explosion_is_an_error_where_a_relu6_keeps_it_finite(task: Task) -> None:
    health = health_of(task, scale_weights(1e20))
    assert health.places[0].largest == 6
    assert "block 1 has values up to 2e+21, too large to be squared" in health.error


def test_an_overflow_is_an_error(task: Task) -> None:
    spec = BackboneSpec(name="resnet18", width_mult=1.0)
    weights = create_random_backbone(spec, seed=0)
    scaled = replace(weights, tensors={key: value * 1e20 for key, value in weights.tensors.items()})
    with pytest.raises(WeightsError, match=r"block 0 has values up to 1e[+]21, too large to be squared; use the"):
        check_features(task_with(task, spec, scaled), spec, resolution=32)


def test_a_nan_is_an_error(task: Task, table: BlockTable) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[f"{table.blocks[3].convs[0].key}.weight"][0] = math.nan

    assert "block 3's values are NaN or infinite" in health_of(task, change).error


def test_features_that_hardly_differ_are_a_warning(task: Task, table: BlockTable) -> None:
    health = health_of(task, shift_biases(table, 5))
    assert "the last feature differs by only 0." in health.warnings[-1]


def test_equal_images_are_said_and_no_fault_of_the_weights(task: Task) -> None:
    images = torch.full((20, 3, 32, 32), 90, dtype=torch.uint8)
    health = measure_health(task, LETTERS, images)
    assert health.error == ""
    assert health.warnings == ("All 20 training images that were tried are the same; check the images.",)


def test_large_backbones_are_tried_on_fewer_images(task: Task) -> None:
    spec = BackboneSpec(name="resnet50", width_mult=1.0)
    random = task_with(task, spec, create_random_backbone(spec, seed=0))
    assert check_features(random, spec, resolution=64).images == 16
