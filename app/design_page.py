"""One design of a study: its drawing, its memory, what it learned, its file, and the designs next to it."""

from __future__ import annotations

from typing import Final

import pandas as pd
import streamlit as st

import repnet_search
from repnet_search import DeviceLimits, MemoryExplanation, RepnetSearchError, StudyView, TrialRecord, figures

from . import tables
from .design_neighbours import show_neighbours
from .design_results import show_results
from .navigation import Page, go_to, read_place
from .parts import show_figure, show_metrics, show_note, show_table
from .step_view import create_fitting_plan, show_step

PARTS: Final = ("Memory", "What it learned", "Fields and file", "Designs next to it")


def show_design(view: StudyView, record: TrialRecord) -> None:
    """Shows everything about a trial's design, part by part: only the open part is drawn, so that it comes at once."""
    _show_summary(view, record)
    part = read_place().part
    st.session_state["design-part"] = part if part in PARTS else PARTS[0]
    memory, learned, fields, neighbours = st.tabs(PARTS, key="design-part", on_change=_take_part)
    if memory.open:
        with memory:
            _show_memory(view, record)
    if learned.open:
        with learned:
            show_results(view, record)
    if fields.open:
        with fields:
            _show_fields(record)
            _show_file(record)
    if neighbours.open:
        with neighbours:
            show_neighbours(view, record)


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


def _show_memory(view: StudyView, record: TrialRecord) -> None:
    try:
        _show_step(view, record)
    except RepnetSearchError as error:  # a study of another version may hold a design or a board that is unknown here
        show_note(str(error))


def _show_step(view: StudyView, record: TrialRecord) -> None:
    settings, limit = view.settings, view.settings.available_bytes
    explained = repnet_search.explain_memory(
        repnet_search.resolve(record.design), classes=settings.data.classes, schedule=settings.schedule
    )
    plan = create_fitting_plan(explained, settings.limits, classes=settings.data.classes)
    st.subheader("Drawn")
    show_step(explained, key="design", name=record.short_id, budget_bytes=limit, plan=plan)
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Training memory by its terms")
        figure = figures.create_terms_figure(
            {f"design {record.short_id}": record.terms}, limit_bytes=limit, limit_text=tables.limit_text(view)
        )
        show_figure(
            figure,
            key="design-terms",
            data=tables.terms_table(record),
            file_name=f"memory-{record.short_id}.csv",
            alt="The terms of the training memory as one bar, against what the design may take.",
        )
    with right:
        show_device(explained, settings.limits, plan, board=settings.board, name=record.short_id)


def show_device(
    explained: MemoryExplanation,
    limits: DeviceLimits,
    plan: repnet_search.MemoryPlan | None,
    *,
    board: str | None,
    name: str,
) -> None:
    """Shows how the regions of a board's RAM are used, where there is a board, and what the flash holds."""
    if board is not None:
        st.subheader(f"RAM of {board}")
        if plan is not None:
            show_figure(
                figures.create_regions_figure(plan),
                key=f"{name}-regions",
                data=pd.DataFrame(figures.region_rows(plan)),
                file_name=f"regions-{name}.csv",
                alt="How much of each region of RAM is taken by buffers and by parameters, and what is free.",
            )
        else:
            problem = repnet_search.check_fit(explained, limits).problem
            show_note(f"No placement into its regions: the design {problem}." if problem else "It has one region.")
    st.subheader("Flash, estimated")
    flash = explained.estimate.flash
    rows = [*flash.terms, ("in all", flash.total_bytes)]
    if limits.flash_bytes is not None:
        rows += [("there are", limits.flash_bytes), ("left", limits.flash_bytes - flash.total_bytes)]
    show_table(pd.DataFrame([(term, tables.to_kib(size)) for term, size in rows], columns=["term", "flash (KiB)"]))


def _show_fields(record: TrialRecord) -> None:
    st.subheader("What it is")
    left, right = st.columns([2, 3], gap="large")
    with left:
        show_table(tables.recipe_table(record), height="content")
    with right:
        if record.design.connectors:
            show_table(tables.connectors_table(record.design))
        else:
            show_note("No connectors: the last layer alone is trained.")


def _show_file(record: TrialRecord) -> None:
    st.subheader("Its file")
    text = repnet_search.design_to_yaml(record.design)
    st.code(text, language="yaml", wrap_lines=True)
    st.download_button(
        "Download YAML", text, file_name=f"design-{record.short_id}.yaml", mime="application/yaml", on_click="ignore"
    )
