"""Frozen features are computed once, whoever asks for them, and train exactly what uncached ones train."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from torch.nn import functional

from repnet_search.data import Split
from repnet_search.errors import DataError
from repnet_search.models.repnet import Prefix, RepNet
from repnet_search.spec import BackboneSpec, Connector, Design, Exchange, Optimizer, Recipe, ResolvedDesign, resolve
from repnet_search.spec.bundled import load_space
from repnet_search.spec.study import DataSpec, StudySpec, WeightsSpec
from repnet_search.spec.training import FeatureType, TrainingSpec
from repnet_search.training import room
from repnet_search.training.cache import FeatureCache
from repnet_search.training.features import VIEWS_SEED, Features, load_features
from repnet_search.training.proxy import create_model, train_design
from repnet_search.training.task import Task
from repnet_search.training.update import UpdateRule
from repnet_search.training.views import create_views
from tests.designs import random_resolved, six_connectors

RECIPE = Recipe(optimizer=Optimizer.NORMALISED_SGD, accumulate=16, lr=0.01)
SHORT = TrainingSpec(epochs=2, views=2)


def design(*blocks: int, exchange: Exchange = Exchange.TO_REPNET, **fields: object) -> ResolvedDesign:
    connectors = tuple(Connector(after_block=block, exchange=exchange) for block in blocks)
    given: dict[str, object] = {"resolution": 32, "recipe": RECIPE, **fields}
    return resolve(Design(connectors=connectors).model_copy(update=given))


@pytest.fixture
def fresh(task: Task, tmp_path: Path) -> Task:
    """Returns the task with an empty cache on disk."""
    return replace(task, cache=FeatureCache(tmp_path / "cache"))


@pytest.fixture
def blocks_run(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Notes the blocks that are run for the cache; the same ones for many chunks once."""
    ran: list[tuple[int, int]] = []
    whole = RepNet.run_blocks

    def run_blocks(self: RepNet, feature: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        if (start, stop) not in ran:
            ran.append((start, stop))
        return whole(self, feature, start, stop)

    monkeypatch.setattr(RepNet, "run_blocks", run_blocks)
    return ran


def load(
    resolved: ResolvedDesign, task: Task, *, split: Split = Split.TRAIN, training: TrainingSpec = SHORT
) -> tuple[RepNet, Features]:
    model = create_model(resolved, task, seed=0).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model, load_features(model, resolved, task, split, training)[0]


def uncached_prefix(model: RepNet, resolved: ResolvedDesign, task: Task, rows: torch.Tensor) -> Prefix:
    """Returns what the whole frozen part makes of a batch of views."""
    views = create_views(task.source.load(Split.TRAIN, resolution=resolved.design.resolution), views=2, seed=VIEWS_SEED)
    images = task.weights_of(resolved.design.backbone).input_range.normalise(views.images[rows])
    with torch.no_grad():
        return model.prefix(images.contiguous(memory_format=torch.channels_last))


def uncached_losses(resolved: ResolvedDesign, task: Task, training: TrainingSpec) -> list[float]:
    """Trains as `train_design` does, the whole network forward at every step."""
    model = create_model(resolved, task, seed=training.seed).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rule = UpdateRule(model, resolved.design.recipe, head=model.head_parameters())
    labels = task.source.load(Split.TRAIN, resolution=resolved.design.resolution).labels.repeat(training.views)
    order = torch.Generator().manual_seed(training.seed)
    steps, done, losses = training.epochs * math.ceil(len(labels) / resolved.design.recipe.accumulate), 0, []
    model.train()
    for _ in range(training.epochs):
        total = 0.0
        for chosen in torch.randperm(len(labels), generator=order).split(resolved.design.recipe.accumulate):
            rule.scale = 0.5 * (1 + math.cos(math.pi * done / steps))
            prefix = uncached_prefix(model, resolved, task, chosen)
            loss = functional.cross_entropy(model.adapt(prefix), labels[chosen])
            loss.backward()
            rule.step()
            total += float(loss.detach()) * len(chosen)
            done += 1
        losses.append(total / len(labels))
    return losses


@pytest.mark.parametrize("bits", [32, 8])
@pytest.mark.parametrize(
    "resolved",
    [
        design(6, 13, 17),
        design(3, 10, exchange=Exchange.BOTH),
        design(6, 13, exchange=Exchange.BOTH, train_bias=True, image_pool=1),
    ],
)
def test_cached_training_is_uncached_training(resolved: ResolvedDesign, bits: int, fresh: Task) -> None:
    resolved = resolve(resolved.design.model_copy(update={"activation_bits": bits}))
    _, cached = train_design(resolved, fresh, SHORT)
    expected = uncached_losses(resolved, fresh, SHORT)
    assert cached.losses == pytest.approx(expected, abs=1e-5)
    _, again = train_design(resolved, fresh, SHORT)
    assert again.losses == cached.losses


@pytest.mark.parametrize("bits", [32, 8])
@pytest.mark.parametrize("seed", range(3))
def test_any_design_reads_what_the_backbone_makes(seed: int, bits: int, fresh: Task) -> None:
    random = Random(seed)
    rows = torch.randperm(200, generator=torch.Generator().manual_seed(seed))[:9]
    for _ in range(4):  # each finds some places there, and some not
        resolved = random_resolved(random, resolutions=(32,))
        resolved = resolve(resolved.design.model_copy(update={"activation_bits": bits}), clamp_groups=True)
        model, features = load(resolved, fresh)
        found, expected = features.select(rows), uncached_prefix(model, resolved, fresh, rows)
        exactly = {"rtol": 0, "atol": 0} if bits == 8 else {"rtol": 1e-5, "atol": 1e-5}
        for one, other in zip((found.stream, *found.features), (expected.stream, *expected.features), strict=True):
            torch.testing.assert_close(one, other, **exactly)
        torch.testing.assert_close(found.feature, expected.feature, **exactly)


def test_what_is_there_is_not_computed_again(fresh: Task, blocks_run: list[tuple[int, int]]) -> None:
    load(design(6, 13), fresh)
    assert blocks_run == [(0, 7), (7, 14), (14, 18)]
    blocks_run.clear()
    load(design(6, 13, 17), fresh)
    load(design(13, exchange=Exchange.BOTH), fresh)
    assert blocks_run == []
    load(design(10, 15, exchange=Exchange.TO_BACKBONE), fresh)
    assert blocks_run == [(7, 11)]  # from block 6, the nearest in front of it
    blocks_run.clear()
    load(design(3, 6, 15), fresh)
    assert blocks_run == [(0, 4), (14, 16)]


def test_another_resolution_split_views_or_bits_is_another_feature(
    fresh: Task, blocks_run: list[tuple[int, int]]
) -> None:
    load(design(), fresh)
    for resolved, split, views in (
        (design(resolution=48), Split.TRAIN, 2),
        (design(), Split.VALIDATION, 2),
        (design(), Split.TRAIN, 1),
        (design(activation_bits=8), Split.TRAIN, 2),
    ):
        blocks_run.clear()
        load(resolved, fresh, split=split, training=TrainingSpec(views=views))
        assert blocks_run == [(0, 18)]


def test_where_features_come_from_changes_no_bit(task: Task) -> None:
    """A trial's result depends on the design and the seed alone, not on which trials came before it."""
    rows = torch.arange(0, 200, 7)
    _, whole = load(design(13), replace(task, cache=FeatureCache()))
    shared = replace(task, cache=FeatureCache())
    for blocks in ((6,), (1, 10), (13,)):
        _, part = load(design(*blocks), shared)
    found, expected = part.select(rows), whole.select(rows)
    assert torch.equal(found.stream, expected.stream)
    assert torch.equal(found.features[0], expected.features[0])
    assert torch.equal(found.feature, expected.feature)


@pytest.mark.parametrize(("kind", "error"), [(FeatureType.FP16, 1e-3), (FeatureType.UINT8, 1e-2)])
def test_compressed_features_are_close_and_no_start_for_others(
    kind: FeatureType, error: float, fresh: Task, blocks_run: list[tuple[int, int]]
) -> None:
    resolved = design(6, 13, 17)
    training = SHORT.model_copy(update={"feature_cache_type": kind})
    exact, found = load(resolved, fresh)[1], load(resolved, fresh, training=training)[1]
    rows = torch.tensor([199, 0, 64, 63, 128])
    for one, other in zip(exact.select(rows).features, found.select(rows).features, strict=True):
        assert 0 < float((one - other).norm() / one.norm()) < error
    blocks_run.clear()
    load(design(14), fresh, training=training)
    assert blocks_run == [(0, 15)]
    _, plain = train_design(resolved, fresh, SHORT)
    _, rounded = train_design(resolved, fresh, training)
    assert rounded.losses == pytest.approx(plain.losses, rel=0.05)
    assert rounded.losses != plain.losses


def test_an_int8_backbone_is_kept_exactly_whatever_the_type(fresh: Task, blocks_run: list[tuple[int, int]]) -> None:
    load(design(6, activation_bits=8), fresh)
    blocks_run.clear()
    load(design(6, activation_bits=8), fresh, training=SHORT.model_copy(update={"feature_cache_type": "uint8"}))
    assert blocks_run == []


def test_the_type_is_named_only_where_it_rounds() -> None:
    plain, rounded = (TrainingSpec(feature_cache_type=kind) for kind in (FeatureType.FP32, FeatureType.UINT8))
    studies = [
        StudySpec(
            budget_bytes=1,
            backbone=BackboneSpec(),
            weights=WeightsSpec(name="w", sha256="0", input_range="imagenet"),
            data=DataSpec(name="d", sha256="0", classes=2),
            space=load_space("default"),
            training=training,
        )
        for training in (TrainingSpec(), plain, rounded)
    ]
    assert studies[0].digest == studies[1].digest != studies[2].digest
    assert studies[0].differences(studies[2]) == ["training"]


def test_files_hold_a_byte_per_value_of_an_int8_backbone(fresh: Task, tmp_path: Path) -> None:
    load(design(17, exchange=Exchange.BOTH), fresh)
    load(design(17, exchange=Exchange.BOTH, activation_bits=8), fresh)
    sizes = {path.name.split("-", 2)[2]: path.stat().st_size for path in (tmp_path / "cache").glob("*.npy")}
    values = 200 * 112
    assert 4 * values < sizes["block17-fp32.npy"] < 4 * values + 300
    assert values < sizes["block17-codes.npy"] < values + 300


SECOND_PROCESS = """
import sys
from pathlib import Path
from dataclasses import replace
import torch
from repnet_search.models.repnet import RepNet
from repnet_search.spec import BackboneSpec
from repnet_search.training import room
from repnet_search.training.cache import FeatureCache
from repnet_search.training.task import TaskOptions, load_task
from tests.training.test_features import design, load

torch.set_num_threads(1)
task = replace(load_task(TaskOptions(accelerator="cpu"), BackboneSpec()), cache=FeatureCache(Path(sys.argv[1])))
ran = []
whole = RepNet.run_blocks
RepNet.run_blocks = lambda self, *rest: ran.append(rest[1:]) or whole(self, *rest)
_, features = load(design(6, 13), task)
print(len(ran), float(features.select(torch.arange(200)).feature.double().sum()))
"""


def test_processes_at_the_same_time_compute_once(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    command = [sys.executable, "-c", SECOND_PROCESS, str(tmp_path)]
    root = Path(__file__).parents[2]
    workers = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = sorted(worker.communicate(timeout=100)[0].split() for worker in workers)
    assert [int(ran) for ran, _ in answers] == [0, 3 * 4]  # four chunks
    assert answers[0][1] == answers[1][1]


def test_on_disk_features_need_no_memory(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_memory_bytes", lambda: 10_000)
    with pytest.raises(DataError, match="must fit into memory"):
        load(design(13), replace(task, cache=FeatureCache(tmp_path, limit_bytes=0)))
    load(design(13), replace(task, cache=FeatureCache(tmp_path)))


def test_six_connectors_train_alike_on_disk_and_in_memory(task: Task, fresh: Task) -> None:
    resolved = resolve(six_connectors().model_copy(update={"recipe": RECIPE, "resolution": 32}))
    _, one = train_design(resolved, fresh, SHORT)
    _, other = train_design(resolved, replace(task, cache=FeatureCache()), SHORT)
    assert one.losses == other.losses
    assert one.validation_accuracy == other.validation_accuracy
