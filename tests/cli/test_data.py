"""`repnet-search data`, and data options of the other commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Run

Complains = Callable[..., str]
QUICK = ("--trials", 1, "--epochs", 1, "--views", 1, "--workers", 1, "--confirm", 0)
SMALL = (*QUICK, "--space", "tiny", "--resolution", 32)


def _images(folder: Path, **counts: int) -> Path:
    random = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = random.integers(0, 256, (12, 10, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


def test_the_summary_of_a_folder(workplace: Path, cli: Run) -> None:
    _images(workplace / "pets", cat=40, dog=10)
    (workplace / "pets" / "dog" / "broken.jpg").write_bytes(b"x")
    done = cli("data", "pets", "--plot", "pets.png")
    assert done.code == 0, done.err
    for part in (
        "pets (folder): 2 classes, 50 images",
        "training images per class",
        "--metric balanced_accuracy counts each class alike",
        "10 px wide, 12 px high",
        "50 RGB",
        "duplicates  none",
        "1, --skip-broken leaves them out: dog/broken.jpg is not an image that can be read",
        "The contact sheet is in pets.png.",
    ):
        assert part in done.out
    with Image.open(workplace / "pets.png") as sheet:
        assert sheet.width > 600


def test_the_summary_as_json(workplace: Path, cli: Run) -> None:
    _images(workplace / "pets", cat=40, dog=10)
    report = json.loads(cli("data", "pets", "--json").out)
    assert (report["name"], report["kind"], report["classes"], report["images"]) == ("pets", "folder", 2, 50)
    assert sum(split["dog"] for split in report["counts"].values()) == 10
    assert report["widths"] == {"least": 10, "median": 10, "most": 10}
    assert len(report["sha256"]) == 64
    assert json.loads(cli("data", "--json").out)["name"] == "digits"


def test_many_classes_are_no_screenful(workplace: Path, cli: Run) -> None:
    _images(workplace / "many", **{f"class{index}": 3 + index % 4 for index in range(150)})
    done = cli("data", "many")
    assert "150 classes" in done.out
    assert "… 130 more …" in done.out
    assert len(done.out.splitlines()) < 40


def test_an_npz_file_runs_and_exports_and_evaluates(workplace: Path, cli: Run) -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), [40] + [10] * 19)
    np.savez("set.npz", images=random.integers(0, 256, (230, 16, 16), dtype=np.uint8), labels=labels)
    options = ("--data", "set.npz", "--metric", "balanced_accuracy")
    done = cli("run", "--budget", "120KB", *options, "--study", "mine", *SMALL)
    assert done.code == 0, done.err
    assert "data      set.npz: 20 classes" in done.out
    assert "training images per class, " in done.out
    assert "balanced accuracy: accuracies below are means over the classes" in done.out
    assert "Pareto front: validation balanced accuracy against training memory" in done.out
    assert "on validation (balanced)" in done.out
    assert "On the test images (balanced accuracy)" in done.out
    assert "on validation (balanced)" in cli("best", "--study", "mine").out
    assert cli("run", "--budget", "120KB", "--data", "set.npz", "--study", "mine", *SMALL).code == 1
    assert cli("export", "--study", "mine", "--to", "out", "--data", "set.npz").code == 0
    labels_file = json.loads((workplace / "out" / "bundle.json").read_text())
    assert set(labels_file["accuracy"]) == {"validation (balanced)", "test (balanced)"}
    evaluated = json.loads(cli("evaluate", "out", *options, "--json").out)
    assert evaluated["value"] == evaluated["balanced_accuracy"]
    assert evaluated["metric"] == "balanced_accuracy"
    assert labels_file["accuracy"]["test (balanced)"] == pytest.approx(evaluated["value"])
    table = cli("evaluate", "out", *options).out
    assert "right as the mean over the classes" in table
    assert "Most frequent mistakes" in table


def test_a_study_keeps_its_name_where_the_metric_is_the_accuracy(workplace: Path, cli: Run) -> None:
    names = [
        json.loads(cli("run", "--budget", "100KB", *SMALL, "--json", *extra).out)["study"]
        for extra in ((), ("--metric", "accuracy"), ("--metric", "balanced_accuracy"))
    ]
    assert names[0] == names[1] != names[2]


def test_the_cache_of_decoded_images_can_be_turned_off(
    workplace: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    _images(workplace / "pets", cat=8, dog=8)
    monkeypatch.setenv("REPNET_SEARCH_CACHE", str(workplace / "cache"))
    (workplace / "design.yaml").write_text("connectors: []\nresolution: 32\n")
    train = ("train", "design.yaml", "--data", "pets", "--epochs", 1, "--views", 1, "--json")
    plain = cli(*train, "--data-cache", 0)
    assert plain.code == 0, plain.err
    assert not list(workplace.glob("cache/decoded-*"))
    cached = cli(*train)
    assert len(list(workplace.glob("cache/decoded-*"))) == 3
    assert json.loads(plain.out)["losses"] == json.loads(cached.out)["losses"] == json.loads(cli(*train).out)["losses"]


@pytest.mark.parametrize("command", [("data",), ("run", "--budget", "256KB", "--data"), ("evaluate", "out", "--data")])
@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (("cifar10",), "The data set cifar10 needs --data-root DIR"),
        (("cifer10",), "Did you mean 'cifar10'?"),
        (("mnist", "--data-root", "."), "is looked for in '.' as MNIST, but its train part is not there or not whole"),
        (("notes.txt",), "must be in a folder or an .npz file, but 'notes.txt' is a file"),
        (("empty.npz",), "must be a whole archive of NumPy arrays, but 'empty.npz' is not"),
        (("loop",), "'loop' holds no images"),
        (("nowhere",), "'nowhere' does not exist"),
    ],
)
def test_what_is_no_source(
    command: tuple[str, ...], source: tuple[str, ...], sentence: str, workplace: Path, complains: Complains, cli: Run
) -> None:
    if command[0] == "evaluate":
        (workplace / "design.yaml").write_text("connectors: []\nresolution: 32\n")
        assert cli("train", "design.yaml", "--epochs", 1, "--views", 1, "--to", "out").code == 0
    (workplace / "notes.txt").write_text("x")
    (workplace / "empty.npz").write_bytes(b"")
    (workplace / "loop").mkdir()
    (workplace / "loop" / "self").symlink_to("self")
    assert sentence in complains(*command, *source, code=1)


def test_a_plot_of_another_kind_is_refused_before_anything_is_read(complains: Complains) -> None:
    assert ".html or .png" in complains("data", "nowhere", "--plot", "x.gif", code=2)
