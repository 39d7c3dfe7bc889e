"""`adapt` as a user types it: on a bundle and a folder of images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from repnet_search.cli.main import Terminated
from repnet_search.export.bundle import save_bundle
from repnet_search.export.place import hold_place
from repnet_search.measure.device_trainer import DeviceTrainer
from repnet_search.memory import estimate_memory
from repnet_search.spec import Connector, Design, Optimizer, Recipe, resolve
from repnet_search.training.proxy import create_model
from repnet_search.training.task import Task
from tests.cli.conftest import Run

Complains = Callable[..., str]


@pytest.fixture
def bundle(workplace: Path, task: Task) -> Path:
    """Returns a bundle that has learnt nothing yet."""
    recipe = Recipe(optimizer=Optimizer.NORMALISED_SGD, lr=0.01)
    resolved = resolve(Design(connectors=(Connector(after_block=16),), resolution=24, recipe=recipe))
    with hold_place(Path("out"), force=False) as place:
        model, memory = create_model(resolved, task, seed=0), estimate_memory(resolved, classes=10)
        save_bundle(place, resolved, model, task, memory, accuracies={})
    return Path("out")


def write_images(folder: Path, classes: tuple[str, ...], *, each: int = 6) -> Path:
    """Writes images of which each class has its own brightness."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            Image.new("L", (24, 24), 60 * label + 3 * number).save(folder / name / f"{number}.png")
    return folder


def test_a_bundle_learns_a_folder_and_is_written(cli: Run, bundle: Path, complains: Complains) -> None:
    images = write_images(Path("images"), ("3", "7", "9"))
    done = cli("adapt", bundle, "--data", images, "--steps", 12, "--to", "new")
    assert done.code == 0, done.err
    for part in (
        "normalised_sgd ×1",
        "12 images in 12 updates",
        "pass after pass",
        "While learning",
        "before",
        "after",
    ):
        assert part in done.out
    planned = next(line.split() for line in done.out.splitlines() if line.strip().startswith("arena "))
    assert planned[1] == planned[2]
    assert done.out.endswith(
        "The adapted bundle is in new; evaluate it with: repnet-search evaluate new --data images\n"
    )
    assert cli("export", "--check", "new").code == 0
    assert "exists already" in complains("adapt", bundle, "--data", images, "--to", "new", code=1)
    assert cli("adapt", bundle, "--data", images, "--steps", 1, "--to", "new", "--force").code == 0

    stream = cli("adapt", "new", "--data", images, "--stream", "--json")
    report = json.loads(stream.out)
    assert report["images"] == report["updates"] == report["curve"][-1]["images"]
    assert report["memory"]["planned"] == report["memory"]["measured"]
    assert report["labels"] == list("0123456789")
    assert (report["stream"], report["new_head"], report["interrupted"]) == (True, False, False)
    assert report["after"]["class_images"][0] == 0
    assert report["after"]["class_accuracies"][0] is None


def test_new_classes_are_asked_for_by_name(cli: Run, bundle: Path, complains: Complains) -> None:
    images = write_images(Path("images"), ("dark", "bright"))
    message = complains("adapt", bundle, "--data", images, code=1)
    assert "must be one of the labels of out (0, 1, 2, " in message
    assert "start the last layer anew with --new-head: 2 outputs in place of 10" in message
    done = cli("adapt", bundle, "--data", images, "--new-head", "--steps", 4, "--to", "new")
    assert done.code == 0, done.err
    assert "started anew with 2 outputs; the plan was made anew: " in done.out
    assert Path("new/labels.txt").read_text() == "bright\ndark\n"


def test_what_cannot_be_adapted_is_one_sentence(bundle: Path, workplace: Path, complains: Complains) -> None:
    images = write_images(Path("images"), ("3", "7"))
    assert "has no manifest.json" in complains("adapt", images, "--data", images, code=1)
    assert "does not exist" in complains("adapt", bundle, "--data", "nowhere", code=1)
    Path("empty").mkdir()
    assert "Each class needs a folder of its own" in complains("adapt", bundle, "--data", "empty", code=1)
    write_images(Path("one"), ("3",))
    assert "at least two classes" in complains("adapt", bundle, "--data", "one", code=1)
    for steps in (0, -1, "many"):
        assert "--steps" in complains("adapt", bundle, "--data", images, f"--steps={steps}", code=2)
    assert "--lr-scale" in complains("adapt", bundle, "--data", images, "--lr-scale", 0, code=2)
    assert "for the bundle that --to DIR writes" in complains("adapt", bundle, "--data", images, "--force", code=2)
    assert "A stream sees each image once" in complains(
        "adapt", bundle, "--data", images, "--stream", "--steps=99", code=2
    )
    (bundle / "trained.safetensors").write_bytes(b"broken")
    message = complains("adapt", bundle, "--data", images, "--to", "new", code=1)
    assert "The bundle out is not whole: trained.safetensors is not what was written" in message


@pytest.mark.parametrize(("kind", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_ctrl_c_keeps_what_was_learnt(
    cli: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch, kind: type[KeyboardInterrupt], code: int
) -> None:
    images = write_images(Path("images"), ("3", "7"))
    run, calls = DeviceTrainer.run, iter(range(100))

    def interrupting(trainer: DeviceTrainer, chosen: torch.Tensor, labels: torch.Tensor) -> float:
        if next(calls) == 5:
            raise kind
        return run(trainer, chosen, labels)

    monkeypatch.setattr(DeviceTrainer, "run", interrupting)
    done = cli("adapt", bundle, "--data", images, "--to", "new")
    assert done.code == code
    assert "Interrupted; kept is what was learnt from 5 images." in done.err
    assert "5 images in 5 updates" in done.out
    assert cli("export", "--check", "new").code == 0
