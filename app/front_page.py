"""Accuracy against training memory: what to choose under which budget."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import ceil
from typing import Final

import streamlit as st

import repnet_search
from repnet_search import Outcome, StudyView, TrialRecord, figures

from . import tables
from .budget_answer import answer_budget
from .kept import list_points
from .navigation import MOST_COMPARED, Page, go_to, name_record, read_place, selected_record
from .parts import keep_value, show_figure, show_metrics, show_note, show_table

_MOST_ROWS: Final = 12
_HEIGHT: Final = 455
"""Of a longer table, which scrolls."""
_KIB: Final = 1024
_MIB: Final = 1024 * _KIB


def show_front(view: StudyView) -> None:
    """Shows the study's numbers, the front, the best under a budget, and the selected design."""
    _show_study(view)
    points = list_points(view)
    if not any(point.proxy is not None for point in points):
        show_note("No design has been trained yet.")
        return
    left, right = st.columns([5, 3], gap="large")
    with right:
        _show_selected(view)
        asked_bytes = _show_best_under(view, points)
        _show_recommended(view, points)
    with left:
        _show_plot(view, points, asked_bytes=asked_bytes)
        _show_front_table(view, points)


def _show_study(view: StudyView) -> None:
    settings, best = view.settings, view.choose_winner()
    budget = repnet_search.format_size(settings.budget_bytes)
    if settings.reserve_bytes:
        budget += f" − {repnet_search.format_size(settings.reserve_bytes)}"
    show_metrics(
        {
            "Budget less reserve" if settings.reserve_bytes else "Budget": budget,
            "Designs trained": repnet_search.format_number(view.trained_count),
            "Over budget": repnet_search.format_number(view.count(Outcome.OVER_BUDGET)),
            "Failed": tables.describe_failed(view),
            "Best validation accuracy": tables.format_accuracy(view, best) if best is not None else "–",
        }
    )
    if best is not None:
        st.caption(f"Best: {tables.describe_measurement(view, best)}. Memory: {tables.describe_account(view)}.")


def _show_plot(view: StudyView, points: Sequence[figures.FrontPoint], *, asked_bytes: int) -> None:
    st.subheader("Accuracy against training memory")
    shown = _filter_points(view, points)
    selected = selected_record(view)
    figure = figures.create_front_figure(
        shown,
        limit_bytes=view.settings.available_bytes,
        limit_text=tables.limit_text(view),
        metric=view.settings.training.metric.label,
        selected=selected.number if selected is not None else None,
        asked_bytes=asked_bytes,
    )
    key = f"front-{view.name}"
    show_figure(
        figure,
        key=key,
        data=tables.points_table(shown),
        file_name="front.csv",
        alt="Validation accuracy of each design against its training memory, with the budget as a line.",
        on_point=partial(_take_point, key, view),
    )


def _show_front_table(view: StudyView, points: Sequence[figures.FrontPoint]) -> None:
    st.markdown("**The front, least memory first**")
    front = sorted((point for point in points if point.on_front), key=lambda point: point.ram_bytes)
    frame = tables.points_table(front)[
        ["design", tables.MEMORY, tables.ACCURACY, tables.CONFIRMED, tables.INTERVAL, "role"]
    ]
    show_table(frame, height="content" if len(frame) < _MOST_ROWS else _HEIGHT)
    best = view.choose_winner()
    if best is not None and best.short_id not in {point.design for point in front}:
        show_note(f"The best, {best.short_id}, is not on this front of single trainings: its confirmation chose it.")


def _filter_points(view: StudyView, points: Sequence[figures.FrontPoint]) -> list[figures.FrontPoint]:
    """Shows the toggles; returns the points that they leave. The front and what is compared with stay in any case."""
    dominated = [point for point in points if point.proxy is not None and not point.is_marked]
    shown = [point for point in points if point.proxy is not None and point.is_marked]
    with st.container(horizontal=True, gap="medium"):
        label = f"Other dominated designs ({len(dominated)})"
        if dominated and _show_toggle(label, key=f"dominated-{view.name}", default=True):
            shown += dominated
        for outcome in (Outcome.OVER_BUDGET, Outcome.STOPPED, Outcome.FAILED):
            ended = [point for point in points if point.outcome is outcome]
            label = f"{outcome.value.capitalize()} ({len(ended)})"
            if ended and _show_toggle(label, key=f"{outcome.value}-{view.name}", default=False):
                shown += ended
    return sorted(shown, key=lambda point: point.trial)


