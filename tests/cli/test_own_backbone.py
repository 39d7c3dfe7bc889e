"""`--backbone FILE.py:FUNCTION`, `--cut`, `--pretrained` and `--hswish` as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from studies.contract_subjects import OWN_FILE
from tests.cli.conftest import Run

SPACE = """
format: 1
resolution: [32]
module: {depth: [0], width: [1.0], kernel: [3], groups: [2], pool: [2], norm: [group]}
recipe: [{optimizer: sign_sgd, accumulate: 16, lr: 0.001}]
"""
TINY = f"{OWN_FILE}:tiny"


def test_an_own_backbone_is_estimated_verified_and_profiled(cli: Run, workplace: Path) -> None:
    done = cli("estimate", "--preset", "paper", "--backbone", TINY, "--resolution", 48, "--json")
    assert done.code == 0, done
    Path("design.yaml").write_text("connectors: [{after_block: 2}]\nresolution: 32\n")
    assert cli("verify", "design.yaml", "--backbone", TINY, "--classes", 3).code == 0
    Path("space.yaml").write_text(SPACE)
    profiled = cli("profile", "--space", "space.yaml", "--budget", "256KB", "--backbone", TINY, "--json")
    assert profiled.code == 0, profiled


def test_an_own_backbone_is_searched_and_exported(cli: Run, workplace: Path) -> None:
    Path("nets.py").write_text(OWN_FILE.read_text())
    Path("space.yaml").write_text(SPACE)
    search = (
        "run",
        "--budget",
        "300KB",
        "--space",
        "space.yaml",
        "--trials",
        2,
        "--epochs",
        1,
        "--views",
        1,
        "--confirm",
        0,
    )
    done = cli(*search, "--backbone", "nets.py:tiny", "--study", "own", "--workers", 1)
    assert done.code == 0, done
    assert cli("export", "--study", "own", "--to", "out").code == 0
    Path("nets.py").unlink()
    # From here on nothing needs the user's file.
    assert cli("best", "--study", "own", "--budget", "300KB").code == 0
    assert cli("estimate", "out/design.yaml").code == 0
    assert cli("evaluate", "out", "--json").code == 0


def test_cut_points_are_passed_on(cli: Run) -> None:
    arguments = ("estimate", "--preset", "smallest", "--backbone", f"{OWN_FILE}:plain", "--json")
    whole = json.loads(cli(*arguments).out)
    joined = json.loads(cli(*arguments, "--cut", "3,7,11").out)
    assert whole["design_id"] != joined["design_id"]


def test_wrong_combinations_are_refused(complains: Callable[..., str]) -> None:
    smallest = ("estimate", "--preset", "smallest", "--backbone")
    assert "--cut is for a backbone of your own" in complains(*smallest, "resnet18", "--cut", "layer1", code=2)
    assert "your own function makes what it says" in complains(*smallest, TINY, "--width-mult", 0.5, code=2)
    message = complains(*smallest, f"{OWN_FILE}:shufflenet", code=1)
    assert "for stage2.0: the operation 'cat' in its forward" in message
    assert "FILE.py:FUNCTION, but got nets.py; name its function too." in complains(*smallest, "nets.py", code=2)
    run = ("run", "--budget", "256KB", "--backbone", "resnet18", "--pretrained")
    assert "--weights FILE or --pretrained, but got both" in complains(*run, "--weights", "x", code=2)
    assert "with --width-mult 1, but got 0.35" in complains("run", "--budget", "256KB", "--pretrained", code=1)


def test_debug_shows_the_users_own_traceback(cli: Run, workplace: Path) -> None:
    Path("broken.py").write_text("def net():\n    return deeply_wrong()\n")
    done = cli("--debug", "estimate", "--preset", "smallest", "--backbone", "broken.py:net")
    assert done.code == 1
    assert "deeply_wrong" in done.err
    assert 'broken.py", line 2, in net' in done.err


def test_slopes_in_a_byte_need_less(cli: Run) -> None:
    arguments = ("estimate", "--preset", "paper", "--backbone", "mobilenet_v3_small", "--resolution", 64)
    exact, coarse = (json.loads(cli(*arguments, "--hswish", choice, "--json").out) for choice in ("exact", "8bit"))
    assert coarse["memory"]["arena_bytes"] < exact["memory"]["arena_bytes"]
    assert "slopes 8bit" in cli(*arguments, "--hswish", "8bit").out
    assert cli(*arguments, "--hswish", "16bit").code == 2


@pytest.mark.parametrize("last_conv", [False, True])
def test_backbones_are_listed_with_their_macs(cli: Run, last_conv: bool) -> None:
    option = ("--last-conv",) if last_conv else ()
    rows = json.loads(cli("backbones", "--json", *option).out)
    macs = {(row["backbone"], row["width"]): row["macs"] for row in rows}
    assert (
        macs["resnet18", 1.0] == 1_813_561_344
    )  # torchvision publishes 1.814 GMACs, the classifier's 0.5 M among them
    if last_conv:
        # 0.301, 0.217, 0.057 and 0.315 GMACs as published, with the classifier's 1.28, 1.28, 1.02 and 1.28 M
        assert round((macs["mobilenet_v2", 1.0] + 1.28e6) / 1e9, 3) == 0.301
        assert round((macs["mobilenet_v3_large", 1.0] + 1.28e6) / 1e9, 3) == 0.217
        assert round((macs["mobilenet_v3_small", 1.0] + 1.024e6) / 1e9, 3) == 0.057
        assert round((macs["mnasnet", 1.0] + 1.28e6) / 1e9, 3) == 0.314
    small = json.loads(cli("backbones", "--json", "--resolution", 48).out)
    assert all(row["macs"] < macs[row["backbone"], row["width"]] for row in small)
