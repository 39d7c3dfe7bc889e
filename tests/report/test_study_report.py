"""What a report says, whatever it is written as."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from repnet_search.cli.limit_options import DeviceChoice
from repnet_search.cli.render_confirmation import conclusions
from repnet_search.cli.run import run
from repnet_search.cli.space_options import load_chosen_space
from repnet_search.errors import StudyError
from repnet_search.report.study_answers import list_answers
from repnet_search.report.study_command import SPACE_FILE, create_command, list_placeholders
from repnet_search.report.study_gain import describe_gain, measure_gain
from repnet_search.report.study_parts import Code, Items, Paragraph, Picture, Section, StudyReport, Table
from repnet_search.report.study_report import create_report
from repnet_search.results.record import Origin
from repnet_search.results.session import Session
from repnet_search.results.study import StudyView
from repnet_search.search.finish import SearchResult
from repnet_search.search.importance import FieldImportance, StudyImportance
from repnet_search.spec.bundled import load_space
from repnet_search.spec.design import Design
from repnet_search.spec.files import parse_spec
from repnet_search.spec.space import SpaceSpec
from tests.report.made_study import (
    BEST,
    CHEAPER,
    LAST_LAYER,
    RECORDS,
    RUNNING,
    WIDEST,
    make_record,
    make_settings,
    make_view,
)

CLEAR = {LAST_LAYER: (0.80, 0.81, 0.82), BEST: (0.89, 0.90, 0.91), CHEAPER: (0.893, 0.895, 0.897)}
SAME_LUCK = {LAST_LAYER: (0.80, 0.85, 0.90), BEST: (0.84, 0.89, 0.935)}
"""Intervals overlap, the difference seed by seed is 4 points or nearly so."""
CHANCE = {LAST_LAYER: (0.85, 0.88, 0.82), BEST: (0.84, 0.89, 0.90)}


def section(report: StudyReport, title: str) -> Section:
    (found,) = [item for item in report.sections if item.title.startswith(title)]
    return found


def texts(part: Section) -> str:
    """Returns everything that a section says, a line per sentence or row."""
    lines: list[str] = []
    for item in part.parts:
        table = item.numbers if isinstance(item, Picture) else item
        if isinstance(table, Table):
            lines += [table.title, *(" | ".join(row) for row in table.rows)]
        if isinstance(item, Items):
            lines += item.texts
        if isinstance(item, Paragraph | Code):
            lines.append(item.text)
    return "\n".join(lines)


def say(view: StudyView, title: str) -> str:
    return texts(section(create_report(view), title))


def test_the_answer_comes_first_with_its_interval_and_its_memory() -> None:
    report = create_report(make_view(confirmed=CLEAR, tested=True))
    assert "256.0 KiB" in report.question
    assert "my images" in report.question
    answer = texts(report.sections[0])
    assert "Design 00000002, a Rep-Net: 90.0 ± 2.5 % on validation, confirmed by 3 seeds of 4 epochs" in answer
    assert "205.0 KiB of 256.0 KiB (80 %)" in answer
    assert "chosen by: 89.0 ± 2.5 %; the last layer alone 80.0 ± 2.5 %" in answer
    assert "9.0 points better for 141.0 KiB more" in answer


@pytest.mark.parametrize(
    ("confirmed", "overlap", "shown", "sentence"),
    [
        (CLEAR, False, True, "Their 95 % intervals do not overlap. Seed by seed"),
        (SAME_LUCK, True, True, "an interval without zero: hardly chance"),
        (CHANCE, True, False, "an interval with zero in it: these 3 seeds do not show a difference"),
        ({LAST_LAYER: (0.8, 0.9), BEST: (0.85, 0.95)}, True, False, "Their ranges over 2 seeds overlap"),
        ({LAST_LAYER: (0.8, 0.82), BEST: (0.85, 0.95)}, False, False, "do not overlap. So few seeds have no interval"),
        ({LAST_LAYER: (0.8,), BEST: (0.85,)}, None, False, "Each was confirmed by one seed"),
        ({BEST: (0.85, 0.86, 0.87)}, None, False, "Both numbers are the search's own"),
    ],
)
def test_a_gain_is_only_called_one_where_the_numbers_show_it(
    confirmed: dict, overlap: bool | None, shown: bool, sentence: str
) -> None:
    gain = measure_gain(make_view(confirmed=confirmed), BEST, LAST_LAYER)
    assert (gain.overlap, gain.is_shown) == (overlap, shown)
    assert sentence in " ".join(describe_gain(gain))


@pytest.mark.parametrize(
    ("confirmed", "sentence"),
    [
        (CLEAR, "Where 9.0 points do not matter, use the last layer alone: it takes 141.0 KiB less"),
        (CHANCE, "Use the last layer alone until more seeds say otherwise: it takes 141.0 KiB less"),
        ({LAST_LAYER: (0.88, 0.89, 0.90), BEST: (0.89, 0.90, 0.90)}, "Use the last layer alone: it is 0.7 points"),
        ({LAST_LAYER: (0.95, 0.95, 0.95), BEST: (0.8, 0.8, 0.8)}, "No Rep-Net beats the last layer alone here"),
        ({}, "has yet to be shown (--confirm)"),
    ],
)
def test_when_not_to_use_a_rep_net_follows_from_the_numbers(confirmed: dict, sentence: str) -> None:
    assert sentence in say(make_view(confirmed=confirmed), "When not to use")


def test_a_search_that_was_not_needed_and_small_budgets_are_told() -> None:
    advice = say(make_view(confirmed=CLEAR | {WIDEST: (0.9, 0.9, 0.9)}), "When not to use")
    assert "a search was not needed here" in advice
    assert "Below 140.0 KiB the best of what was trained is the last layer alone, and below 64.0 KiB none" in advice
    assert "Not on the strength of this report alone" in say(make_view(), "When not to use")


def test_a_search_is_not_called_needless_where_the_test_images_say_otherwise() -> None:
    view = make_view(confirmed=CLEAR | {WIDEST: (0.9, 0.9, 0.9)})
    tested = {BEST.design_id: 0.90, WIDEST.design_id: 0.87}
    advice = say(replace(view, tested=tested), "When not to use")
    assert "on the test images it is 3.0 points behind." in advice
    assert "not needed" not in advice
    assert "not needed" in say(replace(view, tested=tested | {WIDEST.design_id: 0.895}), "When not to use")
    said = [
        " ".join(conclusions(SearchResult(replace(view, tested=both), BEST, None, WIDEST, [WIDEST, BEST])))
        for both in (tested, {})
    ]
    assert ["3.0 points behind" in text for text in said] == [True, False]
    assert ["not needed" in text for text in said] == [False, True]


def test_the_confirmation_names_intervals_seeds_and_the_cheapest_of_the_best() -> None:
    said = say(make_view(confirmed=CLEAR, tested=True), "Confirmation")
    assert "★ 00000002 | 205.0 KiB | 87.5 % | 90.0 ± 2.5 % | 89.0 ± 2.5 % | 1000010, 1000011, 1000012 | 4" in said
    assert "≈ 00000003 | 140.0 KiB" in said
    assert "1 more design within a point" in said
    assert "the cheapest of them all is 00000003" in said
    assert "Nothing was confirmed" in say(make_view(), "Confirmation")


def test_every_smaller_budget_has_its_answer() -> None:
    view = make_view(confirmed=CLEAR)
    answers = list_answers(view)
    assert [answer.record.number for answer in answers] == [2, 3, 0]
    for answer, better in zip(answers[1:], answers, strict=False):
        assert view.choose_winner(budget_bytes=better.from_bytes - 1) == answer.record
    assert "140.0 KiB | 00000003 | 89.5 ± 0.5 %" in say(view, "Under smaller budgets")


def test_what_failed_and_what_still_runs_is_told() -> None:
    view = make_view(records=(*RECORDS, RUNNING))
    said = say(view, "What became of")
    assert "failed | The <b>loss</b> became nan. | 1" in said
    assert "1 training had begun and not ended" in said
    assert "not finished" in texts(create_report(view).sections[0])


def test_a_study_without_a_trained_design_is_refused() -> None:
    with pytest.raises(StudyError, match="no trained design yet"):
        create_report(make_view(records=(RUNNING,)))


def test_the_winner_is_shown_with_its_file_and_its_step() -> None:
    winner = section(create_report(make_view(confirmed=CLEAR)), "The winner")
    (code,) = [part for part in winner.parts if isinstance(part, Code)]
    assert parse_spec(Design, code.text, source="report") == BEST.design
    pictures = [part for part in winner.parts if isinstance(part, Picture)]
    assert len(pictures) == 3
    assert all(part.alt and part.caption and part.numbers.rows for part in pictures)
    assert "which counts" in texts(winner)  # the made-up study says 205 KiB


def test_a_board_shows_its_regions_or_why_the_winner_has_no_place_there() -> None:
    settings = make_settings(board="stm32f746")
    assert "finds no place for it on the board stm32f746: " in say(make_view(settings=settings), "The winner")
    roomy = settings.model_copy(update={"flash_bytes": 4096 * 1024})
    winner = section(create_report(make_view(settings=roomy)), "The winner")
    titles = [part.title for part in winner.parts if isinstance(part, Picture)]
    assert "In the regions of the board" in titles


def test_importance_is_told_where_there_are_enough_trainings() -> None:
    few = say(make_view(), "What matters")
    assert "too few" in few
    fields = (FieldImportance("stage_5", 0.6, 0.2, 0.3), FieldImportance("recipe", 0.1, 0.2, 0.0))
    report = create_report(make_view(), importance=StudyImportance(fields, 40, 1000, exact=True))
    assert "stage 5 stands out" in texts(section(report, "What matters"))


def parse_command(view: StudyView) -> dict:
    words = shlex.split(create_command(view))
    assert words[:2] == ["repnet-search", "run"]
    return run.make_context("run", words[2:]).params


def test_the_command_makes_the_settings_again() -> None:
    view = make_view(name="-a 'b' $c", confirmed=CLEAR)
    params = parse_command(view)
    settings = view.settings
    assert (params["study"], params["budget"], params["schedule"]) == ("-a 'b' $c", settings.budget_bytes, "layer")
    assert (params["epochs"], params["views"], params["seed"]) == (2, 8, 7)
    assert (params["trials"], params["confirm"], params["confirm_seeds"], params["confirm_epochs"]) == (3, 3, 3, 4)
    assert (str(params["data"]), params["proxy_images"]) == ("my images", 200)
    assert ([str(path) for path in params["weights"]], params["input_range"]) == (["w.safetensors"], "-1,1")
    assert (params["width_mult"], params["last_conv"], params["space"]) == ((0.35,), False, SPACE_FILE)
    assert any("--data and --weights" in sentence for sentence in list_placeholders(view))


def test_the_command_and_the_versions_are_those_of_the_runs_that_made_the_study() -> None:
    versions = {"torch": "2.13.0", "machine": "Linux x86_64"}
    first = Session(workers=1, confirm=2, confirm_seeds=4, confirm_epochs=5, warm_start=("a", "b"), versions=versions)
    view = make_view(confirmed=CLEAR, sessions=[first])
    params = parse_command(view)
    assert (params["workers"], params["confirm"], params["confirm_seeds"], params["confirm_epochs"]) == (1, 2, 4, 5)
    assert params["warm_start"] == ("a", "b")
    said = say(view, "How to make this study again")
    assert "it is made again, trial by trial" in said
    assert "is not kept" not in said
    assert "Versions that made this study\ntorch | 2.13.0\n" in said
    second = first.model_copy(update={"workers": 2, "confirm": 0, "versions": versions | {"torch": "2.14.0"}})
    view = make_view(confirmed=CLEAR, sessions=[first, second])
    assert (parse_command(view)["workers"], parse_command(view)["confirm"]) == (2, 0)
    said = say(view, "How to make this study again")
    assert "torch | 2.13.0 | 2.14.0" in said
    assert "It had 1 and 2 workers." in said


def test_the_command_names_a_board_with_its_limits() -> None:
    settings = make_settings(board="nrf52840")
    params = parse_command(make_view(settings=settings))
    device = DeviceChoice(params["budget"], params["board"], params["reserve"], params["flash"]).require()
    assert device.limits == settings.limits
    assert (params["metric"], params["confirm"], params["schedule"]) == ("balanced_accuracy", 0, "streamed")


@pytest.mark.parametrize("changes", [{}, {"resolution": (24, 32)}, {"resolution": (32,), "activation_bits": (8,)}])
def test_a_bundled_space_goes_by_its_name(changes: dict) -> None:
    space = load_space("tiny").model_copy(update=changes)
    params = parse_command(make_view(settings=make_settings(space=space)))
    assert params["space"] == "tiny"
    assert load_chosen_space(params["space"], params["resolution"], params["activation_bits"]) == space


def test_another_space_is_part_of_the_report() -> None:
    again = section(create_report(make_view()), "How to make")
    codes = [part.text for part in again.parts if isinstance(part, Code)]
    assert parse_spec(SpaceSpec, codes[1], source="report") == make_settings().space
    said = texts(again)
    assert "a" * 64 in said
    assert "b" * 64 in said
    assert "torch | " in said


def test_a_study_of_the_last_layer_alone_says_so() -> None:
    said = texts(create_report(make_view(records=(LAST_LAYER,))).sections[0])
    assert "the last layer alone, without a Rep-Net: 68.0 %" in said
    assert "No Rep-Net beats the last layer alone here" in said
    without = make_record(7, ram_kib=90, accuracy=0.7, origin=Origin.SAMPLER, blocks=(16,))
    assert "no last layer alone to compare with" in texts(create_report(make_view(records=(without,))).sections[0])
