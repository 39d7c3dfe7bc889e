"""`export` and `export --check` as a user types them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from repnet_search.results.confirmation import ConfirmedRun, dump_run
from repnet_search.results.storage import load_optuna_study, open_storage
from repnet_search.results.study import load_study
from repnet_search.search.trained import trained_path
from tests.cli.conftest import Run

Complains = Callable[..., str]
STUDY = ("run", "--board", "stm32f746", "--flash", "4MB", "--space", "tiny", "--trials", 1, "--confirm", 0)
SHORT = ("--epochs", 1, "--views", 1, "--workers", 1, "--study", "mine")


def test_a_bundle_tells_what_it_is_and_how_well_it_was_confirmed(
    cli: Run, workplace: Path, complains: Complains
) -> None:
    assert cli(*STUDY, *SHORT).code == 0
    refused = cli("export", "--study", "mine", "--to", "out", "--input-range=imagenet")
    assert refused.code == 1
    assert "was trained on images in --input-range=-1,1, but imagenet is given; leave the option out." in refused.err
    assert not Path("out").exists()
    done = cli("export", "--study", "mine", "--to", "out")
    assert done.code == 0, done.err
    assert done.out.endswith("is in out; evaluate it with: repnet-search evaluate out\n")
    card = Path("out/card.md").read_text()
    for part in (
        "Found by repnet-search in the study mine",
        "- Recipe: ",
        "- This model: 1 epoch of 1 view per image, seed 0.",
        "- digits: 100 train, 400 validation, 1297 test images; sha256 of training and validation\n  `",
        "| test | 1297 | ",
        "Trained once: another seed gives another accuracy",
        "| arena | RAM of a lean runtime",
        "| eager | stock PyTorch in fp32",
        "| paper | the rules of the published tables",
        "The study's target: stm32f746, 288.0 KiB of RAM",
        "doi:10.24432/C50P49, CC BY 4.0.\n- The backbone's weights are those of repnet-search, Apache-2.0.",
    ):
        assert part in card
    assert "model.onnx" not in card
    plan = json.loads(Path("out/plan.json").read_text())
    assert [region["name"] for region in plan["regions"]] == [
        region.name for region in load_study("mine").settings.limits.regions
    ]
    assert Path("out/labels.txt").read_text() == "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n"

    checked = cli("export", "--check", "out")
    assert checked.code == 0, checked.err
    assert checked.out.startswith(
        "The bundle out is whole. From the model that was trained, logits of noise differ in "
    )
    assert checked.out.endswith(" model.py by at most 0.0e+00.\n")
    Path("out/labels.txt").unlink()
    Path("out/more").touch()
    damaged = cli("export", "--check", "out")
    assert (damaged.code, damaged.out) == (1, "")
    assert damaged.err.splitlines() == [
        "Note: more is no file of this bundle; move it away.",
        "Error: The bundle out is not whole: labels.txt is missing; copy the bundle again. There are 1 more.",
    ]
    assert "out also holds more, which would be lost" in complains(
        "export", "--study", "mine", "--to", "out", "--force", code=1
    )
    Path("out/more").unlink()
    confirm_and_export_again(cli)


def confirm_and_export_again(cli: Run) -> None:
    study = load_optuna_study("mine", open_storage(None))
    winner = load_study("mine").choose_winner()
    assert winner is not None
    for seed, accuracy in ((5, 0.70), (6, 0.72), (7, 0.74)):
        run = ConfirmedRun(winner.design_id, 2, seed, accuracy, test_accuracy=accuracy - 0.1)
        study.set_user_attr(run.key, dump_run(run))
        shutil.copy(trained_path("mine", winner.design_id), trained_path("mine", winner.design_id, run))
    assert cli("export", "--study", "mine", "--to", "out", "--force").code == 0
    card = Path("out/card.md").read_text()
    assert "- This model: 2 epochs of 1 view per image, seed 5." in card
    assert "trained anew for 2 epochs from each of the seeds 5, 6, 7; this model is the first of them" in card
    assert "| validation | 72.0 ± 5.0 % | 70.0, 72.0, 74.0 % |" in card
    assert "| test | 62.0 ± 5.0 % | 60.0, 62.0, 64.0 % |" in card
    assert "| test | 1297 | 60.0 % | 57.3 to 62.6 % |" in card
    facts = json.loads(Path("out/bundle.json").read_text())
    assert [run["seed"] for run in facts["confirmed"]] == [5, 6, 7]
    assert facts["accuracy"] == {"validation": 0.7, "test": pytest.approx(0.6)}


def test_options_that_do_not_go_together_are_refused(complains: Complains, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "needs --study NAME and --to DIR" in complains("export", "--study", "mine", code=2)
    assert "leave --study and --to out" in complains("export", "--check", "out", "--to", "new", code=2)
    assert "has no manifest.json" in complains("export", "--check", "nowhere", code=1)
    monkeypatch.setattr("repnet_search.export.onnx_file.find_spec", lambda _: None)
    message = complains("export", "--study", "mine", "--to", "out", "--onnx", code=1)
    assert message.endswith("cannot be imported; pip install 'repnet-search[onnx]'.")