def _show_toggle(label: str, *, key: str, default: bool) -> bool:
    take = keep_value(key, default)
    return bool(st.toggle(label, key=key, on_change=take))


def _show_best_under(view: StudyView, points: Sequence[figures.FrontPoint]) -> int:
    """Shows the best trained design within any budget; returns the budget that is asked about, in bytes."""
    st.subheader("Best under a budget")
    trained = [point.ram_bytes for point in points if point.proxy is not None]
    limit = view.settings.available_bytes
    unit, name, step = (_MIB, "MiB", 0.1) if limit >= 16 * _MIB else (_KIB, "KiB", 1.0)
    low, high = float(min(trained) // unit), float(ceil(max(limit, *trained) / unit))
    own = round(ceil(round(limit / unit / step, 6)) * step, 1)  # the study's budget, on a step
    key = f"under-{view.name}"
    take = keep_value(key, own)
    high = max(high, own, low + step)
    st.session_state[key] = min(max(st.session_state[key], low), high)
    asked = st.slider(
        f"Training memory ({name})",
        low,
        high,
        step=step,
        format="%.0f" if name == "KiB" else "%.1f",
        key=key,
        on_change=take,
    )
    asked_bytes = limit if asked == own else round(asked * unit)
    _show_answer(view, asked_bytes)
    return asked_bytes


def _show_answer(view: StudyView, asked_bytes: int) -> None:
    answer = answer_budget(view, asked_bytes)
    if answer.record is None:
        show_note("No trained design fits.")
    else:
        show_metrics(
            {
                "Validation accuracy": tables.format_accuracy(view, answer.record),
                "Training memory": repnet_search.format_size(answer.record.ram_bytes),
            }
        )
        st.caption(
            f"Design {answer.record.short_id}, {answer.record.origin.value}; "
            f"{tables.describe_measurement(view, answer.record)}."
        )
    show_note(answer.sentence)
    if answer.record is not None:
        st.button("Select it", on_click=go_to, kwargs={"design": answer.record.short_id})


def _show_recommended(view: StudyView, points: Sequence[figures.FrontPoint]) -> None:
    """Says which design costs least of those that are as good as the best, once some were confirmed."""
    near = [point for point in points if point.is_near_best]
    cheapest = next((point for point in near if point.is_recommended), None)
    if cheapest is None:
        return
    st.subheader("Recommended")
    best = max(near, key=lambda point: (point.confirmed or 0.0, -point.ram_bytes))  # as the winner is chosen
    if cheapest is best:
        why = "the best of the confirmed designs; no cheaper one is within 1 point of it"
    else:
        saved = repnet_search.format_size(best.ram_bytes - cheapest.ram_bytes)
        why = f"within 1 point of the best confirmed design, and {saved} cheaper"
    show_note(f"Design {cheapest.design}, {repnet_search.format_size(cheapest.ram_bytes)}: {why}.")
    st.button("Select the recommended", on_click=go_to, kwargs={"design": cheapest.design})


def _show_selected(view: StudyView) -> None:
    """Shows the selected design in short, with the ways to its pages."""
    record = selected_record(view)
    if record is None:
        return
    with st.container(border=True):
        st.markdown(f"**Selected: design {record.short_id}**")
        show_note(f"Trial {record.number}, {record.origin.value}: {record.outcome.value}. {record.reason}".strip())
        show_metrics(
            {
                "Training memory": repnet_search.format_size(record.ram_bytes),
                "Validation accuracy": tables.format_accuracy(view, record),
                "Test accuracy": tables.format_test(view, record),
                "Connectors": str(len(record.design.connectors)),
            }
        )
        st.caption(f"Accuracy: {tables.describe_measurement(view, record)}.")
        _show_ways(record)


def _show_ways(record: TrialRecord) -> None:
    compared = read_place().compared or ()
    with st.container(horizontal=True):
        for page, label in ((Page.DESIGN, "Open design"), (Page.WHAT_IF, "What if")):
            st.button(label, on_click=go_to, kwargs={"page": page, "design": record.short_id}, key=f"way-{page.value}")
        if record.short_id not in compared and len(compared) < MOST_COMPARED:
            st.button("Add to Compare", on_click=go_to, kwargs={"compared": [*compared, record.short_id]})


def _take_point(key: str, view: StudyView) -> None:
    points = st.session_state[key].selection.points
    if points:
        trial = int(points[0]["customdata"][0])
        go_to(design=name_record(view, next(record for record in view.records if record.number == trial)))
