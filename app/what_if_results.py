"""What an edited design takes: numbers beside those of its start, the nearest that fits, other schedules and boards."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import repnet_search
from repnet_search import (
    BOARD_RESERVE_BYTES,
    Design,
    DeviceLimits,
    Fit,
    MemoryExplanation,
    NearestDesign,
    Schedule,
    StudyView,
)

from . import tables
from .navigation import find_record
from .parts import show_note, show_table
from .what_if_device import Target
from .what_if_state import Editor, use_design

_MOST_NEAREST = 4


def show_answer(explained: MemoryExplanation, start: MemoryExplanation | None, target: Target, fit: Fit) -> None:
    """Shows what everything else is about: the training memory, and whether it fits."""
    memory = explained.estimate
    before = start.estimate if start is not None else memory
    with st.container(horizontal=True, gap="medium"):
        _metric("Training memory", memory.ram_bytes, before.ram_bytes)
        room = target.limits.ram_bytes - memory.ram_bytes
        st.metric(
            "Fits",
            "yes" if fit.fits else "no",
            f"{repnet_search.format_size(room)} left" if fit.fits else _describe_excess(fit),
            delta_color="off",
            delta_arrow="off",
            width="content",
        )
        if target.board is not None:
            seconds = repnet_search.estimate_step_seconds(memory, target.board)
            earlier = repnet_search.estimate_step_seconds(before, target.board)
            difference = f"{1000 * (seconds - earlier):+.0f} ms" if abs(seconds - earlier) >= 0.0005 else None
            st.metric("Time a step, roughly", _duration(seconds), difference, delta_color="inverse", width="content")


def show_numbers(explained: MemoryExplanation, start: MemoryExplanation | None) -> None:
    """Shows the other numbers of the edited design, with the difference to the start where there is one."""
    memory = explained.estimate
    before = start.estimate if start is not None else memory
    with st.container(horizontal=True, gap="medium"):
        _metric("Flash", memory.flash_bytes, before.flash_bytes)
        difference = (memory.macs - before.macs) / 1e6
        st.metric(
            "MACs a step",
            f"{memory.macs / 1e6:.1f} M",
            f"{difference:+.1f} M" if abs(difference) >= 0.05 else None,
            delta_color="inverse",
            width="content",
        )
        more = memory.trainable_parameters - before.trainable_parameters
        st.metric(
            "Trained parameters",
            repnet_search.format_number(memory.trainable_parameters),
            f"{'+' if more > 0 else '-'}{repnet_search.format_number(abs(more))}" if more else None,
            delta_color="off",
            width="content",
        )


def describe(explained: MemoryExplanation, fit: Fit, target: Target) -> str:
    """Returns what the numbers are of, the operator at the peak, and why the design does not fit, if it does not."""
    memory, recipe = explained.estimate, explained.resolved.design.recipe
    problem = f" It {fit.problem}." if fit.problem else ""
    clock = " The time is an order of magnitude, by MACs alone." if target.board is not None else ""
    return (
        f"Peak: {memory.peak_place}, {repnet_search.format_size(memory.live_peak_bytes)} of buffers alive.{problem}\n"
        f"All estimated: account arena, schedule {memory.schedule.value}, micro-batch {memory.batch}, recipe "
        f"{recipe.optimizer.value} ×{recipe.accumulate}; 64 KiB of code in flash are assumed.{clock}"
    )


def show_terms(explained: MemoryExplanation, start: MemoryExplanation | None, *, start_name: str) -> None:
    """Shows the terms of the training memory beside those of the start, in bytes."""
    st.subheader("Beside the start")
    memory, before = explained.estimate, (start or explained).estimate
    frame = pd.DataFrame(
        [(name, old, new, new - old) for name, old, new in compare_terms(before.terms, memory.terms)],
        columns=["term (bytes)", "start", "edited", "difference"],
    )
    show_note(f"Start: {start_name}")
    style = {name: st.column_config.NumberColumn(format="localized") for name in frame.columns[1:]}
    st.dataframe(frame, hide_index=True, column_config=style, key="what-if-terms")


def compare_terms(
    before: tuple[tuple[str, int], ...], after: tuple[tuple[str, int], ...]
) -> list[tuple[str, int, int]]:
    """Returns each term with its bytes before and after, and then their sums."""
    old, new = dict(before), dict(after)
    names = dict.fromkeys([*old, *new])
    rows = [(name, old.get(name, 0), new.get(name, 0)) for name in names]
    return [*rows, ("training memory", sum(old.values()), sum(new.values()))]


def show_known(view: StudyView, explained: MemoryExplanation) -> None:
    """Says what the study measured of this very design, if anything."""
    record = find_record(view, explained.resolved.id)
    if record is None or view.accuracy_of(record) is None:
        show_note("Accuracy: not known before it is trained; this study did not train this design.")
        return
    show_note(
        f"Accuracy: this study trained it as {record.short_id}: {tables.format_accuracy(view, record)} on validation, "
        f"{tables.describe_measurement(view, record)}."
    )


def show_nearest(editor: Editor, design: Design, target: Target, *, classes: int, fits: bool) -> None:
    """Shows the nearest designs that fit, each with a button that takes it over."""
    st.subheader("Nearest designs that fit")
    if fits:
        show_note("This one fits.")
        return
    text = repnet_search.design_to_yaml(design)
    found = _find_nearest(text, target.limits, target.schedule, classes=classes, _design=design)
    if not found:
        show_note("Not even the last layer alone fits on this backbone.")
    for index, nearest in enumerate(found[:_MOST_NEAREST]):
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            st.button("Use", key=f"nearest-{index}", on_click=use_design, args=(editor, nearest.design))
            show_note(f"{repnet_search.format_size(nearest.memory.ram_bytes)}: {nearest.description}")


@st.cache_data(max_entries=256, show_spinner="Looking for the nearest design that fits")
def _find_nearest(
    text: str, limits: DeviceLimits, schedule: Schedule, *, classes: int, _design: Design
) -> tuple[NearestDesign, ...]:
    """Returns the nearest designs; the text stands for the design in the cache's key."""
    return repnet_search.find_nearest(_design, limits=limits, classes=classes, schedule=schedule)


