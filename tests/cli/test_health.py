"""`run` and `train` look at the features first."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from safetensors.torch import load, save_file

from repnet_search.models.weights import EMBEDDED_FILE
from tests.cli.conftest import Run

DESIGN = "connectors: []\nresolution: 32\nrecipe: {optimizer: sgd, accumulate: 16, lr: 0.1}\n"
QUICK = ("--epochs", "1", "--views", "1")
SEARCH = ("run", "--budget", "160KB", "--space", "tiny", "--trials", "1", "--workers", "1", "--confirm", "0")


@pytest.fixture
def dead(workplace: Path) -> Path:
    """Returns weights whose first norm lets nothing through."""
    state = load((resources.files("repnet_search.data") / "embedded" / EMBEDDED_FILE).read_bytes())
    state["features.0.1.weight"].zero_()
    save_file(state, workplace / "dead.safetensors", metadata={"input_range": "-1,1"})
    return workplace / "dead.safetensors"


def test_dead_weights_are_refused(complains: Callable[..., str], workplace: Path, dead: Path) -> None:
    (workplace / "design.yaml").write_text(DESIGN)
    for command in (SEARCH, ("train", "design.yaml")):
        message = complains(*command, *QUICK, "--weights", dead, code=1)
        assert "With the weights dead.safetensors and --input-range -1,1, the last feature is the same" in message


def test_a_wrong_range_is_a_warning_on_stderr(cli: Run, workplace: Path) -> None:
    (workplace / "design.yaml").write_text(DESIGN)
    for command in (SEARCH, ("train", "design.yaml")):
        done = cli(*command, *QUICK, "--input-range", "0,255", "--json")
        assert done.code == 0, done.err
        json.loads(done.out)
        (line,) = [line for line in done.err.splitlines() if line.startswith("Warning: ")]
        assert "--input-range 0,255, block 0 has" in line


def test_healthy_features_are_not_mentioned(cli: Run, workplace: Path) -> None:
    (workplace / "design.yaml").write_text(DESIGN)
    done = cli("train", "design.yaml", *QUICK)
    assert done.code == 0
    assert "Warning" not in done.err + done.out


def test_train_counts_with_the_schedule(cli: Run, workplace: Path) -> None:
    (workplace / "design.yaml").write_text(DESIGN.replace("32", "48", 1))
    needs = {}
    for schedule in ("layer", "streamed"):
        done = cli("train", "design.yaml", *QUICK, "--schedule", schedule, "--json")
        assert done.code == 0, done.err
        report = json.loads(done.out)
        assert report["schedule"] == schedule
        needs[schedule] = report["ram_bytes"]
    assert needs["streamed"] < needs["layer"]
    assert cli("train", "design.yaml", *QUICK, "--budget", needs["streamed"]).code == 3
    done = cli("train", "design.yaml", *QUICK, "--budget", needs["streamed"], "--schedule", "streamed", "--to", "out")
    assert done.code == 0
    assert "schedule streamed" in done.out
    assert "schedule streamed" in (workplace / "out" / "card.md").read_text()
