"""--board, --flash and --reserve wherever there is a budget; `boards`; plans into regions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from repnet_search.boards import list_boards
from tests.cli.conftest import Run

Complains = Callable[..., str]
INT8 = ("--preset", "paper", "--resolution", "64", "--activation-bits", "8")
KIB = 1024


def test_the_boards_are_listed(cli: Run) -> None:
    done = cli("boards")
    assert done.code == 0
    for board in list_boards():
        assert f" {board.name} " in done.out
    assert "give another board's with --flash" in done.out
    listed = json.loads(cli("boards", "--json").out)
    assert [board["name"] for board in listed] == [board.name for board in list_boards()]
    assert listed[0]["ram_bytes"] == sum(region["size_bytes"] for region in listed[0]["ram_regions"]) == 320 * KIB


def test_estimate_shows_a_board_s_regions_and_flash(cli: Run) -> None:
    done = cli("estimate", *INT8, "--board", "stm32f746")
    assert done.code == 0, done.err
    for part in (
        "of 288.0 KiB",
        "32.0 KiB of it reserved, out of dtcm",
        "of 240.0 KiB: buffers 114.0 KiB, state",
        "requantisation            28.1 KiB",
        "trained, 2 copies        126.9 KiB",
        "flash                    474.6 KiB of 1.0 MiB",
        "order of magnitude",
        "M MACs in int8",
    ):
        assert part in done.out
    assert done.out.count("frozen weights") == 1


def test_estimate_json_says_all_of_a_board(cli: Run) -> None:
    value = json.loads(cli("estimate", *INT8, "--board", "STM32F746", "--json").out)
    device, memory = value["device"], value["memory"]
    assert (device["fits"], device["problem"], device["board"]["name"]) == (True, None, "stm32f746")
    assert device["reserved"] == [{"name": "dtcm", "size_bytes": 32 * KIB}]
    assert sum(region["state_bytes"] for region in device["regions"]) == memory["parameter_bytes"]
    assert all(r["buffer_bytes"] + r["state_bytes"] <= r["size_bytes"] for r in device["regions"])
    assert 0.001 < device["step_seconds"] < 1
    assert value["budget_bytes"] == 288 * KIB
    assert memory["flash_bytes"] == sum(memory["flash_terms"].values()) == sum(memory["flash"].values())
    assert memory["int8_macs"] + memory["float_macs"] == memory["macs"]


def test_a_reserve_of_nothing(cli: Run) -> None:
    done = cli("estimate", *INT8, "--board", "nrf52840", "--reserve", "0", "--json")
    assert json.loads(done.out)["device"]["regions"][0]["size_bytes"] == 256 * KIB


def test_a_budget_with_a_reserve_and_flash(cli: Run) -> None:
    done = cli("estimate", *INT8, "--budget", "256KB", "--reserve", "16KB", "--flash", "400KB")
    assert done.code == 3
    assert "of 240.0 KiB" in done.out
    assert "needs 474.6 KiB of flash, 74.6 KiB over the 400.0 KiB that there are; the nearest design" in done.err


def test_what_fits_in_the_sum_but_in_no_region(cli: Run, workplace: Path) -> None:
    paper = ("--preset", "paper", "--resolution", "96", "--activation-bits", "32", "--board", "esp32-s3")
    done = cli("estimate", *paper, "--reserve", "0", "--nearest", "near.yaml")
    assert done.code == 3  # over the sum
    smallest = ("--preset", "smallest", "--resolution", "84", "--board", "esp32-s3", "--reserve", "0")
    assert cli("estimate", *smallest).code == 0
    board = ("--board", "stm32f407", "--reserve", "0", "--flash", "2MB")
    assert cli("estimate", "--preset", "smallest", "--resolution", "64", *board).code == 3
    wide = cli("estimate", "--preset", "smallest", "--resolution", "52", *board)
    assert wide.code == 3
    assert "which fits in the sum of RAM (192.0 KiB) but not in its regions: buffer b2.0 of 126.8 KiB is" in wide.err
    assert "larger than the largest region, sram1 of 112.0 KiB" in wide.err
    assert cli("estimate", "near.yaml", "--board", "esp32-s3").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--board", "stm32f764"), 1, "Did you mean 'stm32f746'?"),
        (("--board", "stm32f746", "--budget", "1KB"), 2, "give one of them."),
        (
            ("--board", "stm32f746", "--reserve", "400KB"),
            2,
            "--reserve must be less than the RAM of stm32f746, 320.0 KiB.",
        ),
        (("--budget", "256KB", "--reserve", "256KB"), 2, "--reserve must be less than --budget."),
        (("--board", "stm32f746", "--flash", "0"), 2, "between 1 KB"),
        (("--board", "stm32f746", "--reserve", "-1"), 2, "between 0 and"),
        (("--board", "stm32f446"), 3, "A flash of 512.0 KiB cannot hold mobilenet_v2_w035 in fp32"),
        (("--budget", "9MB", "--flash", "40KB"), 3, "use a smaller backbone, or a device with more flash."),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: tuple[str, ...], code: int, sentence: str, cli: Run, complains: Complains, workplace: Path
) -> None:
    (workplace / "design.yaml").write_text("connectors: [{after_block: 6}]")
    estimated = cli("estimate", "design.yaml", *arguments)
    assert estimated.code == code
    assert sentence in estimated.err
    assert ("frozen weights" in estimated.out) == (code == 3)  # what is too much is shown
    for command in (("run",), ("profile",), ("train", "design.yaml")):
        assert sentence in complains(*command, *arguments, code=code)


def test_a_device_must_be_named_where_it_decides(complains: Complains) -> None:
    for command in ("run", "profile"):
        assert "Say what the device has: --budget 256KB, or --board" in complains(command, code=2)
    assert "--flash goes with --budget or --board" in complains("estimate", *INT8, "--flash", "1MB", code=2)
    assert "--reserve goes with" in complains("run", "--reserve", "1KB", code=2)
    options = ("--reserve", "1KB", "--json", "-")
    assert "give --board too" in complains("plan", *INT8, *options, code=2)


def test_a_plan_for_a_board(cli: Run, workplace: Path) -> None:
    done = cli("plan", *INT8, "--board", "stm32f746", "--json", "plan.json", "--c-header", "plan.h")
    assert done.code == 0, done.err
    assert "of sram1's 240.0 KiB" in done.out
    plan = json.loads((workplace / "plan.json").read_text())
    rooms = {region["name"]: region for region in plan["regions"]}
    assert list(rooms) == ["dtcm", "sram1", "sram2"]
    for buffer in plan["buffers"]:
        end = buffer["offset_bytes"] + buffer["size_bytes"]
        assert end <= rooms[buffer["region"]]["buffer_bytes"] <= rooms[buffer["region"]]["size_bytes"]
    for item in plan["state"]:
        room = rooms[item["region"]]
        assert room["buffer_bytes"] <= item["offset_bytes"]
        assert item["offset_bytes"] + item["size_bytes"] <= room["buffer_bytes"] + room["state_bytes"]
    assert sum(item["size_bytes"] for item in plan["state"]) == plan["terms"]["parameters"]
    without = json.loads(cli("plan", *INT8, "--json", "-").out)
    assert (without["regions"], without["state"]) == ([], [])
    assert {buffer["region"] for buffer in without["buffers"]} == {None}


PROGRAM = """
#include <stdio.h>
#include <string.h>
#include "plan.h"

