from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import repnet_search
from repnet_search.data import Split
from repnet_search.errors import DataError, RepnetSearchError, SpecError
from repnet_search.export import model_file
from repnet_search.export.bundle import load_model, save_bundle
from repnet_search.export.evaluate import evaluate_bundle
from repnet_search.export.place import hold_place
from repnet_search.export.templates import runtime
from repnet_search.memory import estimate_memory
from repnet_search.models.repnet import RepNet
from repnet_search.spec import BackboneSpec, Connector, Design, Optimizer, Recipe, ResolvedDesign, resolve
from repnet_search.spec.training import TrainingSpec
from repnet_search.training.evaluate import measure_test_accuracy
from repnet_search.training.proxy import train_design
from repnet_search.training.task import Task
from tests.designs import six_connectors

ALWAYS = {
    "backbone.safetensors",
    "bundle.json",
    "card.md",
    "design.yaml",
    "labels.txt",
    "manifest.json",
    "model.py",
    "plan.h",
    "plan.json",
    "trained.safetensors",
}
RECIPE = Recipe(optimizer=Optimizer.NORMALISED_SGD, accumulate=16, lr=0.01)


@pytest.fixture(scope="module")
def trained(task: Task) -> tuple[ResolvedDesign, RepNet]:
    resolved = resolve(six_connectors().model_copy(update={"recipe": RECIPE}))
    return resolved, train_design(resolved, task, TrainingSpec(epochs=2, views=1))[0]


def save(folder: Path, trained: tuple[ResolvedDesign, RepNet], task: Task) -> Path:
    resolved, model = trained
    memory = estimate_memory(resolved, classes=10)
    with hold_place(folder, force=False) as place:
        save_bundle(place, resolved, model, task, memory, accuracies={"validation": 0.5})
    return folder


def test_the_lines_of_the_card_load_it(tmp_path: Path, trained: tuple[ResolvedDesign, RepNet], task: Task) -> None:
    folder = save(tmp_path / "out", trained, task)
    design = repnet_search.load_design(folder / "design.yaml")
    model = repnet_search.load_model(folder)
    assert resolve(design).id == trained[0].id
    images = task.source.load(Split.VALIDATION, resolution=48).images[:4]
    with torch.no_grad():
        expected = trained[1].eval()(task.weights_of(BackboneSpec()).input_range.normalise(images))
        torch.testing.assert_close(model(images), expected)
    assert model.labels == task.source.classes
    assert "repnet_search.load_model" in (folder / "card.md").read_text()


def test_the_reports_say_what_the_account_says(
    tmp_path: Path, trained: tuple[ResolvedDesign, RepNet], task: Task
) -> None:
    folder = save(tmp_path / "out", trained, task)
    info = json.loads((folder / "bundle.json").read_text())
    memory, plan = info["memory"], json.loads((folder / "plan.json").read_text())
    assert plan["terms"] == memory["terms"]
    assert (plan["arena_bytes"], plan["schedule"]) == (memory["arena_bytes"], "layer")
    assert f"REPNET_ARENA_BYTES {memory['arena_bytes']}u" in (folder / "plan.h").read_text()
    assert memory["ram_bytes"] == estimate_memory(trained[0], classes=10).ram_bytes == sum(memory["terms"].values())
    assert info["data"]["sha256"] == task.source.sha256()
    assert {path.name for path in folder.iterdir()} == ALWAYS


