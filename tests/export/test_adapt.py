"""A bundle that goes on learning inside its planned arena, against plain training loops and against its promises."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch.nn import functional

from repnet_search.boards import Region
from repnet_search.data import ImageSet, Split
from repnet_search.data.source import DataKind
from repnet_search.errors import DataError, OverBudgetError, RepnetSearchError, SpecError, UsageError
from repnet_search.export.adapt import AdaptOptions, Decay, adapt, draw_updates, save_adapted
from repnet_search.export.adapt_subject import AdaptSubject, load_subject
from repnet_search.export.bundle import load_model, save_bundle
from repnet_search.export.card import Provenance
from repnet_search.export.check import check_bundle
from repnet_search.export.manifest import write_manifest
from repnet_search.export.place import hold_place
from repnet_search.measure.device_trainer import DeviceTrainer
from repnet_search.measure.execution import randomise_parameters
from repnet_search.memory import estimate_memory
from repnet_search.spec import Connector, Design, Optimizer, Recipe, ResolvedDesign, resolve
from repnet_search.spec.target import DeviceLimits, Schedule
from repnet_search.spec.training import Metric
from repnet_search.training.proxy import TrainingDivergedError, create_model
from repnet_search.training.task import Task
from repnet_search.training.update import UpdateRule

LABELS = tuple("0123456789")
SGD = Recipe(optimizer=Optimizer.SGD, lr=0.01)
ADAM = Recipe(optimizer=Optimizer.ADAM, accumulate=4, lr=0.001, head_lr_ratio=0.1)


@dataclass(frozen=True)
class FewImages:
    """A source of a few of the digits, under names of its own."""

    inner: Task
    classes: tuple[str, ...] = LABELS
    kept: int = 12
    name: str = "few"
    skipped: tuple[str, ...] = ()
    kind: DataKind = DataKind.EMBEDDED
    validation_held_out: bool = True

    def sha256(self) -> str:
        return "0" * 64

    def count(self, split: Split) -> int:
        return len(self.load(split, resolution=24))

    def class_counts(self, split: Split) -> list[int]:
        return torch.bincount(self.load(split, resolution=24).labels, minlength=len(self.classes)).tolist()

    def load(self, split: Split, *, resolution: int) -> ImageSet:
        whole = self.inner.source.load(split, resolution=resolution)
        own = torch.nonzero(whole.labels < len(self.classes)).flatten()
        chosen = own[:: max(1, len(own) // self.kept)][: self.kept]
        return ImageSet(whole.images[chosen], whole.labels[chosen])

    def batches(self, split: Split, *, resolution: int, batch: int) -> Iterator[ImageSet]:
        yield self.load(split, resolution=resolution)


def create_bundle(
    folder: Path,
    task: Task,
    *,
    recipe: Recipe = SGD,
    bits: Literal[8, 32] = 32,
    schedule: Schedule = Schedule.LAYER,
    limits: DeviceLimits | None = None,
    board: str | None = None,
) -> ResolvedDesign:
    connectors = (Connector(after_block=13), Connector(after_block=16))
    resolved = resolve(Design(connectors=connectors, resolution=24, activation_bits=bits, recipe=recipe))
    model = create_model(resolved, task, seed=0)
    randomise_parameters(model, torch.Generator().manual_seed(1))
    memory = estimate_memory(resolved, classes=10, schedule=schedule)
    with hold_place(folder, force=False) as place:
        provenance = Provenance(board=board, limits=limits)
        save_bundle(place, resolved, model, task, memory, accuracies={}, provenance=provenance)
    return resolved


def plain_training(subject: AdaptSubject, *, steps: int, scale: float) -> dict[str, torch.Tensor]:
    """Returns the trained state by autograd, with the update rule of proxy training, in the order of an adaptation."""
    model, images = subject.model, subject.task.source.load(Split.TRAIN, resolution=24)
    recipe = model.resolved.design.recipe
    rule = UpdateRule(model.repnet, recipe, head=model.repnet.head_parameters())
    seen = 0
    for chosen in draw_updates(len(images), steps=steps, accumulate=recipe.accumulate, seed=7):
        rule.scale = scale * 0.5 * (1 + math.cos(math.pi * seen / steps))
        seen += len(chosen)
        logits = model(images.images[chosen])
        functional.cross_entropy(logits, images.labels[chosen]).backward()
        rule.step()
    return {name: value.clone() for name, value in model.repnet.trainable_state().items()}


@pytest.mark.parametrize(("bits", "recipe"), [(32, SGD), (32, ADAM), (8, SGD)])
def test_it_learns_what_a_plain_training_loop_learns(
    tmp_path: Path, task: Task, bits: Literal[8, 32], recipe: Recipe
) -> None:
    create_bundle(tmp_path / "out", task, recipe=recipe, bits=bits)
    source = FewImages(task)
    start = load_model(tmp_path / "out").repnet.trainable_state()
    expected = plain_training(load_subject(tmp_path / "out", source), steps=18, scale=0.5)
    subject = load_subject(tmp_path / "out", source)
    result = adapt(subject, AdaptOptions(steps=18, seed=7, rate_scale=0.5))
    found = subject.model.repnet.trainable_state()
    for name, value in expected.items():
        moved = (value - start[name]).abs().max()
        assert moved > 0
        torch.testing.assert_close(found[name], value, rtol=0, atol=float(2e-3 * moved))
    assert (result.images, result.updates) == (18, 18 if recipe.accumulate == 1 else 5)
    assert result.measured == result.planned == dict(subject.memory.terms)


def test_other_schedules_and_devices_are_kept_to(tmp_path: Path, task: Task) -> None:
    source = FewImages(task)
    create_bundle(tmp_path / "streamed", task, schedule=Schedule.STREAMED)
    subject = load_subject(tmp_path / "streamed", source)
    result = adapt(subject, AdaptOptions(steps=1))
    assert result.measured["arena"] == subject.memory.arena_bytes
    assert subject.plan.graph.schedule is Schedule.STREAMED

    limits = DeviceLimits(256 * 1024, 4096 * 1024, (Region("fast", 24 * 1024), Region("slow", 232 * 1024)))
    create_bundle(tmp_path / "board", task, limits=limits, board="two-piece")
    subject = load_subject(tmp_path / "board", source)
    result = adapt(subject, AdaptOptions(steps=1))
    written = json.loads((tmp_path / "board" / "plan.json").read_text())
    assert result.measured["arena"] == sum(region["buffer_bytes"] for region in written["regions"])
    assert subject.provenance == Provenance(board="two-piece", limits=limits)
    with pytest.raises(OverBudgetError, match="there is no plan of it"):
        load_subject(tmp_path / "board", FewImages(task, classes=tuple(map(str, range(900)))), new_head=True)


def test_a_new_head_may_not_take_more_than_the_budget_of_the_study(tmp_path: Path, task: Task) -> None:
    create_bundle(tmp_path / "out", task, limits=DeviceLimits(128 * 1024))
    subject = load_subject(tmp_path / "out", FewImages(task))
    assert subject.provenance.limits == DeviceLimits(128 * 1024)
    with pytest.raises(OverBudgetError, match=r"over the budget of 128\.0 KiB"):
        load_subject(tmp_path / "out", FewImages(task, classes=tuple(map(str, range(900)))), new_head=True)


def test_a_stream_sees_each_image_once_and_asks_before_it_learns(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_bundle(tmp_path / "out", task)
    subject = load_subject(tmp_path / "out", FewImages(task))
    images = subject.task.source.load(Split.TRAIN, resolution=24)
    learnt: list[torch.Tensor] = []
    asked: list[bool] = []
    learn = DeviceTrainer.learn

    def watch(trainer: DeviceTrainer, chosen: torch.Tensor, labels: torch.Tensor, *, rate_scale: float) -> float:
        assert rate_scale == 0.5
        with torch.no_grad():
            asked.extend((subject.model(chosen).argmax(1) == labels).tolist())
        learnt.extend(chosen)
        return learn(trainer, chosen, labels, rate_scale=rate_scale)

    monkeypatch.setattr(DeviceTrainer, "learn", watch)
    result = adapt(subject, AdaptOptions(stream=True, decay=Decay.NONE))
    assert result.images == len(images) == len(learnt)
    assert sorted(image.sum().item() for image in learnt) == sorted(image.sum().item() for image in images.images)
    assert result.right_before == pytest.approx(sum(asked) / len(asked))
    with pytest.raises(UsageError, match=r"there are 12 to learn from, but --steps is 13; give at most as many"):
        adapt(subject, AdaptOptions(stream=True, steps=13))


def test_the_order_is_the_seeds() -> None:
    def order(*, seed: int, steps: int = 25) -> list[list[int]]:
        return [chosen.tolist() for chosen in draw_updates(10, steps=steps, accumulate=4, seed=seed)]

    assert [len(chosen) for chosen in order(seed=0)] == [4, 4, 2, 4, 4, 2, 4, 1]
    assert order(seed=0) == order(seed=0) != order(seed=1)
    seen = [place for chosen in order(seed=3, steps=20) for place in chosen]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]


def test_the_curve_and_the_classes_are_those_of_the_models(tmp_path: Path, task: Task) -> None:
    create_bundle(tmp_path / "out", task)
    subject = load_subject(tmp_path / "out", FewImages(task))
    told: list[int] = []
    options = AdaptOptions(steps=20, metric=Metric.BALANCED_ACCURACY)
    result = adapt(subject, options, on_images=lambda images, _: told.append(images))
    assert [point.images for point in result.curve] == list(range(0, 21, 2))
    assert told == list(range(1, 21))
    assert result.curve[0].loss is None
    shares = [point.right_before for point in result.curve[1:]]
    assert sum(share or 0.0 for share in shares) / 10 == pytest.approx(result.right_before)

    with hold_place(tmp_path / "new", force=False) as place:
        save_adapted(place, subject, result, metric=options.metric)
    assert check_bundle(tmp_path / "new").failures == []
    again = adapt(load_subject(tmp_path / "new", FewImages(task)), AdaptOptions(steps=1))
    assert again.before == result.after
    facts = json.loads((tmp_path / "new" / "bundle.json").read_text())
    assert facts["accuracy"] == {
        "validation (balanced)": result.curve[-1].validation,
        "test (balanced)": result.after.balanced_accuracy,
    }
    assert facts["data"]["name"] == "few"
    before = result.before.balanced_accuracy
    assert facts["adapted"] == {"images": 20, "once": False, "seed": 0, "test_before": before}
    card = (tmp_path / "new" / "card.md").read_text()
    assert "went on with 20 images" in card
    assert f"it was right on {100 * before:.1f} % of the test images" in card
    assert facts["backbone"] == json.loads((tmp_path / "out" / "bundle.json").read_text())["backbone"]
    for name in ("backbone.safetensors", "design.yaml", "labels.txt", "model.py", "plan.json", "plan.h"):
        assert (tmp_path / "new" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_some_of_the_labels_are_learnt_as_they_are_and_others_need_a_new_head(tmp_path: Path, task: Task) -> None:
    create_bundle(tmp_path / "out", task, bits=8)
    subject = load_subject(tmp_path / "out", FewImages(task, classes=("0", "1", "2")))
    assert subject.model.labels == LABELS
    assert subject.ram_before_bytes is None
    assert adapt(subject, AdaptOptions(steps=1)).after.labels == LABELS

    other = FewImages(task, classes=("bird", "cat", "dog"))
    with pytest.raises(
        DataError, match=r"but 'bird' is not \(nor are 2 more\); .* --new-head: 3 outputs in place of 10"
    ):
        load_subject(tmp_path / "out", other)
    subject = load_subject(tmp_path / "out", other, new_head=True)
    result = adapt(subject, AdaptOptions(steps=3))
    assert result.measured == result.planned
    assert subject.ram_before_bytes is not None
    assert subject.memory.ram_bytes < subject.ram_before_bytes
    with hold_place(tmp_path / "new", force=False) as place:
        save_adapted(place, subject, result, metric=Metric.ACCURACY)
    assert check_bundle(tmp_path / "new").failures == []
    assert (tmp_path / "new" / "labels.txt").read_text() == "bird\ncat\ndog\n"


def test_a_changed_or_foreign_plan_is_refused(tmp_path: Path, task: Task) -> None:
    folder = tmp_path / "out"
    create_bundle(folder, task)
    source, text = FewImages(task), (folder / "plan.json").read_text()

    def rewrite(**changes: object) -> None:
        (folder / "plan.json").write_text(json.dumps(json.loads(text) | changes))
        write_manifest(folder)

    (folder / "plan.json").write_text(text + " ")
    with pytest.raises(SpecError, match=r"is not whole: plan.json is not what was written"):
        load_subject(folder, source)
    buffers = json.loads(text)["buffers"]
    clashing = [buffer | {"offset_bytes": 0} for buffer in buffers]
    for changes in ({"buffers": buffers[1:]}, {"buffers": clashing}, {"batch": 2, "buffers": None}, {"arena_bytes": 8}):
        rewrite(**changes)
        with pytest.raises(SpecError, match=r"plan.json in the bundle .* is not the plan of a step at micro-batch 1"):
            load_subject(folder, source)
    rewrite(schedule="never")
    with pytest.raises(SpecError, match=r"plan.json in the bundle .* cannot be read"):
        load_subject(folder, source)
    arena = json.loads(text)["arena_bytes"]
    rewrite(arena_bytes=arena + 4)
    with pytest.raises(RepnetSearchError, match=f"its arena took {arena} bytes in place of {arena + 4}"):
        adapt(load_subject(folder, source), AdaptOptions(steps=1))


def test_an_interrupt_keeps_whole_updates(tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    create_bundle(tmp_path / "out", task, recipe=ADAM)
    run = DeviceTrainer.run
    calls = 0

    def interrupting(trainer: DeviceTrainer, images: torch.Tensor, labels: torch.Tensor) -> float:
        nonlocal calls
        calls += 1
        if calls == limit:
            raise KeyboardInterrupt
        return run(trainer, images, labels)

    monkeypatch.setattr(DeviceTrainer, "run", interrupting)
    limit = 11
    subject = load_subject(tmp_path / "out", FewImages(task))
    result = adapt(subject, AdaptOptions(steps=100, decay=Decay.NONE))
    assert (result.images, result.updates) == (8, 2)
    assert isinstance(result.interruption, KeyboardInterrupt)
    assert result.curve[-1].images == 8
    calls, limit = 0, -1
    whole = load_subject(tmp_path / "out", FewImages(task))
    adapt(whole, AdaptOptions(steps=8, decay=Decay.NONE))
    for name, value in whole.model.repnet.trainable_state().items():
        assert torch.equal(subject.model.repnet.trainable_state()[name], value)
    calls, limit = 0, 2
    with pytest.raises(KeyboardInterrupt):
        adapt(load_subject(tmp_path / "out", FewImages(task)), AdaptOptions(steps=8))


def test_a_loss_that_is_no_number_names_the_way_out(tmp_path: Path, task: Task) -> None:
    create_bundle(tmp_path / "out", task)
    with pytest.raises(TrainingDivergedError, match=r"images; use a smaller --lr-scale than 1e\+30"):
        adapt(load_subject(tmp_path / "out", FewImages(task)), AdaptOptions(steps=12, rate_scale=1e30))
