"""What follows a search: who its winner is, commands to copy, why it ended, and folders that are never lost."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repnet_search.cli.render import comparison_table
from repnet_search.results.confirmation import ConfirmedRun, dump_run
from repnet_search.results.front import pareto_front
from repnet_search.results.record import Origin, TrialRecord
from repnet_search.results.storage import load_optuna_study, open_storage
from repnet_search.results.study import load_study
from repnet_search.search import run as run_module
from repnet_search.search.trained import trained_path
from repnet_search.spec import load_design, resolve
from tests.cli.conftest import Run
from tests.cli.test_data import _images

Complains = Callable[..., str]
KIB = 1024
SHORT = ("--epochs", 1, "--views", 1, "--confirm", 0, "--workers", 1, "--study", "mine")
TINY = ("run", "--budget", "300KB", "--space", "tiny", "--trials", 2, *SHORT)


def confirm(name: str, **means: float) -> None:
    """Records a confirmation of designs by their short ids, as if they had been trained again."""
    study = load_optuna_study(name, open_storage(None))
    for record in {record.short_id: record for record in load_study(name).records}.values():
        if record.short_id in means:
            for seed, away in enumerate((-0.01, 0.0, 0.01)):
                accuracy = means[record.short_id] + away
                run = ConfirmedRun(record.design_id, 2, seed, accuracy, test_accuracy=accuracy)
                study.set_user_attr(run.key, dump_run(run))
                shutil.copy(trained_path(name, record.design_id), trained_path(name, record.design_id, run))


def beat_the_best_of_the_search(name: str) -> TrialRecord:
    """Returns a design off the front that wins by its confirmed mean."""
    view = load_study(name)
    front = {record.design_id for record in pareto_front(view.records)}
    best = view.choose_winner()
    others = [record for record in view.records if record.design_id not in front and record.ram_bytes <= 290 * KIB]
    other = max(others, key=lambda record: record.ram_bytes)
    assert best is not None
    confirm(name, **{best.short_id: 0.5, other.short_id: 0.9})
    return other


def test_after_a_confirmation_all_commands_name_the_same_winner(cli: Run, workplace: Path) -> None:
    assert cli(*TINY).code == 0
    winner = beat_the_best_of_the_search("mine")
    again = cli(*TINY)
    assert f"★ {winner.short_id} is not on this front" in again.out
    assert f"Winner {winner.short_id}: 90.0 ± 2.5 % on validation, confirmed by 3 seeds of 2 epochs" in again.out
    assert "designs looked at, 0 of them over the limits; 0" not in again.out
    assert resolve(load_design(workplace / "repnet-studies" / "mine" / "best.yaml")).id == winner.design_id
    refused = cli("export", "--study", "mine", "--to", "out", "--budget", "1KB")
    assert refused.code == 3
    assert "No trained design of study 'mine' fits 1.0 KiB: its least needs" in refused.err
    assert cli("export", "--study", "mine", "--to", "out").code == 0
    assert resolve(load_design("out/design.yaml")).id == winner.design_id
    for where in ((), ("--flash", "4MB"), ("--board", "stm32f746", "--reserve", 0, "--flash", "4MB")):
        answer = json.loads(cli("best", "--study", "mine", *where, "--json").out)["design"]
        assert (answer["design_id"], len(answer["confirmed"])) == (winner.design_id, 3)
        shown = cli("best", "--study", "mine", *where).out
        assert f"design {winner.short_id}, 90.0 ± 2.5 % on validation, confirmed by 3 seeds" in shown
        assert f"★ {winner.short_id} is not on this front" in shown
    smaller = f"{min(record.ram_bytes for record in load_study('mine').records)}B"
    below = json.loads(cli("best", "--study", "mine", "--budget", smaller, "--json").out)["design"]
    assert below["ram_bytes"] < winner.ram_bytes
    assert json.loads(cli("studies", "--json").out)[0]["best_accuracy"] == pytest.approx(0.9)


def test_best_names_the_limit_that_leaves_nothing(cli: Run, complains: Complains) -> None:
    assert cli(*TINY).code == 0
    ask = ("best", "--study", "mine")
    message = complains(*ask, "--flash", "200KB", code=3)
    assert "fits 300.0 KiB with 200.0 KiB of flash: of those within the memory, the least flash is 1" in message
    assert "of training memory." in complains(*ask, "--budget", "10KB", code=3)


def test_the_commands_that_are_shown_work_when_copied(cli: Run, workplace: Path) -> None:
    _images(workplace / "my pets", cat=30, dog=30)
    (workplace / "my pets" / "cat" / "broken.jpg").write_bytes(b"x")
    (workplace / "out").mkdir()
    search = ("run", "--budget", "300KB", "--space", "tiny", "--resolution", 32, "--trials", 2, *SHORT)
    images = ("--data", "my pets", "--skip-broken", "--proxy-images", 20, "--input-range=-1,1")
    storage = ("--storage", "the studies.log", "--metric", "balanced_accuracy")
    done = cli(*search, *images, *storage)
    assert done.code == 0, done.err
    shown = [line.strip() for line in done.out.split("Next:")[1].splitlines() if line.strip()]
    exported = next(line for line in shown if " export " in line)
    for part in (
        "--to out-2",
        "--data 'my pets'",
        "--skip-broken",
        "--proxy-images 20",
        "--input-range=-1,1",
        "--storage 'the studies.log'",
    ):
        assert part in exported
    for line in shown[:-1]:
        done = cli(*shlex.split(line)[1:])
        assert done.code == 0, done.err
    evaluate = done.out.strip().split("evaluate it with: ")[1]
    assert evaluate == "repnet-search evaluate out-2 --data 'my pets' --skip-broken --metric balanced_accuracy"
    assert cli(*shlex.split(evaluate)[1:]).code == 0
    assert shown[-1] == "repnet-search dashboard --storage 'the studies.log'"


def test_nothing_but_a_bundle_is_replaced_and_nothing_is_trained_for_it(
    cli: Run, workplace: Path, complains: Complains, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "design.yaml").write_text("connectors: []\nresolution: 32\n")
    train = ("train", "design.yaml", "--epochs", 1, "--views", 1, "--force", "--to")
    done = cli(*train, "sub/out")
    assert done.code == 0, done.err
    assert "Trained 1 epoch of 1 view in" in done.out
    assert done.out.endswith("The bundle is in sub/out; evaluate it with: repnet-search evaluate sub/out\n")
    monkeypatch.setattr("repnet_search.training.proxy.train_design", lambda *_, **__: pytest.fail("It was trained"))
    for folder in (".", "sub", "design.yaml", "design.yaml/out"):
        complains(*train, folder, code=1)
    monkeypatch.undo()


def test_a_search_says_why_it_ended_early_and_counts_what_was_cut_off_apart(
    cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = run_module.train_design, []

    def cut(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 12:  # behind the nine variants of the last layer alone
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(run_module, "train_design", cut)
    done = cli(*TINY[:6], 3, *SHORT)
    assert done.code == 130
    assert "Kept in study mine: 2 trained designs, and the last layer alone in 9 variants; the same" in done.out
    assert json.loads(cli("studies", "--json").out)[0]["trained"] == 2
    ended = cli(*TINY[:6], 3, *SHORT, "--patience", 1)
    assert "time left –" not in ended.out
    assert "0 failed, 1 interrupted; " in ended.out
    study = json.loads(cli("studies", "--json").out)[0]
    assert (study["failed"], study["interrupted"]) == (0, 1)
    late = cli(*TINY[:6], 9, *SHORT, "--timeout", 0.01)
    assert f"The search ended after {study['trained']} of 9 designs: its time is over (--timeout)." in late.out


def test_what_a_board_has_left_is_what_memory_is_shown_against(cli: Run) -> None:
    board = ("run", "--board", "stm32f746", "--flash", "4MB", "--reserve", "140KB")
    done = cli(*board, "--space", "tiny", "--trials", 1, *SHORT)
    assert done.code == 0, done.err
    assert " of 180.0 KiB\n" in done.out.split("training memory")[-1]
    assert "1 epoch of 1 view per image" in done.out


def test_a_design_that_is_compared_by_two_names_stands_in_one_row(cli: Run, workplace: Path) -> None:
    assert cli(*TINY).code == 0
    record = next(item for item in load_study("mine").records if item.origin is Origin.LAST_LAYER)
    table = comparison_table([("winner", record), ("last layer alone", record)], {record.design_id: 0.5})
    assert table.row_count == 1
    assert list(table.columns[0].cells) == ["winner, last layer alone"]
