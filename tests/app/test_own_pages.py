"""Studies, front, compare, what matters, trials: what each page shows of a small study."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
from streamlit.testing.v1 import AppTest

from repnet_search import Origin, Outcome, StudyImportance
from repnet_search.errors import StudyError
from repnet_search.search.importance import FieldImportance
from tests.app.conftest import (
    CONFIRMED,
    RECORDS,
    OpenPage,
    RecordStudy,
    everything,
    figure,
    make_record,
    metrics,
    texts,
    traces,
)


def _csv_buttons(page: AppTest) -> int:
    return [button.proto.label for button in page.get("download_button")].count("Download CSV")


def _click(page: AppTest, label: str) -> AppTest:
    return next(button for button in page.button if button.label == label).click().run()


def test_studies_say_what_they_searched_for_and_link_to_themselves(
    open_page: OpenPage, record_study: RecordStudy
) -> None:
    record_study("first", confirmed=CONFIRMED)
    page = open_page(record_study("second", board="nrf52840"), page="studies")
    assert not page.exception
    assert texts(page)[0].endswith(
        "(10 classes); board nrf52840, flash 1.0 MiB, schedule streamed, metric balanced accuracy"
    )
    rows = page.dataframe[0].value
    assert rows["study"].tolist() == ["second", "first"]
    assert rows["link"].tolist() == ["?page=front&study=second", "?page=front&study=first"]
    assert rows["board"].fillna("").tolist() == ["nrf52840", ""]
    assert rows["flash (KiB)"].fillna(0).tolist() == [1024, 0]
    assert rows["schedule"].tolist() == ["streamed", "layer"]
    assert rows["metric"].tolist() == ["balanced accuracy", "accuracy"]
    assert rows["best validation accuracy (%)"].tolist() == [87.5, 90.0]
    assert rows["best from"].tolist() == ["search: 1 seed × 2 epochs", "3 seeds × 4 epochs"]
    assert rows[["trained", "over budget", "failed"]].to_numpy().tolist() == [[3, 1, 1]] * 2


def test_the_front_shows_the_studys_numbers(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study())
    shown = metrics(page)
    assert shown["Designs trained"] == ["3"]
    assert (shown["Over budget"], shown["Failed"]) == (["1"], ["1"])
    assert shown["Best validation accuracy"] == ["87.5 %"]
    assert any("measured once in the search, 2 epochs, not confirmed" in text for text in everything(page))
    assert any("estimated, account arena, schedule layer, micro-batch 1" in text for text in everything(page))


def test_what_was_cut_off_is_no_failure(open_page: OpenPage, record_study: RecordStudy) -> None:
    cut_off = make_record(6, ram_kib=100, outcome=Outcome.FAILED, reason="interrupted")
    page = open_page(record_study(records=(*RECORDS, cut_off)))
    assert metrics(page)["Failed"] == ["1 (+1 interrupted)"]


def test_the_front_plots_what_was_trained_and_carries_trial_numbers(
    open_page: OpenPage, record_study: RecordStudy
) -> None:
    page = open_page(record_study())
    found = traces(page)
    assert found["last layer alone"]["customdata"] == [[0]]
    assert found["widest fitting"]["customdata"] == [[1]]
    assert found["paper preset"]["customdata"] == [[2]]
    assert found["searched"]["customdata"] == [[3]]
    assert found["best"]["customdata"] == [[2]]
    assert found["front of the search"]["x"] == [64, 140, 205, 256]
    assert len({found[name]["marker"]["symbol"] for name in ("searched", "last layer alone", "paper preset")}) == 3
    layout = figure(page)["layout"]
    assert layout["xaxis"]["title"]["text"] == "training memory, estimated (KiB)"
    assert layout["yaxis"]["title"]["text"] == "validation accuracy, measured (%)"
    assert _csv_buttons(page) == 1


def test_confirmed_designs_stand_out_and_the_cheapest_as_good_is_recommended(
    open_page: OpenPage, record_study: RecordStudy
) -> None:
    page = open_page(record_study(confirmed=CONFIRMED))
    found = traces(page)
    strong = found["paper preset, confirmed"]
    assert (strong["y"], strong["customdata"]) == ([90.0], [[2]])
    assert strong["error_y"]["array"][0] == pytest.approx(2.48, abs=0.01)
    assert found["paper preset"]["marker"]["opacity"] < 1
    assert found["the cheapest of them"]["customdata"] == [[3]]
    assert metrics(page)["Best validation accuracy"] == ["90.0 ± 2.5 %"]
    assert any("within 1 point of the best confirmed design, and 65.0 KiB cheaper" in text for text in texts(page))
    _click(page, "Select the recommended")
    assert page.query_params["design"] == "00000003"
    assert traces(page)["selected"]["customdata"] == [[3]]


def test_toggles_show_what_has_no_accuracy_and_hide_what_is_dominated(
    open_page: OpenPage, record_study: RecordStudy
) -> None:
    page = open_page(record_study(records=(*RECORDS, make_record(6, ram_kib=180, accuracy=0.6))))
    assert "over budget" not in traces(page)
    assert traces(page)["searched"]["customdata"] == [[3], [6]]
    page.toggle(key="over budget-first").set_value(True)
    page.toggle(key="dominated-first").set_value(False).run()
    assert not page.exception
    assert traces(page)["over budget"]["customdata"] == [[4]]
    assert traces(page)["searched"]["customdata"] == [[3]]


@pytest.mark.parametrize(("budget_kib", "design"), [(256, 2), (204, 3), (140, 3), (139, 0)])
def test_the_slider_answers_any_budget(
    open_page: OpenPage, record_study: RecordStudy, budget_kib: int, design: int
) -> None:
    page = open_page(record_study())
    page.slider[0].set_value(float(budget_kib)).run()
    record = RECORDS[design]
    assert any(text.startswith(f"Design {record.short_id}, {record.origin.value};") for text in everything(page))


@pytest.mark.parametrize(
    ("budget_kib", "sentence"),
    [
        (256, "What the next 32 KiB buy is not known: the search's own budget ends before."),
        (215, "The next 32 KiB buy nothing"),
        (180, "The next 32 KiB buy +8.5 points: design 00000002, 205.0 KiB (as the search measured, one seed each)."),
        (120, "The next 32 KiB buy +11.0 points: design 00000003, 140.0 KiB"),
    ],
)
def test_the_slider_says_what_more_memory_buys(
    open_page: OpenPage, record_study: RecordStudy, budget_kib: int, sentence: str
) -> None:
    page = open_page(record_study())
    page.slider[0].set_value(float(budget_kib)).run()
    assert any(text.startswith(sentence) for text in texts(page))


def test_confirmed_means_are_compared_with_one_another(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study(confirmed=CONFIRMED))
    page.slider[0].set_value(180.0).run()
    assert any("+0.5 points: design 00000002, 205.0 KiB (confirmed means)." in text for text in texts(page))


def test_the_selected_design_is_the_urls(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study(), design="4")
    assert "Trial 4, sampler: over budget. 44.0 KiB over the budget" in texts(page)
    assert metrics(page)["Training memory"][0] == "300.0 KiB"
    assert metrics(page)["Validation accuracy"][0] == "–"


def test_a_study_with_one_design_at_the_budget_opens(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study(records=[make_record(0, ram_kib=256, accuracy=0.5, origin=Origin.LAST_LAYER)]))
    assert not page.exception


def test_designs_are_added_to_the_comparison(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study(), design="3")
    _click(page, "Add to Compare")
    assert page.query_params["compare"] == "00000003"


def test_compare_shows_only_what_differs(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study(), page="compare", compare="00000002,00000003")
    assert not page.exception
    rows = page.dataframe[0].value.set_index("what")
    assert rows.loc["training memory, estimated"].tolist() == ["205.0 KiB", "140.0 KiB"]
    assert rows.loc["block 2: exchange"].tolist() == ["–", "both"]
    assert not {"optimizer", "block 2: depth"} & set(rows.index)
    assert set(traces(page, 1)) == {"00000002", "00000003"}
    assert "block 2" in traces(page, 1)["00000003"]["x"]
    assert (len(page.get("plotly_chart")), _csv_buttons(page)) == (3, 4)


def test_compare_begins_with_the_best_and_the_baselines(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study(), page="compare")
    assert page.dataframe[0].value.columns.tolist() == ["what", "00000002", "00000001", "00000000"]
    page.multiselect[0].set_value([1]).run()
    assert "Choose two designs at least." in texts(page)


def test_a_comparison_can_be_cleared(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study(), page="compare")
    page.multiselect[0].set_value([]).run()
    assert page.multiselect[0].value == []
    assert "Choose two designs at least." in texts(page)
    page.button_group(key="page").set_value("front").run()
    _click(page, "Add to Compare")
    assert page.query_params["compare"] == "00000002"


def test_a_link_to_compare_says_which_of_its_designs_there_are_not(
    open_page: OpenPage, record_study: RecordStudy
) -> None:
    page = open_page(record_study(), page="compare", compare="00000002,nothere,00000003")
    assert "This study has no design 'nothere'." in texts(page)
    assert page.multiselect[0].value == [2, 3]


def test_what_matters_shows_the_funnel_and_why_trainings_failed(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study(confirmed=CONFIRMED), page="what-matters")
    assert not page.exception
    (bars,) = figure(page)["data"]
    assert dict(zip(bars["y"], bars["x"], strict=True)) == {
        "proposed": 6,
        "over budget": 1,
        "failed": 1,
        "trained": 4,
        "confirmed": 3,
    }
    assert page.dataframe[1].value.to_numpy().tolist() == [["failed", "The loss became nan in epoch 1.", 1]]


def test_the_trials_filter_leaves_the_chosen_outcomes(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study(), page="trials")
    assert page.dataframe[0].value["trial"].tolist() == [0, 1, 2, 3, 4, 5]
    page.button_group(key="outcomes-first").set_value([Outcome.OVER_BUDGET]).run()
    assert not page.exception
    assert page.dataframe[0].value["reason"].tolist() == ["44.0 KiB over the budget"]


def test_what_matters_shows_which_fields_decide_once_that_is_known(
    open_page: OpenPage, record_study: RecordStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Future[StudyImportance]()
    monkeypatch.setattr("app.what_matters_page.start_importance", lambda storage, view: known)
    page = open_page(record_study(), page="what-matters")
    assert any(text.startswith("Working out which fields matter") for text in everything(page))
    fields = (FieldImportance("resolution", 0.6, 0.2, 0.7), FieldImportance("early_width", 0.4, 0.5, 0.001))
    known.set_result(StudyImportance(fields, trainings=30, designs=1200, exact=True))
    page.run()
    assert not page.exception
    assert traces(page, 1)["accuracy"]["x"] == [60, 40]
    assert traces(page, 1)["accuracy, by chance at most"]["x"] == [20, 50]
    assert traces(page, 1)["training memory"]["y"] == ["resolution", "early width"]
    assert any("best quarter of 30 trainings" in text and "all 1 200 designs" in text for text in everything(page))


def test_what_matters_says_why_it_cannot_tell(
    open_page: OpenPage, record_study: RecordStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Future[StudyImportance]()
    known.set_exception(StudyError("It comes from another version."))
    monkeypatch.setattr("app.what_matters_page.start_importance", lambda storage, view: known)
    page = open_page(record_study(), page="what-matters")
    assert not page.exception
    assert "It comes from another version." in texts(page)
