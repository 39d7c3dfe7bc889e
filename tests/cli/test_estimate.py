"""`estimate` explains, compares, draws and finds a way out; `plan` writes files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from repnet_search.cli.design_options import PRESETS
from repnet_search.cli.options import SCHEDULES
from repnet_search.graph import Schedule
from repnet_search.spec import list_presets
from tests.cli.conftest import Run

PAPER = ("--preset", "paper", "--resolution", "96")


def test_the_options_name_what_there_is() -> None:
    assert list_presets() == PRESETS
    assert tuple(schedule.value for schedule in Schedule) == SCHEDULES


def test_estimate_names_account_schedule_batch_and_recipe(cli: Run) -> None:
    done = cli("estimate", *PAPER, "--schedule", "streamed", "--batch", "2")
    assert done.code == 0, done.err
    assert "recipe sign_sgd ×1, lr 0.001; account arena, schedule streamed, micro-batch 2" in done.out


def test_estimate_shows_what_is_alive_at_the_peak(cli: Run) -> None:
    done = cli("estimate", *PAPER)
    assert "At the peak, operator 5 of 0..186, 567.0 KiB are alive:" in done.out
    assert "432.0 KiB  b2.0, backbone feature 1×48×48×48, within block 2" in done.out
    assert "27.0 KiB  r0, rep-net feature 1×3×48×48, from image to module 1" in done.out
    assert "M forward" in done.out
    assert "22 642 trainable" in done.out


def test_estimate_by_block(cli: Run) -> None:
    lines = cli("estimate", *PAPER, "--by", "block").out.splitlines()
    rows = {line.split("  ")[0].strip(): line.split() for line in lines}
    assert rows["module 6"][2:] == [
        "1×112×3×3",
        "3.9",
        "1.3",
        "0.0",
        "98.1",
        "94.7",
        "7",
        "840",
        "23",
        "520",
        "8",
        "176",
    ]
    assert rows["step"][1:5] == ["90.3", "31.5", "567.0", "256.0"]


def test_estimate_compares_all_accounts(cli: Run) -> None:
    done = cli("estimate", *PAPER, "--accounts", "--batch", "8")
    rows = [line.split() for line in done.out.splitlines()]
    heads = [row[:4] for row in rows if row and row[0] in ("arena", "eager", "paper") and row[2:3] == ["8"]]
    assert [head[:2] for head in heads] == [
        ["arena", "layer"],
        ["arena", "inplace"],
        ["arena", "streamed"],
        ["eager", "–"],
        ["paper", "–"],
    ]
    assert "not counted" in done.out
    assert "no optimizer; MB of 10^6 bytes" in done.out
    int8 = cli("estimate", *PAPER, "--accounts", "--activation-bits", "8")
    assert "activation_bits 32" in int8.out


def test_estimate_over_budget_finds_the_way_out(cli: Run, workplace: Path) -> None:
    done = cli("estimate", *PAPER, "--budget", "400KB", "--nearest", "nearest.yaml")
    assert done.code == 3
    assert "the nearest design that fits: resolution 96 -> 72 (382.4 KiB)" in done.out
    assert "or: activation_bits 32 -> 8 (345.0 KiB)" in done.out
    assert "with --schedule streamed it needs 331.4 KiB, which fits" in done.out
    assert "255.4 KiB over the budget of 400.0 KiB" in done.err
    assert "the nearest design that fits: resolution 96 -> 72 (382.4 KiB)." in done.err
    assert cli("estimate", "nearest.yaml", "--budget", "400KB").code == 0
    again = cli("estimate", "nearest.yaml", "--budget", "400KB", "--nearest", "other.yaml")
    assert again.code == 0
    assert "other.yaml was not written: the design fits." in again.out
    assert not (workplace / "other.yaml").exists()


def test_estimate_says_where_nothing_fits(cli: Run, workplace: Path) -> None:
    done = cli("estimate", *PAPER, "--budget", "10KB", "--nearest", "nearest.yaml")
    assert done.code == 3
    assert "no design on this backbone fits: the last layer alone" in done.out
    assert done.err.endswith("; no smaller design fits.\n")
    assert "nearest.yaml was not written: no design fits." in done.out
    assert not (workplace / "nearest.yaml").exists()


def test_estimate_shows_a_backbone_that_the_flash_cannot_hold(cli: Run) -> None:
    options = ("--preset", "smallest", "--backbone", "mobilenet_v3_small", "--budget", "512KB", "--flash", "1MB")
    done = cli("estimate", *options)
    assert done.code == 3
    assert "frozen weights" in done.out
    assert "no design on this backbone fits\n" in done.out
    assert "A flash of 1.0 MiB cannot hold mobilenet_v3_small_w100 in fp32" in done.err
    assert "--activation-bits" not in done.err


def test_a_backbone_without_int8_is_over_its_budget(cli: Run) -> None:
    done = cli("estimate", "--preset", "paper", "--backbone", "mobilenet_v3_small", "--budget", "20KB")
    assert done.code == 3
    assert "no design on this backbone fits: the last layer alone with small images needs" in done.out


def test_estimate_json_carries_everything(cli: Run) -> None:
    done = cli("estimate", *PAPER, "--budget", "400KB", "--batch", "1", "--json")
    assert done.code == 3
    value = json.loads(done.out)
    memory = value["memory"]
    assert (value["account"], value["schedule"], value["batch"]) == ("arena", "layer", 1)
    assert value["recipe"]["optimizer"] == "sign_sgd"
    assert memory["ram_bytes"] == sum(memory["terms"].values())
    assert sum(buffer["size_bytes"] for buffer in value["peak"]["alive"]) == value["peak"]["live_bytes"]
    assert sum(row["kept_bytes"] for row in value["blocks"]) == memory["kept_bytes"]
    assert sum(row["macs"] for row in value["blocks"]) == memory["macs"]
    assert [figure["account"] for figure in value["accounts"]] == ["arena", "arena", "arena", "eager", "paper"]
    assert value["accounts"][0]["total_bytes"] == memory["ram_bytes"]
    assert value["over_budget_bytes"] == memory["ram_bytes"] - 400 * 1024
    assert value["nearest"][0]["changes"] == [{"field": "resolution", "before": "96", "after": "72"}]
    assert value["fitting_schedules"] == {"streamed": value["accounts"][2]["total_bytes"]}
    fits = json.loads(cli("estimate", *PAPER, "--json").out)
    assert (fits["nearest"], fits["over_budget_bytes"], fits["budget_bytes"]) == (None, 0, None)


@pytest.mark.parametrize("name", ["memory.html", "memory.PNG"])
def test_estimate_draws(name: str, cli: Run, workplace: Path) -> None:
    done = cli("estimate", *PAPER, "--budget", "1MB", "--plot", name)
    assert done.code == 0, done.err
    assert f"The plot is in {name}." in done.out
    assert [path.name for path in workplace.iterdir()] == [name]


def test_a_preset_is_made_for_its_options(cli: Run) -> None:
    out = cli(
        "estimate", "--preset", "smallest", "--backbone", "mobilenet_v2", "--width-mult", "0.5", "--last-conv", "--json"
    ).out
    assert json.loads(out)["design"]["backbone"] == {"name": "mobilenet_v2", "width_mult": 0.5, "last_conv": True}
    int8 = json.loads(cli("estimate", "--preset", "smallest", "--activation-bits", "8", "--json").out)
    assert int8["design"]["activation_bits"] == 8


def test_plan_writes_json_and_a_header(cli: Run, workplace: Path) -> None:
    arguments = ("plan", *PAPER, "--json", "plan.json", "--c-header", "sub/plan.h", "--schedule", "inplace")
    missing = cli(*arguments)
    assert (missing.code, list(workplace.iterdir())) == (1, [])
    assert "No such file or directory (sub/plan.h); make its folder first" in missing.err
    (workplace / "sub").mkdir()
    done = cli(*arguments)
    assert done.code == 0, done.err
    assert "199 buffers and 187 operators in an arena of 531.0 KiB (schedule inplace, micro-batch 1)" in done.out
    value = json.loads((workplace / "plan.json").read_text())
    estimate = json.loads(cli("estimate", *PAPER, "--schedule", "inplace", "--json").out)
    assert value["arena_bytes"] == estimate["memory"]["arena_bytes"]
    assert f"#define REPNET_ARENA_BYTES {value['arena_bytes']}u" in (workplace / "sub" / "plan.h").read_text()


def test_plan_prints_json_alone_on_stdout(cli: Run) -> None:
    done = cli("plan", *PAPER, "--json", "-")
    assert json.loads(done.out)["schedule"] == "layer"
    assert "Plan of design" in done.err


def test_the_help_answers_at_once() -> None:
    for command in ("estimate", "plan"):
        code = (
            "import sys; from repnet_search.cli.main import run_cli; "
            f"run_cli(['{command}', '--help']); "
            "print([name for name in ('torch', 'pydantic', 'rich', 'plotly', 'matplotlib') if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"


def test_an_estimate_needs_no_torch(workplace: Path) -> None:
    code = (
        "import sys; from repnet_search.cli.main import run_cli; "
        "run_cli('estimate --preset paper --by block --accounts --plot a.html --budget 1KB'.split());"
        "run_cli('plan --preset paper --c-header a.h'.split()); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=workplace)
    assert done.stdout.splitlines()[-1] == "False"