int main(void) {
    static unsigned char dtcm[REPNET_REGION_DTCM_AVAILABLE_BYTES], axi[REPNET_REGION_AXI_SRAM_AVAILABLE_BYTES];
    static unsigned char s1[REPNET_REGION_SRAM1_AVAILABLE_BYTES], s2[REPNET_REGION_SRAM2_AVAILABLE_BYTES];
    static unsigned char s4[REPNET_REGION_SRAM4_AVAILABLE_BYTES];
    unsigned char *regions[REPNET_REGION_COUNT] = {dtcm, axi, s1, s2, s4};
    unsigned long state = 0;
    unsigned i;
    for (i = 0; i < REPNET_BUFFER_COUNT; i++)
        memset(REPNET_ADDRESS(regions, (enum repnet_buffer)i), 1, repnet_buffers[i].size_bytes);
    for (i = 0; i < REPNET_STATE_COUNT; i++) {
        memset(regions[repnet_state[i].region] + repnet_state[i].offset_bytes, 2, repnet_state[i].size_bytes);
        state += repnet_state[i].size_bytes;
    }
    printf("%lu %u %s\\n", state, REPNET_STATE_BYTES, repnet_state[0].name);
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this machine")
def test_the_header_of_a_plan_over_several_regions(cli: Run, workplace: Path) -> None:
    design = ("--preset", "paper", "--resolution", "96", "--board", "stm32h743")
    assert cli("plan", *design, "--c-header", "plan.h", "--json", "plan.json").code == 0
    assert len({buffer["region"] for buffer in json.loads(Path("plan.json").read_text())["buffers"]}) > 1
    (workplace / "plan.c").write_text(PROGRAM)
    flags = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsanitize=address,undefined"]
    done = subprocess.run(["gcc", *flags, "plan.c", "-o", "plan"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ran = subprocess.run(["./plan"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    state, expected, name = ran.stdout.split()
    assert (state, name.split(".")[0]) == (expected, "repnet")


def test_a_plan_of_what_does_not_fit(complains: Complains) -> None:
    design = ("--preset", "paper", "--resolution", "96", "--activation-bits", "8")
    message = complains("plan", *design, "--board", "stm32f746", "--json", "p.json", code=3)
    assert "57.0 KiB over the budget of 288.0 KiB; there is no plan of it." in message


def test_profile_counts_flash_and_tries_the_regions(cli: Run) -> None:
    common = ("profile", "--space", "tiny", "--samples", "2000", "--json")
    value = json.loads(cli(*common, "--board", "stm32f407", "--flash", "1040KB").out)
    assert value["flash_bytes"] == 1040 * KIB
    assert 0 < value["placed_share"] <= 1
    without = json.loads(cli(*common, "--budget", "160KB").out)
    assert (without["flash_bytes"], without["placed_share"]) == (None, None)
    assert value["budget_bytes"] == without["budget_bytes"] == 160 * KIB
    assert 0 < value["fitting_share"] < without["fitting_share"]
    assert "into the regions of the RAM" in cli(*common[:-1], "--board", "stm32f407", "--flash", "2MB").out


def test_a_study_on_a_board(cli: Run, workplace: Path) -> None:
    common = (
        "run",
        "--board",
        "stm32f407",
        "--flash",
        "1040KB",
        "--space",
        "tiny",
        "--workers",
        "1",
        "--study",
        "mine",
    )
    quick = ("--trials", "3", "--epochs", "1", "--views", "1", "--confirm", "0")
    done = cli(*common, *quick, "--json")
    assert done.code == 0, done.err
    assert "left of its RAM: ccm 32.0 KiB + sram1 112.0 KiB + sram2 16.0 KiB" in done.err
    report = json.loads(done.out)
    settings = report["settings"]
    assert (settings["board"], settings["flash_bytes"]) == ("stm32f407", 1040 * KIB)
    assert (settings["budget_bytes"], settings["reserve_bytes"]) == (192 * KIB, 32 * KIB)
    assert all(record["flash_bytes"] <= 1040 * KIB for record in report["front"])
    assert cli("estimate", report["best_yaml"], "--board", "stm32f407", "--flash", "1040KB").code == 0
    best = json.loads(cli("best", "--study", "mine", "--budget", "150KB", "--json").out)
    assert best["flash_bytes"] == 1040 * KIB >= best["design"]["flash_bytes"]
    assert "of 1.0 MiB" in cli("best", "--study", "mine").out
    none = cli("best", "--study", "mine", "--flash", "1000KB")
    assert none.code == 3
    assert "with 1000.0 KiB of flash" in none.err
    other = cli(*common[:3], "--space", "tiny", "--workers", "1", "--study", "mine", *quick, "--flash", "2MB")
    assert "exists with another flash" in other.err


def test_best_answers_a_board_from_a_study_of_a_budget(cli: Run, complains: Complains) -> None:
    quick = ("--trials", "2", "--epochs", "1", "--views", "1", "--confirm", "0", "--workers", "1", "--study", "mine")
    assert cli("run", "--budget", "300KB", "--space", "tiny", *quick).code == 0
    ask = ("best", "--study", "mine", "--board", "stm32f407", "--flash", "2MB")
    done = cli(*ask)
    assert done.code == 0, done.err
    for part in ("on stm32f407, schedule layer: design", "of 160.0 KiB", "32.0 KiB of it reserved, out of ccm"):
        assert part in done.out
    assert "Not checked: whether 32.0 KiB are enough" in done.out
    answer = json.loads(cli(*ask, "--json").out)
    rooms = {region["name"]: region for region in answer["device"]["regions"]}
    assert (answer["budget_bytes"], answer["flash_bytes"]) == (160 * KIB, 2 * 1024 * KIB)
    assert answer["device"]["fits"]
    assert all(room["buffer_bytes"] + room["state_bytes"] <= room["size_bytes"] for room in rooms.values())
    assert len(answer["not_checked"]) == 2
    smaller = json.loads(cli(*ask, "--reserve", "130KB", "--json").out)
    assert smaller["design"]["ram_bytes"] <= 62 * KIB
    assert smaller["design"]["validation_accuracy"] <= answer["design"]["validation_accuracy"]
    message = complains("best", "--study", "mine", "--board", "stm32f446", code=3)
    assert "fits stm32f446: its least, " in message
    assert "of flash, " in message
    assert "--reserve goes with" in complains("best", "--study", "mine", "--reserve", "1KB", code=2)
    assert "give one of them." in complains("best", "--study", "mine", *ask[3:5], "--budget", "1KB", code=2)
    reserved = json.loads(cli("best", "--study", "mine", "--budget", "100KB", "--reserve", "20KB", "--json").out)
    assert reserved["budget_bytes"] == 80 * KIB >= reserved["design"]["ram_bytes"]


def test_train_refuses_what_a_board_cannot_hold(workplace: Path, complains: Complains) -> None:
    (workplace / "design.yaml").write_text("connectors: [{after_block: 6}]\nresolution: 64\n")
    message = complains("train", "design.yaml", "--board", "stm32f407", "--flash", "2MB", code=3)
    assert "over the budget of 160.0 KiB" in message
    assert "It was not trained." in message


def test_boards_answer_at_once() -> None:
    code = (
        "import sys; from repnet_search.cli.main import run_cli; run_cli(['boards', '--help']); "
        "run_cli(['boards', '--json']); "
        "print([name for name in ('torch', 'pydantic', 'plotly', 'optuna') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