def test_a_bundle_that_cannot_be_finished_leaves_nothing(
    tmp_path: Path, trained: tuple[ResolvedDesign, RepNet], task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("repnet_search.export.bundle._write_json", full)
    with pytest.raises(RepnetSearchError, match=r"cannot be written \(No space left on device\); make room"):
        save(tmp_path / "out", trained, task)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_bundle_is_one_sentence(tmp_path: Path, trained: tuple[ResolvedDesign, RepNet], task: Task) -> None:
    folder = save(tmp_path / "out", trained, task)
    names = ("design.yaml", "bundle.json", "backbone.safetensors", "trained.safetensors", "manifest.json")
    for name in names:
        whole = (folder / name).read_bytes()
        (folder / name).write_text("{")
        with pytest.raises(SpecError, match=name):
            load_model(folder)
        (folder / name).unlink()
        with pytest.raises(SpecError, match=f"has no {name}" if name != "manifest.json" else "has format 1, but"):
            load_model(folder)
        (folder / name).write_bytes(whole)
    (folder / "labels.txt").write_text("a\nb\n")
    with pytest.raises(SpecError, match=r"trained.safetensors in .* does not hold the parameters of its design.yaml"):
        load_model(folder)
    (folder / "manifest.json").write_text('{"format": 3, "files": {}}')
    with pytest.raises(SpecError, match="has format 3, but this version reads 2; export it again"):
        load_model(folder)


def test_evaluation_counts_as_the_training_does(
    tmp_path: Path, trained: tuple[ResolvedDesign, RepNet], task: Task
) -> None:
    model = load_model(save(tmp_path / "out", trained, task))
    result = evaluate_bundle(model, task.source, splits=(Split.TEST,))
    assert result.images == 1297
    assert result.accuracy == pytest.approx(measure_test_accuracy(trained[1], trained[0].design, task))
    assert (
        result.confusion.sum(dim=1).tolist()
        == torch.bincount(task.source.load(Split.TEST, resolution=32).labels).tolist()
    )
    shares = [share for share in result.class_accuracies if share is not None]
    assert result.balanced_accuracy == pytest.approx(sum(shares) / 10)


def test_images_of_an_unknown_class_are_refused(
    tmp_path: Path, trained: tuple[ResolvedDesign, RepNet], task: Task
) -> None:
    model = load_model(save(tmp_path / "out", trained, task))
    model.labels = (*"012345678", "ten")
    with pytest.raises(DataError, match="'9' is not"):
        evaluate_bundle(model, task.source, splits=(Split.TEST,))


def test_an_int8_bundle_computes_what_was_trained(tmp_path: Path, task: Task) -> None:
    resolved = resolve(Design(connectors=(Connector(after_block=13),), activation_bits=8, resolution=32))
    model, result = train_design(resolved, task, TrainingSpec(epochs=1, views=1))
    memory = estimate_memory(resolved, classes=task.classes)
    with hold_place(tmp_path / "out", force=False) as place:
        save_bundle(place, resolved, model, task, memory, accuracies={"validation": result.validation_accuracy})
    assert {path.name for path in (tmp_path / "out").iterdir()} == ALWAYS | {"calibration.json"}
    images = task.source.load(Split.VALIDATION, resolution=32).images[:16]
    loaded = load_model(tmp_path / "out")
    with torch.no_grad():
        expected = model.eval()(task.weights_of(BackboneSpec()).input_range.normalise(images))
        assert torch.equal(loaded(images), expected)
    (tmp_path / "out" / "calibration.json").write_text("[1]")
    with pytest.raises(SpecError, match=r"calibration.json in the bundle .* cannot be read"):
        load_model(tmp_path / "out")


def test_its_model_prints_labels_alone(tmp_path: Path, trained: tuple[ResolvedDesign, RepNet], task: Task) -> None:
    folder = save(tmp_path / "out", trained, task)
    images = task.source.load(Split.VALIDATION, resolution=48).images[:2]
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    command = [sys.executable, "-I", str(folder / "model.py")]
    done = subprocess.run([*command, *map(str, paths)], capture_output=True, text=True, check=True)
    with torch.no_grad():
        shares = load_model(folder)(images).softmax(1)
    for line, path, share in zip(done.stdout.splitlines(), paths, shares, strict=True):
        label, percent = task.source.classes[int(share.argmax())], 100 * float(share.max())
        assert line == f"{path}: {label} ({percent:.1f} %)"
    with pytest.raises(SystemExit, match="Usage: python"):
        runtime.print_labels(torch.nn.Identity(), [], [], resolution=48)
    assert {path.name for path in folder.iterdir()} == ALWAYS


def test_a_label_of_two_lines_is_refused(tmp_path: Path, trained: tuple[ResolvedDesign, RepNet], task: Task) -> None:
    source = SimpleNamespace(**{name: getattr(task.source, name) for name in ("name", "sha256", "count", "skipped")})
    source.classes = (*"012345678", "nine\nten")
    with pytest.raises(DataError, match=r"A label must be one line.* but got 'nine\\nten'; rename it"):
        save(tmp_path / "out", trained, replace(task, source=source))
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_whose_model_computes_something_else_never_has_its_name(
    tmp_path: Path, trained: tuple[ResolvedDesign, RepNet], task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = model_file._sources()
    monkeypatch.setattr(
        model_file, "_sources", lambda: real | {"resize": real["resize"].replace('"bilinear"', '"bicubic"')}
    )
    with pytest.raises(
        RepnetSearchError, match=r"is not whole: model.py gives other logits, off by .*; export it again"
    ):
        save(tmp_path / "out", trained, task)
    assert list(tmp_path.iterdir()) == []
