"""A design's memory: its training step drawn, its terms, the regions of a board's RAM, and its flash."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import repnet_search
from repnet_search import DeviceLimits, MemoryExplanation, MemoryPlan, StudyView, TrialRecord, figures

from . import tables
from .parts import show_figure, show_note, show_table
from .step_view import create_fitting_plan, explain_record, show_step


def show_training_step(view: StudyView, record: TrialRecord) -> None:
    """Shows the design drawn beside both passes of a step, and the bytes alive over its operators.

    Raises:
        RepnetSearchError: this version does not know the design or the study's board.
    """
    explained, plan = _explain(view, record)
    show_step(explained, key="design", name=record.short_id, budget_bytes=view.settings.available_bytes, plan=plan)


def show_memory(view: StudyView, record: TrialRecord) -> None:
    """Shows the terms of the training memory, and what of a device it takes.

    Raises:
        RepnetSearchError: this version does not know the design or the study's board.
    """
    settings = view.settings
    explained, plan = _explain(view, record)
    left, right = st.columns(2, gap="large")
    with left:
        _show_terms(view, record)
    with right:
        _show_device(explained, settings.limits, plan, board=settings.board, name=record.short_id)


def _explain(view: StudyView, record: TrialRecord) -> tuple[MemoryExplanation, MemoryPlan | None]:
    """Returns where a design takes its memory, and its placement into the regions of the study's board."""
    explained = explain_record(view, record)
    return explained, create_fitting_plan(explained, view.settings.limits, classes=view.settings.data.classes)


def _show_terms(view: StudyView, record: TrialRecord) -> None:
    st.subheader("Training memory by its terms")
    show_figure(
        figures.create_terms_figure(
            {f"design {record.short_id}": record.terms},
            limit_bytes=view.settings.available_bytes,
            limit_text=tables.limit_text(view),
        ),
        key="design-terms",
        data=tables.terms_table(record),
        file_name=f"memory-{record.short_id}.csv",
        alt="The terms of the training memory as one bar, against what the design may take.",
    )


def _show_device(
    explained: MemoryExplanation,
    limits: DeviceLimits,
    plan: MemoryPlan | None,
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
