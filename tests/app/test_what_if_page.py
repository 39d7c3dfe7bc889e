"""What if: a changed field changes the bytes, a wrong one says so, and the file is the design."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from streamlit.testing.v1 import AppTest

from app.what_if_device import read_target, study_values
from app.what_if_results import compare_terms
from app.what_if_state import Editor, change, find_path, to_values
from repnet_search import (
    Connector,
    Design,
    RepnetSearchError,
    Schedule,
    StudyView,
    estimate_memory,
    find_nearest,
    format_size,
    load_design,
    resolve,
    validate_spec,
)
from tests.app.conftest import RECORDS, OpenPage, RecordStudy, figure, make_settings, metrics, open_part, texts, traces

KIB = 1024


@pytest.fixture
def page(open_page: OpenPage, record_study: RecordStudy) -> AppTest:
    shown = open_page(record_study(), page="what-if", study="first", design="2")
    shown.session_state["what-if-train"] = True  # the file is shown
    shown.run()
    assert not shown.exception
    return shown


def _edited(page: AppTest) -> Design:
    """Returns the design of the file that the page shows."""
    values = YAML(typ="safe", pure=True).load(page.code[1].value)
    return validate_spec(Design, values, source="shown")


def _ram(design: Design, *, schedule: Schedule = Schedule.LAYER) -> str:
    return format_size(estimate_memory(resolve(design), classes=10, schedule=schedule).ram_bytes)


def _set(page: AppTest, kind: str, name: str, value: Any) -> AppTest:
    open_part(page, name)
    getattr(page, kind)(key=f"what-if-{name}").set_value(value)
    page.run()
    assert not page.exception
    return page


def test_it_begins_with_the_selected_design(page: AppTest) -> None:
    assert _edited(page) == RECORDS[2].design
    assert metrics(page)["Training memory"] == [_ram(RECORDS[2].design)]
    assert page.metric[0].delta == ""


def test_a_changed_field_is_the_changed_designs_memory(page: AppTest) -> None:
    changes: list[tuple[str, str, Any, dict[str, Any]]] = [
        ("number_input", "resolution", 64, {"resolution": 64}),
        ("selectbox", "activation_bits", 8, {"activation_bits": 8}),
        ("toggle", "train_bias", True, {"train_bias": True}),
        ("selectbox", "recipe-optimizer", "adam", {"recipe": {"optimizer": "adam"}}),
        ("number_input", "module-width", 2.0, {"module": {"width": 2.0}}),
        ("selectbox", "backbone-name", "mnasnet", {"backbone": {"name": "mnasnet"}}),
    ]
    _set(page, "number_input", "backbone-width_mult", 0.5)
    values = _edited(page).model_dump(mode="json")
    for kind, name, value, merged in changes:
        _set(page, kind, name, value)
        values = _merge(values, merged)
        wanted = validate_spec(Design, values, source="wanted")
        assert _edited(page) == wanted, name
        assert metrics(page)["Training memory"] == [_ram(wanted)], name


def _merge(values: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    return values | {
        name: _merge(values[name], value) if isinstance(value, dict) else value for name, value in change.items()
    }


def test_a_connectors_field_is_its_own_or_the_shared_one(page: AppTest) -> None:
    _set(page, "number_input", "connectors-0-depth", 2)
    assert _edited(page).connectors[0].depth == 2
    _set(page, "number_input", "connectors-0-depth", None)
    assert _edited(page) == RECORDS[2].design


def test_connectors_are_added_removed_and_kept_in_order(page: AppTest) -> None:
    page.button(key="add-connector").click().run()
    assert [connector.after_block for connector in _edited(page).connectors] == [0, 1, 2]
    _set(page, "selectbox", "connectors-0-after_block", 9)
    assert [connector.after_block for connector in _edited(page).connectors] == [1, 2, 9]
    page.button(key="remove-1").click().run()
    assert [connector.after_block for connector in _edited(page).connectors] == [1, 9]
    assert not page.exception


def test_a_wrong_value_is_the_models_own_sentence(page: AppTest) -> None:
    wrong: list[tuple[str, str, Any, str]] = [
        ("number_input", "connectors-1-kernel", 4, "connectors[1].kernel must be an odd number, but got 4."),
        ("number_input", "resolution", 0, "resolution must be greater than or equal to 1, but got 0."),
        ("selectbox", "connectors-0-norm", "batch", "connectors[0] has norm 'batch', which couples"),
        ("number_input", "backbone-width_mult", 5.0, "backbone.width_mult must be less than or equal to 4"),
        ("selectbox", "connectors-1-after_block", 0, "Connectors must be in ascending order, one per block"),
    ]
    before = metrics(page)["Training memory"]
    for kind, name, value, sentence in wrong:
        _set(page, kind, name, value)
        said = [text for text in texts(page) if text.startswith(sentence)]
        assert len(said) == 1, name
        assert "\n" not in said[0]
        assert metrics(page)["Training memory"] == before
        assert any("last valid design" in badge.value for badge in page.markdown if "badge" in badge.value)
        page.button(key="undo").click().run()
        assert not [text for text in texts(page) if text.startswith(sentence)]


def test_sentences_are_put_next_to_their_fields() -> None:
    groups = "The groups of connectors[2]'s module must divide its 24 input and 32 mid channels, but got 5; use 8."
    assert find_path(groups) == ("connectors", 2, "groups")
    assert find_path("resnet18 comes in width 1 alone, but got 0.35; leave --width-mult out.") == (
        "backbone",
        "width_mult",
    )
    assert find_path("image_pool must leave at least one pixel, but 8 does not at resolution 4.") == ("image_pool",)
    assert find_path("Something else.") == ()


def test_undo_goes_back_step_by_step_and_to_the_start(page: AppTest) -> None:
    start = _edited(page)
    _set(page, "number_input", "resolution", 64)
    _set(page, "number_input", "resolution", 32)
    page.button(key="undo").click().run()
    assert _edited(page).resolution == 64
    page.button(key="to-start").click().run()
    assert _edited(page) == start
    page.button(key="undo").click().run()
    assert _edited(page).resolution == 64


def test_it_starts_from_presets_and_trained_designs(page: AppTest) -> None:
    for chosen in ("last layer alone", "paper preset"):
        _set(page, "selectbox", "start", chosen)
        assert f"Start: {chosen}" in texts(page)
        assert page.metric[0].delta == ""
    assert len(_edited(page).connectors) == 6
    options = page.selectbox(key="what-if-start").options
    assert any(option.startswith("winner ") for option in options)
    assert any(RECORDS[3].short_id in option for option in options)


def test_a_board_and_a_schedule_are_what_it_is_fitted_into(page: AppTest) -> None:
    _set(page, "selectbox", "device-device", "rp2040")
    assert "Time a step, roughly" in metrics(page)
    assert any("RP2040" in text for text in texts(page))
    _set(page, "selectbox", "device-schedule", "streamed")
    assert metrics(page)["Training memory"] == [_ram(RECORDS[2].design, schedule=Schedule.STREAMED)]
    assert "--board rp2040" in page.code[0].value
    assert "--schedule streamed" in page.code[0].value


def test_schedules_and_boards_are_parts_of_which_one_is_worked_out(page: AppTest) -> None:
    def columns() -> set[str]:
        return {name for frame in page.dataframe for name in frame.value.columns}

    assert "schedule" in columns()
    assert "board" not in columns()
    page.session_state["what-if-elsewhere"] = "On every board"
    page.run()
    assert "board" in columns()
    assert "schedule" not in columns()


def test_a_problem_of_a_part_that_is_shut_is_said(page: AppTest) -> None:
    _set(page, "number_input", "recipe-lr", 0.0)
    open_part(page, "connectors")
    assert len([text for text in texts(page) if text.startswith("recipe.lr must be greater than 0")]) == 1


def test_a_budget_that_is_no_size_is_said(page: AppTest) -> None:
    _set(page, "text_input", "device-budget", "12 potatoes")
    assert any(text.startswith("budget: A size is a number with one of") for text in texts(page))
    _set(page, "text_input", "device-reserve", "400KB")
    assert any("reserve must be less than the budget of 256.0 KiB" in text for text in texts(page))


def test_the_nearest_design_that_fits_is_taken_over(page: AppTest) -> None:
    _set(page, "text_input", "device-budget", "120KB")
    assert metrics(page)["Fits"] == ["no"]
    target = read_target(page.session_state["what-if-device"])
    nearest = find_nearest(RECORDS[2].design, limits=target.limits, classes=10)[0]
    assert f"{format_size(nearest.memory.ram_bytes)}: {nearest.description}" in texts(page)
    page.button(key="nearest-0").click().run()
    assert metrics(page)["Fits"] == ["yes"]
    assert _edited(page) == nearest.design


def test_the_file_round_trips_and_the_command_names_it(page: AppTest, tmp_path: Path) -> None:
    _set(page, "number_input", "resolution", 64)
    path = tmp_path / "design.yaml"
    path.write_text(page.code[1].value)
    design = load_design(path)
    assert design == RECORDS[2].design.model_copy(update={"resolution": 64})
    name = f"design-{resolve(design).short_id}.yaml"
    assert page.code[0].value.startswith(f"repnet-search train {name} --budget 256KB --schedule layer --epochs 2")


def test_the_pictures_are_of_the_edited_design_beside_its_start(page: AppTest) -> None:
    _set(page, "number_input", "resolution", 64)
    assert "operators" in traces(page)  # the timeline is in sight, the drawing a click away
    page.session_state["what-if-picture"] = "Drawn"
    page.run()
    assert "the start" in traces(page)
    labels = figure(page)["layout"]["yaxis"]["ticktext"]
    assert "<b>b0</b> 16×32×32 · 64.0 KiB" in labels
    terms = next(frame.value for frame in page.dataframe if "difference" in frame.value.columns)
    after = estimate_memory(resolve(_edited(page)), classes=10)
    assert dict(zip(terms["term (bytes)"], terms["edited"], strict=True))["training memory"] == after.ram_bytes


def test_an_edit_outlives_a_visit_to_another_page(page: AppTest) -> None:
    _set(page, "number_input", "resolution", 64)
    page.query_params["page"] = "front"
    page.run()
    page.query_params["page"] = "what-if"
    page.run()
    assert page.number_input(key="what-if-resolution").value == 64


def test_terms_are_compared_by_their_names() -> None:
    rows = compare_terms((("arena", 10), ("parameters", 4)), (("arena", 8), ("optimizer state", 2)))
    assert rows == [("arena", 10, 8), ("parameters", 4, 0), ("optimizer state", 0, 2), ("training memory", 14, 10)]


def test_a_studys_own_device_is_where_it_begins() -> None:
    for board in (None, "nrf52840"):
        settings = make_settings(board=board)
        view = StudyView("first", settings, RECORDS, {}, {})
        target = read_target(study_values(view))
        assert target.schedule is settings.schedule
        assert target.limits.ram_bytes == settings.limits.ram_bytes  # a board's reserve may be none
        assert not target.problems
        assert (target.board.name if target.board is not None else None) == board


def test_a_design_of_another_version_is_an_error_of_ours() -> None:
    with pytest.raises(RepnetSearchError, match="not a field"):
        validate_spec(Design, {"connectors": [], "colour": "red"}, source="design")


def test_a_board_that_is_unknown_here_is_said(open_page: OpenPage, record_study: RecordStudy) -> None:
    storage = record_study(board="nrf52840")
    text = Path(storage).read_text()
    Path(storage).write_text(text.replace("nrf52840", "<b>b</b>1"))
    for name in ("what-if", "design"):
        page = open_page(storage, page=name, study="first")
        assert not page.exception
        assert any(text.startswith("A board is one of") for text in texts(page))
        assert not any("<b>b" in element.value for element in (*page.markdown, *page.subheader, *page.caption))


def test_a_field_of_a_connector_that_is_gone_changes_nothing() -> None:
    design = Design(connectors=(Connector(after_block=13),))
    editor = Editor(design, design, "it", to_values(design))
    change(editor, ("connectors", len(design.connectors), "kernel"), 5)
    assert (editor.values, editor.steps) == (to_values(design), [])
    change(editor, ("connectors", 0, "kernel"), 5)
    assert editor.values["connectors"][0]["kernel"] == 5
