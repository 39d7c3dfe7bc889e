from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest

from repnet_search import Origin, Outcome, design_to_yaml
from repnet_search.results.storage import open_storage
from tests.app.conftest import RECORDS, OpenPage, RecordStudy, make_record, metrics, texts

HOSTILE = "<img src=x onerror=alert(1)> **b** [a](http://example.com) :red[c] $x$"


def test_the_page_opens_with_everything(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study())
    assert not page.exception
    shown = metrics(page)
    assert shown["Budget"] == ["256.0 KiB"]
    assert shown["Designs trained"] == ["3"]
    assert (shown["Over budget"], shown["Failed"]) == (["1"], ["1"])
    assert shown["Best validation accuracy"] == ["87.5 %"]
    assert page.code[0].value.rstrip() == design_to_yaml(RECORDS[2].design).rstrip()
    assert len(page.get("plotly_chart")) == 3
    assert [button.proto.label for button in page.get("download_button")].count("Download CSV") == 4


def test_what_was_cut_off_is_no_failure(open_page: OpenPage, record_study: RecordStudy) -> None:
    cut_off = make_record(6, ram_kib=100, outcome=Outcome.FAILED, reason="interrupted")
    page = open_page(record_study(records=(*RECORDS, cut_off)))
    assert not page.exception
    assert metrics(page)["Failed"] == ["1 (+1 interrupted)"]


def test_the_header_and_the_table_say_what_a_study_searched_for(open_page: OpenPage, record_study: RecordStudy) -> None:
    record_study("first")
    page = open_page(record_study("second", board="nrf52840"))
    assert not page.exception
    assert texts(page)[0].endswith(
        "(10 classes); board nrf52840, flash 1.0 MiB, schedule streamed, metric balanced accuracy"
    )
    rows = page.dataframe[0].value
    assert rows["board"].fillna("").tolist() == ["", "nrf52840"]
    assert rows["flash (KiB)"].fillna(0).tolist() == [0, 1024]
    assert rows["schedule"].tolist() == ["layer", "streamed"]
    assert rows["metric"].tolist() == ["accuracy", "balanced accuracy"]
    page.selectbox(key="study").select("first").run()
    assert texts(page)[0].endswith("(10 classes); schedule layer, metric accuracy")


def test_the_front_plots_what_was_trained_and_carries_trial_numbers(
    open_page: OpenPage, record_study: RecordStudy
) -> None:
    page = open_page(record_study())
    figure = json.loads(page.get("plotly_chart")[0].proto.spec)
    traces = {trace["name"]: trace for trace in figure["data"]}
    assert traces["last layer alone"]["customdata"] == [[0]]
    assert traces["widest fitting"]["customdata"] == [[1]]
    assert traces["paper preset"]["customdata"] == [[2]]
    assert traces["searched"]["customdata"] == [[3]]
    assert traces["best in budget"]["customdata"] == [[2]]
    assert traces["Pareto front"]["x"] == [64, 140, 205, 256]
    assert len({traces[name]["marker"]["symbol"] for name in ("searched", "last layer alone", "paper preset")}) == 3
    assert figure["layout"]["xaxis"]["title"]["text"] == "training memory (KiB)"
    assert figure["layout"]["yaxis"]["title"]["text"] == "validation accuracy (%)"


def test_the_url_selects_the_study_and_keeps_it(open_page: OpenPage, record_study: RecordStudy) -> None:
    record_study("first")
    storage = record_study("second", records=RECORDS[:1])
    page = open_page(storage, study="first")
    assert page.selectbox(key="study").value == "first"
    page.selectbox(key="study").select("second").run()
    assert not page.exception
    assert "second" in page.query_params["study"]
    assert metrics(page)["Best validation accuracy"] == ["68.0 %"]


def test_an_unknown_study_in_the_url_is_said(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study("first"), study="none")
    assert not page.exception
    assert page.selectbox(key="study").value == "first"
    assert any("no study named 'none'" in text for text in texts(page))


