"""The commands as the README shows them, on the embedded default."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import repnet_search
from tests.cli.conftest import Run

SHORT = ("--epochs", "1", "--views", "1", "--confirm", "0")
QUICK = ("--budget", "160KB", "--trials", "3", *SHORT, "--workers", "1", "--study", "mine")


def test_the_help_lists_the_commands(cli: Run) -> None:
    done = cli("--help")
    assert done.code == 0
    for command in ("run", "best", "train", "estimate", "export", "evaluate", "dashboard", "studies", "spaces"):
        assert f"  {command} " in done.out
        assert cli(command, "--help").code == 0


def test_no_summary_of_a_command_is_cut_off() -> None:
    program = "from repnet_search.cli.main import cli; cli(['--help'], terminal_width=80)"
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, check=True)
    assert "..." not in done.stdout.split("Commands:")[1]


def test_no_command_is_a_call_for_help(cli: Run) -> None:
    assert cli() == cli("--help")


@pytest.mark.parametrize("encoding", ["latin1", "ascii"])
def test_a_stream_that_lacks_signs_gets_question_marks(encoding: str) -> None:
    command = (sys.executable, "-m", "repnet_search", "profile", "--space", "tiny", "--budget", "100KB")
    done = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": encoding}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"??" in done.stdout


def test_run_best_export_evaluate(cli: Run, workplace: Path) -> None:
    done = cli("run", *QUICK)
    assert done.code == 0, done.err
    for part in (
        "backbone",
        "budget",
        "combinations",
        "Pareto front",
        "Winner",
        "arena",
        "last layer alone",
        "widest fitting",
        "repnet-search export --study mine",
    ):
        assert part in done.out
    assert "\x1b[" not in done.out
    again = cli("run", *QUICK)
    assert again.code == 0
    assert "3 designs trained, and the last layer alone" in again.out
    assert again.out.count("1/3") == 0

    best = cli("best", "--study", "mine", "--budget", "100KB", "--json")
    answer = json.loads(best.out)
    assert answer["design"]["ram_bytes"] <= 100 * 1024
    assert "connectors:" in cli("best", "--study", "mine").out

    assert cli("export", "--study", "mine", "--to", "out").code == 0
    assert cli("export", "--study", "mine", "--to", "out").code == 1
    assert cli("export", "--study", "mine", "--to", "out", "--force").code == 0
    evaluated = json.loads(cli("evaluate", "out", "--json").out)
    assert evaluated["images"] == 1297
    assert sum(map(sum, evaluated["confusion"])) == 1297
    table = cli("evaluate", "out", "--split", "all")
    assert "of 1797 images right" in table.out
    studies = json.loads(cli("studies", "--json").out)
    assert studies[0]["trained"] == 3


def test_run_prints_json_alone_on_stdout(cli: Run) -> None:
    done = cli("run", *QUICK, "--json")
    report = json.loads(done.out)
    assert report["counts"]["trained"] >= 3
    assert set(report["compared"]) == {"winner", "last layer alone", "widest fitting"}
    assert all(0 <= item["test_accuracy"] <= 1 for item in report["compared"].values())
    assert report["compared"]["winner"]["ram_bytes"] <= 160 * 1024
    assert "budget" in done.err


def test_the_best_are_confirmed_by_fresh_seeds(cli: Run, workplace: Path) -> None:
    confirmed = ("--confirm", "1", "--confirm-seeds", "2", "--confirm-epochs", "1")
    done = cli("run", *QUICK, *confirmed)
    assert done.code == 0, done.err
    assert "Confirmed by 2 seeds of 1 epoch " in done.out
    assert "In brackets is the range of the 2 seeds" in done.out
    assert "on validation than on test" in done.out
    again = cli("run", *QUICK, *confirmed, "--json")
    report = json.loads(again.out)
    assert "confirmed " not in again.err  # nothing is trained again
    winner = report["compared"]["winner"]
    assert {run["seed"] for run in winner["confirmed"]} == {1000003, 1000004}
    assert winner["test_accuracy"] == pytest.approx(sum(run["test_accuracy"] for run in winner["confirmed"]) / 2)
    assert cli("export", "--study", "mine", "--to", "out").code == 0
    exported = json.loads(cli("evaluate", "out", "--json").out)
    first = min(winner["confirmed"], key=lambda run: run["seed"])
    assert exported["accuracy"] == pytest.approx(first["test_accuracy"])


def test_the_winner_is_a_design_that_trains_again(cli: Run, workplace: Path) -> None:
    cli("run", *QUICK)
    best = workplace / "repnet-studies" / "mine" / "best.yaml"
    estimate = json.loads(cli("estimate", best, "--json").out)
    assert estimate["memory"]["ram_bytes"] == sum(estimate["memory"]["terms"].values())
    done = cli("train", best, "--epochs", "1", "--views", "1", "--to", "trained")
    assert done.code == 0, done.err
    assert "on the test images" in done.out
    assert cli("evaluate", "trained").code == 0


def test_an_edited_design_trains(cli: Run, workplace: Path) -> None:
    (workplace / "mine.yaml").write_text(
        "connectors:\n- {after_block: 10, exchange: to_repnet}\n- {after_block: 17}\nresolution: 32\n"
        "recipe: {optimizer: adam, accumulate: 16, lr: 0.01}\n"
    )
    report = json.loads(cli("train", "mine.yaml", "--epochs", "2", "--views", "1", "--json").out)
    assert 0 < report["accuracy"]["test"] <= 1
    assert report["ram_bytes"] == sum(report["terms"].values())


def test_estimate_shows_the_terms_and_the_peak(cli: Run, workplace: Path) -> None:
    (workplace / "mine.yaml").write_text("connectors: []\n")
    done = cli("estimate", "mine.yaml", "--budget", "256KB")
    assert done.code == 0
    for part in ("arena", "parameters", "block 2, conv, forward", "139.4 KiB of 256.0 KiB", "1 130 trainable"):
        assert part in done.out


def test_lists(cli: Run) -> None:
    backbones = json.loads(cli("backbones", "--json").out)
    assert [(row["backbone"], row["width"]) for row in backbones] == [
        ("mnasnet", 0.5),
        ("mnasnet", 1.0),
        ("mobilenet_v2", 0.35),
        ("mobilenet_v2", 1.0),
        ("mobilenet_v3_large", 1.0),
        ("mobilenet_v3_small", 1.0),
        ("proxylessnas_mobile", 1.0),
        ("resnet18", 1.0),
        ("resnet34", 1.0),
        ("resnet50", 1.0),
    ]
    assert backbones[6]["connectable_blocks"] == [0, 1, 2, 3, *range(6, 23)]
    assert "0-3, 6-22" in cli("backbones").out
    assert [row["space"] for row in json.loads(cli("spaces", "--json").out)] == ["default", "paper", "tiny"]
    assert "connector_blocks:" in cli("spaces", "default").out


def test_two_workers_share_one_study(workplace: Path) -> None:
    # In a process of its own: workers import the main module again, and AppTest leaves a page in its place here.
    options = [
        "--space",
        "tiny",
        "--trials",
        "4",
        "--epochs",
        "1",
        "--views",
        "1",
        "--workers",
        "2",
        "--seed",
        "1",
        "--confirm",
        "2",
        "--confirm-epochs",
        "1",
        "--json",
    ]
    command = [sys.executable, "-m", "repnet_search", "run", "--budget", "160KB", *options]
    done = subprocess.run(command, cwd=workplace, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    baselines = 3 * 3  # resolutions and recipes of the tiny space
    assert report["counts"]["trained"] == 4 + baselines
    assert report["counts"]["failed"] == 0
    assert all(len(item["confirmed"]) == 3 for item in report["compared"].values())
    records = repnet_search.load_study(report["study"]).records
    trained = [record.design_id for record in records if record.outcome is repnet_search.Outcome.TRAINED]
    assert len(set(trained)) == len(trained)
