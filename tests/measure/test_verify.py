"""Verification of whole designs, and what it says where something differs."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from repnet_search.cli.main import run_cli
from repnet_search.graph import Schedule
from repnet_search.measure import verify
from repnet_search.measure.verify import verify_design
from repnet_search.models.weights import create_random_backbone
from repnet_search.spec import BackboneSpec, Connector, Design, Optimizer, Recipe, resolve
from repnet_search.training.task import Task
from tests.designs import random_resolved, six_connectors

ARENAS = {f"arena, schedule {schedule.value}" for schedule in Schedule}
STATE = {"parameters", "norm state", "optimizer state", "accumulated gradients"}


@pytest.mark.parametrize("seed", range(4))
def test_random_designs_measure_what_is_estimated(seed: int, task: Task) -> None:
    resolved = random_resolved(Random(seed), resolutions=(32, 48))
    result = verify_design(resolved, task.weights_of(BackboneSpec()), classes=10, batch=1 + seed % 2, seed=seed)
    assert result.passed, result
    assert set(result.executions) == set(Schedule)


def test_the_paper_placement_on_proxylessnas_is_verified() -> None:
    backbone = BackboneSpec(name="proxylessnas_mobile")
    connectors = (Connector(after_block=2, pool=4), Connector(after_block=18))
    resolved = resolve(Design(backbone=backbone, connectors=connectors, resolution=32))
    assert verify_design(resolved, create_random_backbone(backbone, seed=1), classes=3, batch=1, seed=0).passed


def test_state_and_accumulated_gradients_are_measured(task: Task) -> None:
    recipe = Recipe(optimizer=Optimizer.ADAM, accumulate=4)
    resolved = resolve(Design(connectors=(Connector(after_block=17),), recipe=recipe))
    result = verify_design(resolved, task.weights_of(BackboneSpec()), classes=10, batch=1, seed=0)
    terms = {term.name: term for term in result.terms}
    parameters = terms["parameters"].measured
    assert terms["optimizer state"].measured == 2 * parameters
    assert terms["accumulated gradients"].measured == parameters


def test_an_int8_design_is_verified_inside_its_arena_alone(task: Task) -> None:
    recipe = Recipe(optimizer=Optimizer.MOMENTUM, accumulate=2)
    design = six_connectors().model_copy(update={"activation_bits": 8, "resolution": 32, "recipe": recipe})
    result = verify_design(resolve(design), task.weights_of(BackboneSpec()), classes=10, batch=1, seed=0)
    assert result.passed, result
    assert result.lean is None
    terms = {term.name: term for term in result.terms}
    assert terms.keys() == ARENAS | {"forward MACs"} | STATE
    assert terms["optimizer state"].measured == terms["parameters"].measured > 0


@pytest.fixture
def design_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "design.yaml"
    path.write_text("connectors:\n- {after_block: 13, exchange: to_repnet}\nresolution: 32\n")
    return path


def test_the_command_exits_1_where_one_byte_differs(
    design_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = verify.count_kept_bytes
    monkeypatch.setattr(verify, "count_kept_bytes", lambda graph: right(graph) - 1)
    assert run_cli(["verify", str(design_file)]) == 1
    captured = capsys.readouterr()
    assert "off by +1" in captured.out
    assert "kept by stock PyTorch is" in captured.err


def test_the_command_reports_json(design_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["verify", str(design_file), "--classes", "4", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"]
    assert all(term["estimated"] == term["measured"] for term in report["terms"])
    assert len(report["terms"]) == 12


def test_the_command_says_what_it_leaves_out_of_int8(design_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    design_file.write_text(design_file.read_text() + "activation_bits: 8\n")
    assert run_cli(["verify", str(design_file)]) == 0
    printed = capsys.readouterr().out
    assert "int8 codes that differ from the model's: 0" in printed
    assert "measured inside its arena alone" in printed
    assert run_cli(["verify", str(design_file), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"]
    assert report["lean_gradient_error"] is None
    assert len(report["terms"]) == 8


def test_a_width_without_a_backbone_is_refused(design_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["verify", str(design_file), "--width-mult", "0.5"]) == 2
    assert "belong to --backbone" in capsys.readouterr().err