@pytest.mark.parametrize(("budget_kib", "design"), [(256, 2), (204, 3), (140, 3), (139, 0)])
def test_the_slider_answers_any_budget(
    open_page: OpenPage, record_study: RecordStudy, budget_kib: int, design: int
) -> None:
    page = open_page(record_study())
    page.slider[0].set_value(budget_kib).run()
    record = RECORDS[design]
    assert f"Design {record.short_id}, {record.origin.value}" in texts(page)


def test_the_answer_is_shown_below_on_request(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study())
    page.slider[0].set_value(140).run()
    next(button for button in page.button if button.label == "Show below").click().run()
    assert not page.exception
    assert f"Design {RECORDS[3].short_id}" in [heading.value for heading in page.subheader]


def test_a_design_that_was_not_trained_is_shown_with_its_reason(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study())
    page.session_state["shown-first"] = 4
    page.run()
    assert not page.exception
    assert "Trial 4, sampler: over budget. 44.0 KiB over the budget" in texts(page)
    assert metrics(page)["Training memory"][-1] == "300.0 KiB"
    assert metrics(page)["Validation accuracy"][-1] == "–"


def test_the_filter_leaves_the_chosen_outcomes(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study())
    assert page.dataframe[-1].value["trial"].tolist() == [0, 1, 2, 3, 4, 5]
    page.button_group[0].set_value([Outcome.OVER_BUDGET]).run()
    assert not page.exception
    assert page.dataframe[-1].value["reason"].tolist() == ["44.0 KiB over the budget"]


def test_a_study_without_a_trained_design_opens(open_page: OpenPage, record_study: RecordStudy) -> None:
    record_study("failed", records=RECORDS[4:])
    page = open_page(record_study("empty", records=()))
    assert not page.exception
    assert "No trial has ended yet." in texts(page)
    page.selectbox(key="study").select("failed").run()
    assert not page.exception
    assert "No design has been trained yet." in texts(page)


def test_a_study_with_one_design_at_the_budget_opens(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study(records=[make_record(0, ram_kib=256, accuracy=0.5, origin=Origin.LAST_LAYER)]))
    assert not page.exception


def test_a_missing_storage_is_said_and_not_made(
    open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = open_page(None)
    assert not page.exception
    assert "There is no study storage at" in texts(page)[0]
    assert not list(tmp_path.iterdir())


def test_an_empty_storage_is_said(open_page: OpenPage, storage: str) -> None:
    open_storage(storage, create=True)
    assert "holds no study of repnet-search" in texts(open_page(storage))[0]


def test_a_storage_of_another_program_is_said(open_page: OpenPage, storage: str) -> None:
    optuna.create_study(study_name="other", storage=open_storage(storage, create=True))
    page = open_page(storage)
    assert not page.exception
    assert "holds no study of repnet-search" in texts(page)[0]


@pytest.mark.parametrize("content", ["not a journal\n", '{"op_code": 0, "broken\n{"op_code": 1}\n'])
def test_a_broken_storage_is_said(open_page: OpenPage, storage: str, content: str) -> None:
    Path(storage).write_text(content)
    page = open_page(storage)
    assert not page.exception
    assert [heading.value for heading in page.header] == ["No study to show"]


def test_a_record_that_cannot_be_read_is_said(open_page: OpenPage, record_study: RecordStudy) -> None:
    storage = record_study()
    text = Path(storage).read_text()
    Path(storage).write_text(text.replace('"outcome":"over budget"', '"outcome":"unheard of"'))
    page = open_page(storage)
    assert not page.exception
    assert "cannot be read" in texts(page)[0]


def test_markup_in_a_name_is_text(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study(HOSTILE, data=HOSTILE))
    assert not page.exception
    assert page.selectbox(key="study").options == [HOSTILE]
    assert any(HOSTILE in text for text in texts(page))
    formatted = [*page.markdown, *page.caption, *page.subheader, *page.header]
    assert not any("img" in element.value for element in formatted)
    assert not any(element.proto.allow_html for element in formatted if hasattr(element.proto, "allow_html"))


def test_looking_writes_nothing(open_page: OpenPage, record_study: RecordStudy, tmp_path: Path) -> None:
    storage = record_study()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*")}
    open_page(storage)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*")} == before