def show_elsewhere(explained: MemoryExplanation, target: Target, *, classes: int) -> None:
    """Shows what the design takes with every schedule, and which boards can train it, with the time of a step."""
    schedules, boards = st.tabs(("With every schedule", "On every board"), key="what-if-elsewhere", on_change="rerun")
    if schedules.open:
        with schedules:
            show_table(_schedules_table(explained, target, classes=classes))
    if boards.open:
        with boards:
            show_table(_boards_table(explained))
            show_note("Less 32 KiB of reserve; the time of a step is an order of magnitude, by MACs alone.")


def _schedules_table(explained: MemoryExplanation, target: Target, *, classes: int) -> pd.DataFrame:
    rows = []
    for schedule in Schedule:
        other = repnet_search.explain_memory(explained.resolved, classes=classes, schedule=schedule)
        rows.append((schedule.value, tables.to_kib(other.estimate.ram_bytes), _answer(other, target.limits)))
    return pd.DataFrame(rows, columns=["schedule", tables.MEMORY, "fits"])


def _boards_table(explained: MemoryExplanation) -> pd.DataFrame:
    rows = []
    for board in repnet_search.list_boards():
        limits = DeviceLimits.of_board(board, reserve_bytes=BOARD_RESERVE_BYTES)
        seconds = repnet_search.estimate_step_seconds(explained.estimate, board)
        rows.append(
            (board.name, tables.to_kib(board.ram_bytes), _answer(explained, limits), float(f"{1000 * seconds:.2g}"))
        )
    return pd.DataFrame(rows, columns=["board", "RAM (KiB)", "fits", "step (ms), roughly"])


def _answer(explained: MemoryExplanation, limits: DeviceLimits) -> str:
    fit = repnet_search.check_fit(explained, limits)
    return "yes" if fit.fits else _describe_excess(fit)


def _describe_excess(fit: Fit) -> str:
    """Returns what is too much: of RAM, else of flash, else what the regions of the RAM do not hold."""
    size = repnet_search.format_size(fit.excess_bytes)
    if fit.ram_excess_bytes > 0:
        return f"{size} too much RAM"
    return f"{size} too much flash" if (fit.flash_excess_bytes or 0) > 0 else f"{size} in no region"


def _metric(label: str, value_bytes: int, before_bytes: int) -> None:
    difference = value_bytes - before_bytes
    sign = "-" if difference < 0 else "+"
    delta = f"{sign}{repnet_search.format_size(abs(difference))}" if difference else None
    st.metric(
        label,
        repnet_search.format_size(value_bytes),
        delta,
        delta_color="inverse",
        width="content",
    )


def _duration(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
