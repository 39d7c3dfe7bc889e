"""Bad input: one sentence, the exit code, nothing left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from repnet_search.models.vision import torchvision
from tests.cli.conftest import Run

Complains = Callable[..., str]


def images(folder: Path, *classes: str, count: int = 5) -> Path:
    for name in classes:
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (8, 8), (index * 20, 0, 0)).save(folder / name / f"{index}.png")
    return folder


@pytest.mark.parametrize("budget", ["256XB", "-1KB", "0", "1e99GB"])
def test_budgets_that_are_no_size(budget: str, complains: Complains) -> None:
    assert repr(budget) in complains("run", "--budget", budget, code=2)


def test_a_missing_budget(complains: Complains) -> None:
    assert "Say what the device has: --budget 256KB" in complains("run", code=2)


def test_a_budget_below_the_smallest_design(complains: Complains) -> None:
    message = complains("run", "--budget", "50KB", code=3)
    assert "the smallest needs 68.8 KiB (32 px, fp32, last layer alone)" in message
    assert "a resolution of at most 24" in message


def test_a_reserve_as_large_as_the_budget(complains: Complains) -> None:
    assert "--reserve must be less" in complains("run", "--budget", "256KB", "--reserve", "256KB", code=2)


def test_data_that_is_missing_empty_or_has_one_class(workplace: Path, complains: Complains) -> None:
    assert "nowhere" in complains("run", "--budget", "256KB", "--data", "nowhere", code=1)
    (workplace / "empty").mkdir()
    assert "empty" in complains("run", "--budget", "256KB", "--data", "empty", code=1)
    images(workplace / "one", "cat")
    assert "two classes" in complains("run", "--budget", "256KB", "--data", "one", code=1)


def test_a_class_without_images(workplace: Path, complains: Complains) -> None:
    images(workplace / "data", "cat", "dog")
    (workplace / "data" / "emu").mkdir()
    assert "emu" in complains("run", "--budget", "256KB", "--data", "data", code=1)


@pytest.mark.parametrize(
    ("name", "content"), [("broken.jpg", b"\xff\xd8broken"), ("zero.png", b""), ("notes.txt", b"hi")]
)
def test_a_file_that_is_no_image_is_named_and_can_be_skipped(
    name: str, content: bytes, workplace: Path, complains: Complains, cli: Run
) -> None:
    images(workplace / "data", "cat", "dog", count=8)
    (workplace / "data" / "cat" / name).write_bytes(content)
    message = complains("run", "--budget", "256KB", "--data", "data", code=1)
    assert name in message
    assert "--skip-broken" in message
    done = cli(
        "run",
        "--budget",
        "100KB",
        "--data",
        "data",
        "--skip-broken",
        "--trials",
        "1",
        "--epochs",
        "1",
        "--views",
        "1",
        "--workers",
        "1",
        "--space",
        "tiny",
        "--resolution",
        "32",
    )
    assert done.code == 0, done.err
    assert "1 broken file" in done.out


def test_weights_that_are_missing_truncated_or_of_another_width(workplace: Path, complains: Complains) -> None:
    assert "No such file" in complains("run", "--budget", "256KB", "--weights", "nowhere.safetensors", code=1)
    whole = workplace / "whole.safetensors"
    save_file(torchvision.models.mobilenet_v2(width_mult=0.5).state_dict(), whole)
    message = complains("run", "--budget", "256KB", "--weights", whole, "--width-mult", 0.35, code=1)
    assert ". They fit mobilenet_v2 with --width-mult 0.5 --no-last-conv. First wrong: " in message
    (workplace / "short.safetensors").write_bytes(whole.read_bytes()[:1000])
    assert "truncated" in complains("run", "--budget", "256KB", "--weights", "short.safetensors", code=1)
    torch.save({}, workplace / "weights.pth")
    assert "is a pickle" in complains("run", "--budget", "256KB", "--weights", "weights.pth", code=1)


def test_a_backbone_without_its_weights(complains: Complains) -> None:
    assert "give its weights" in complains("run", "--budget", "256KB", "--width-mult", "0.5", code=1)
    assert "one of mnasnet, mobilenet_v2" in complains("run", "--budget", "256KB", "--backbone", "mobilenet", code=1)
    assert "the backbone is resnet18; give its weights" in complains(
        "run", "--budget", "256KB", "--backbone", "resnet18", code=1
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("--backbone", "resnet18", "--width-mult", "0.35"),
            "resnet18 comes in width 1 alone, but got 0.35; leave --width-mult out.",
        ),
        (
            ("--backbone", "resnet50", "--last-conv"),
            "resnet50 has no last 1x1 convolution to keep, but got --last-conv; leave it out.",
        ),
    ],
)
def test_a_backbone_in_a_shape_that_it_has_not(options: tuple[str, ...], sentence: str, complains: Complains) -> None:
    assert sentence in complains("run", "--budget", "256KB", *options, code=1)


def test_a_connector_after_a_block_that_does_nothing(workplace: Path, complains: Complains) -> None:
    (workplace / "design.yaml").write_text("backbone: {name: proxylessnas_mobile}\nconnectors: [{after_block: 5}]")
    message = complains("estimate", "design.yaml", code=1)
    assert "block 5 of proxylessnas_mobile passes its input on unchanged; connect after block 3 instead." in message


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("resolutoin: [48]", "resolutoin is not a field here. Did you mean 'resolution'?"),
        ("module: {width: wide}", "module.width must be a list of choices, but got 'wide'."),
        ("connector_blocks: [40]", "connector_blocks[0] must be a block of mobilenet_v2_w035 (0..17), but got 40."),
        ("resolution: [48", "is not valid YAML"),
    ],
)
def test_a_space_with_a_mistake(text: str, sentence: str, workplace: Path, complains: Complains) -> None:
    (workplace / "space.yaml").write_text(text)
    assert sentence in complains("run", "--budget", "256KB", "--space", "space.yaml", code=1)


def test_a_design_with_a_mistake(workplace: Path, complains: Complains) -> None:
    (workplace / "design.yaml").write_text("connectors: [{after_block: 19}]")
    for command in ("train", "estimate"):
        message = complains(command, "design.yaml", code=1)
        assert "connectors[0].after_block must be a block of mobilenet_v2_w035 (0..17), but got 19." in message
    assert "nowhere.yaml cannot be read" in complains("train", "nowhere.yaml", code=1)


def test_a_design_over_the_budget_is_not_trained(workplace: Path, complains: Complains, cli: Run) -> None:
    (workplace / "design.yaml").write_text("connectors: [{after_block: 6}]")
    assert "It was not trained" in complains("train", "design.yaml", "--budget", "64KB", code=3)
    assert cli("estimate", "design.yaml", "--budget", "64KB").code == 3


def test_a_study_name_that_is_taken_and_one_that_is_none(workplace: Path, complains: Complains, cli: Run) -> None:
    quick = ("--epochs", "1", "--views", "1", "--workers", "1", "--confirm", "0")
    common = ("run", "--budget", "100KB", "--space", "tiny", *quick)
    assert cli(*common, "--trials", "1", "--study", "mine").code == 0
    message = complains(*common, "--trials", "1", "--study", "mine", "--resolution", "24", code=1)
    assert "exists with another space" in message
    assert "A study's name must be letters" in complains(*common, "--study", "../mine", code=1)
    assert "no study named 'yours'" in complains("best", "--study", "yours", code=1)
    assert "fits 1.0 KiB: its least needs" in complains("best", "--study", "mine", "--budget", "1KB", code=3)


def test_a_storage_that_is_no_study(workplace: Path, complains: Complains) -> None:
    (workplace / "notes.txt").write_text("hello")
    for command in (("run", "--budget", "256KB"), ("best", "--study", "x"), ("studies",), ("dashboard",)):
        assert "notes.txt is not a storage of studies" in complains(*command, "--storage", "notes.txt", code=1)
    assert "There is no study storage" in complains("best", "--study", "x", code=1)


def test_an_unwritable_folder_is_one_sentence(workplace: Path, complains: Complains) -> None:
    # what a read-only folder gives, also for root: the studies' folder cannot be made
    (workplace / "repnet-studies").write_text("in the way")
    assert "repnet-studies" in complains("run", "--budget", "256KB", code=1)


def test_sqlite_is_for_one_worker(complains: Complains) -> None:
    message = complains("run", "--budget", "256KB", "--storage", "sqlite:///s.db", "--workers", "2", code=2)
    assert "SQLite is for one worker" in message


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (("--timeout", "nan"), "--timeout"),
        (("--width-mult", "-1"), "--width-mult"),
        (("--trials", "0"), "--trials"),
        (("--input-range", "5"), "An input range is"),
    ],
)
def test_options_that_cannot_be_read(option: tuple[str, str], named: str, complains: Complains) -> None:
    assert named in complains("run", "--budget", "256KB", *option, code=2)


def test_an_unknown_option_and_command(complains: Complains) -> None:
    assert "No such option" in complains("run", "--bugdet", "1KB", code=2)
    assert "No such command" in complains("rnu", code=2)


def test_debug_shows_the_traceback(cli: Run) -> None:
    done = cli("train", "nowhere.yaml", "--debug")
    assert done.code == 1
    assert "Traceback" in done.err


@pytest.mark.timeout(240)
def test_ctrl_c_keeps_what_is_finished_and_exits_130(workplace: Path) -> None:
    command = [sys.executable, "-m", "repnet_search", "run", "--budget", "256KB", "--study", "cut", "--workers", "2"]
    process = subprocess.Popen(
        command,
        cwd=workplace,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell ignores Ctrl-C for what it starts in the background, and a child would inherit that
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("1/24"):
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=150)  # on a busy machine
    assert process.returncode == 130, err
    assert "Kept in study cut: " in out
    assert "; the same command goes on." in out
    assert "Traceback" not in err
    done = subprocess.run(
        [sys.executable, "-m", "repnet_search", "studies", "--json"], cwd=workplace, capture_output=True, text=True
    )
    assert '"study": "cut"' in done.stdout
