"""The figures that the study browser and the report share: what is drawn, with units, from plain data."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from repnet_search import Outcome, figures
from repnet_search.report import figures_style
from repnet_search.report.figures_front import ROLE_MARKERS
from repnet_search.report.figures_memory import merge_places
from repnet_search.search.importance import FieldImportance

KIB = 1024
POINT = figures.FrontPoint(
    trial=1, design="aaaaaaaa", role="searched", outcome=Outcome.TRAINED, ram_bytes=100 * KIB, proxy=0.8, on_front=True
)


def _draw(*points: figures.FrontPoint, **options: Any) -> dict[str, Any]:
    figure = figures.create_front_figure(points, limit_bytes=256 * KIB, limit_text="budget 256.0 KiB", **options)
    spec: dict[str, Any] = json.loads(figure.to_json())
    return spec


def _traces(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {trace["name"]: trace for trace in spec["data"]}


def test_an_interval_ends_where_accuracies_do() -> None:
    trace = _traces(_draw(replace(POINT, confirmed=0.9, interval=0.3, seeds=2, epochs=4)))["searched, confirmed"]
    assert trace["error_y"]["array"] == [pytest.approx(10)]
    assert trace["error_y"]["arrayminus"] == [pytest.approx(30)]
    assert "90.0 ± 30.0 %, the mean of 2 seeds, 4 epochs" in trace["hovertext"][0]


def test_proxies_are_hollow_beside_confirmed_designs_only() -> None:
    assert _traces(_draw(POINT))["searched"]["marker"]["symbol"] == "circle"
    beside = _draw(POINT, replace(POINT, trial=2, confirmed=0.9, seeds=1, epochs=4))
    assert _traces(beside)["searched"]["marker"]["symbol"] == "circle-open"


def test_what_has_no_accuracy_stands_in_a_strip_of_its_own() -> None:
    over = replace(POINT, trial=2, outcome=Outcome.OVER_BUDGET, proxy=None, on_front=False)
    spec = _draw(POINT, over)
    assert _traces(spec)["over budget"]["yaxis"] == "y2"
    assert spec["layout"]["yaxis2"]["domain"][1] < spec["layout"]["yaxis"]["domain"][0]


def test_thousands_of_points_are_drawn_by_webgl() -> None:
    many = _draw(*(replace(POINT, trial=number, on_front=False) for number in range(2000)))
    assert _traces(many)["searched"]["type"] == "scattergl"


def test_large_budgets_are_counted_in_mib() -> None:
    spec = _draw(replace(POINT, ram_bytes=6 * KIB * KIB))
    assert spec["layout"]["xaxis"]["title"]["text"] == "training memory, estimated (MiB)"
    assert _traces(spec)["searched"]["x"] == [6]


def test_the_budget_that_is_asked_about_is_a_line_of_its_own() -> None:
    assert len(_draw(POINT)["layout"]["shapes"]) == 1
    assert len(_draw(POINT, asked_bytes=128 * KIB)["layout"]["shapes"]) == 2
    assert len(_draw(POINT, asked_bytes=256 * KIB)["layout"]["shapes"]) == 1


def test_roles_and_series_differ_in_more_than_colour() -> None:
    symbols, colours = zip(*ROLE_MARKERS.values(), strict=True)
    assert len(set(symbols)) == len(set(colours)) == len(ROLE_MARKERS)
    assert len(set(figures_style.SYMBOLS)) == len(set(figures_style.PATTERNS)) == len(figures_style.SERIES)


def test_terms_keep_their_colour_and_absent_ones_are_left_out() -> None:
    designs = {"a": [("arena", 60 * KIB), ("accumulated gradients", 4 * KIB)]}
    figure = figures.create_terms_figure(designs, limit_bytes=64 * KIB, limit_text="budget")
    assert [(bar.name, bar.x[0]) for bar in figure.data] == [("arena", 60), ("accumulated gradients", 4)]
    assert figure.data[1].marker.color == figures_style.SERIES[4]


def test_blocks_of_designs_stand_in_an_order_that_is_each_ones_own() -> None:
    figure = figures.create_blocks_figure(
        {"a": [("block 0", KIB), ("head", KIB)], "b": [("block 0", KIB), ("module 1", 2 * KIB), ("head", KIB)]}
    )
    assert figure.layout.xaxis.categoryarray == ("block 0", "module 1", "head")
    assert figure.data[1].y == (1, 2, 1)
    assert merge_places([]) == []


def test_the_funnel_is_logarithmic_only_where_it_must_be() -> None:
    steps = [figures.FunnelStep("proposed", 20, "", "#000000"), figures.FunnelStep("trained", 10, "", "#000000")]
    assert figures.create_funnel_figure(steps).layout.xaxis.type == "linear"
    steps[0] = replace(steps[0], count=20_000)
    assert figures.create_funnel_figure(steps).layout.xaxis.title.text == "designs (logarithmic)"


def test_importance_of_too_few_trainings_is_of_memory_alone() -> None:
    figure = figures.create_importance_figure([FieldImportance("late_width", None, None, 0.5)])
    assert [(bar.name, bar.x, bar.y) for bar in figure.data] == [("training memory", (50,), ("late width",))]


def test_every_axis_has_a_title() -> None:
    drawn = [
        figures.create_losses_figure({"a": [1.0, 0.5]}),
        figures.create_blocks_figure({"a": [("block 0", KIB)]}),
        figures.create_front_figure([POINT], limit_bytes=KIB, limit_text=""),
    ]
    for figure in drawn:
        assert figure.layout.xaxis.title.text
        assert figure.layout.yaxis.title.text
