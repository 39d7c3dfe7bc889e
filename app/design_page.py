"""One design of a study: its training step, its memory, what it learned, its file, and the designs next to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import streamlit as st

import repnet_search
from repnet_search import RepnetSearchError, StudyView, TrialRecord

from . import tables
from .design_memory import show_memory, show_training_step
from .design_neighbours import show_neighbours
from .design_results import show_results
from .navigation import Page, go_to, read_place
from .parts import show_metrics, show_note, show_table

PARTS: Final = ("One training step", "Memory and flash", "What it learned", "Fields and file", "Designs next to it")


def show_design(view: StudyView, record: TrialRecord) -> None:
    """Shows everything about a trial's design, part by part: only the open part is drawn, so that it comes at once."""
    _show_summary(view, record)
    part = read_place().part
    st.session_state["design-part"] = part if part in PARTS else PARTS[0]
    tabs = st.tabs(PARTS, key="design-part", on_change=_take_part)
    shows = (show_training_step, show_memory, show_results, _show_fields, show_neighbours)
    for tab, show in zip(tabs, shows, strict=True):
        if tab.open:
            with tab:
                _show_part(show, view, record)


def _show_part(show: Callable[[StudyView, TrialRecord], None], view: StudyView, record: TrialRecord) -> None:
    try:
        show(view, record)
    except RepnetSearchError as error:  # a study of another version may hold a design or a board that is unknown here
        show_note(str(error))


def _take_part() -> None:
    go_to(part=st.session_state["design-part"])


def _show_summary(view: StudyView, record: TrialRecord) -> None:
    show_note(f"Trial {record.number}, {record.origin.value}: {record.outcome.value}. {record.reason}".strip())
    flash = record.flash_bytes
    show_metrics(
        {
            "Training memory, estimated": repnet_search.format_size(record.ram_bytes),
            f"{_of(view, 'validation')}, measured": tables.format_accuracy(view, record),
            f"{_of(view, 'test')}, measured": tables.format_test(view, record),
            "Flash, estimated": repnet_search.format_size(flash) if flash is not None else "–",
            "Trained parameters": repnet_search.format_number(record.trainable_parameters),
            "Connectors": str(len(record.design.connectors)),
        }
    )
    recipe = record.design.recipe
    show_note(
        f"Memory: account arena, schedule {view.settings.schedule.value}, micro-batch 1, recipe "
        f"{recipe.optimizer.value} ×{recipe.accumulate}. Accuracy: {tables.describe_measurement(view, record)}. Flash: "
        "64 KiB of code are assumed."
    )
    with st.container(horizontal=True):
        st.button("Change it in What if", on_click=go_to, kwargs={"page": Page.WHAT_IF, "design": record.short_id})
        st.button("Compare it", on_click=go_to, kwargs=_comparison(view, record))


def _of(view: StudyView, split: str) -> str:
    name = view.settings.training.metric.of(split)
    return name[:1].upper() + name[1:]


def _comparison(view: StudyView, record: TrialRecord) -> dict[str, object]:
    """Returns where a comparison with the best design is; of that one, with the last layer alone."""
    winner = view.choose_winner()
    others = [winner] if winner is not None else []
    others += [other for other in view.records if other.origin is repnet_search.Origin.LAST_LAYER]
    ids = dict.fromkeys([record.short_id, *(other.short_id for other in others)])
    return {"page": Page.COMPARE, "compared": list(ids)[:2]}


def _show_fields(_view: StudyView, record: TrialRecord) -> None:
    st.subheader("What it is")
    left, right = st.columns([2, 3], gap="large")
    with left:
        show_table(tables.recipe_table(record), height="content")
    with right:
        if record.design.connectors:
            show_table(tables.connectors_table(record.design))
        else:
            show_note("No connectors: the last layer alone is trained.")
    _show_file(record)


def _show_file(record: TrialRecord) -> None:
    st.subheader("Its file")
    text = repnet_search.design_to_yaml(record.design)
    st.code(text, language="yaml", wrap_lines=True)
    st.download_button(
        "Download YAML", text, file_name=f"design-{record.short_id}.yaml", mime="application/yaml", on_click="ignore"
    )
