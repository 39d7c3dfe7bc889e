"""Two to four designs side by side: only what differs, and where each takes its memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

import repnet_search
from repnet_search import RepnetSearchError, StudyView, TrialRecord, figures

from . import tables
from .choose_design import show_comparison_chooser
from .kept import list_notable, list_points
from .navigation import find_record, read_place
from .parts import show_csv_button, show_figure, show_note
from .step_view import explain_record


def show_compare(view: StudyView) -> None:
    """Shows the designs of the URL, at first the best one beside what it should be compared with."""
    records = _find_compared(view)
    show_comparison_chooser(view, records)
    if len(records) < 2:
        show_note("Choose two designs at least.")
        return
    _show_differences(view, records)
    _show_terms(view, records)
    _show_blocks(view, records)
    _show_losses(records)


def _find_compared(view: StudyView) -> list[TrialRecord]:
    """Returns the designs of the URL; where it says nothing, the best, the cheapest as good, and the baselines."""
    wanted = read_place().compared
    if wanted is not None:
        found = {design: find_record(view, design) for design in wanted}
        for design, record in found.items():
            if record is None:
                show_note(f"This study has no design {design!r}.")
        return list({record.number: record for record in found.values() if record is not None}.values())
    points = [point for point in list_points(view) if point.proxy is not None]
    ranked = sorted(
        (point for point in points if point.is_winner or point.is_recommended or point.role != "searched"),
        key=lambda point: (not point.is_winner, not point.is_recommended, -(point.proxy or 0)),
    )
    chosen: dict[str, int] = {}
    for point in ranked:
        chosen.setdefault("best" if point.is_winner else "near" if point.is_recommended else point.role, point.trial)
    numbers = list(chosen.values()) or [record.number for record in list_notable(view)]
    by_number = {record.number: record for record in view.records}
    return [by_number[number] for number in numbers[:4]]


def _show_differences(view: StudyView, records: Sequence[TrialRecord]) -> None:
    st.subheader("What differs")
    frame = _differences_table(view, records)
    st.dataframe(frame, hide_index=True, height="content" if len(frame) < 25 else 720)
    st.caption(
        "What is the same in all of these designs, or in all that have a connector after that block, is left out; a "
        "dash stands where there is none."
    )
    show_csv_button(frame, file_name="compare.csv")


def _differences_table(view: StudyView, records: Sequence[TrialRecord]) -> pd.DataFrame:
    """Returns a row per number or field in which the designs differ, a column per design."""
    rows = [_list_values(view, record) for record in records]
    names = sorted(dict.fromkeys(name for row in rows for name in row), key=_find_block)
    differing = [name for name in names if _differs(name, rows)]
    columns = {
        record.short_id: [row.get(name, "–") for name in differing] for record, row in zip(records, rows, strict=True)
    }
    return pd.DataFrame({"what": differing} | columns)


def _differs(name: str, rows: Sequence[Mapping[str, str]]) -> bool:
    """Returns whether designs differ in a field; of a connector's fields its exchange alone says that it is missing."""
    has_absence = _find_block(name) < 0 or name.endswith("exchange")
    return len({row.get(name, "–") for row in rows if has_absence or name in row}) > 1


def _find_block(name: str) -> int:
    """Returns the block of a connector's field, so that connectors are in their order behind all else."""
    return int(name.split(":")[0].removeprefix("block ")) if name.startswith("block ") else -1


def _list_values(view: StudyView, record: TrialRecord) -> dict[str, str]:
    flash = record.flash_bytes
    values = {
        "validation accuracy, measured": tables.format_accuracy(view, record),
        "from": tables.describe_seeds(view, record),
        "test accuracy, measured": tables.format_test(view, record),
        "training memory, estimated": repnet_search.format_size(record.ram_bytes),
        "flash, estimated": repnet_search.format_size(flash) if flash is not None else "–",
        "trainable parameters": repnet_search.format_number(record.trainable_parameters),
        "seconds in the search, measured": f"{record.elapsed_seconds:.1f}",
        "origin": record.origin.value,
        "connectors": str(len(record.design.connectors)),
    }
    return values | tables.list_fields(record.design) | _list_connectors(record)


def _list_connectors(record: TrialRecord) -> dict[str, str]:
    """Returns each field of each connector, by its block."""
    design, found = record.design, {}
    for index, connector in enumerate(design.connectors):
        fields = {"exchange": connector.exchange.value} | design.module_of(index).model_dump(mode="json")
        for name, value in fields.items():
            found[f"block {connector.after_block}: {tables.to_words(name)}"] = str(value)
    return found


def _show_terms(view: StudyView, records: Sequence[TrialRecord]) -> None:
    st.subheader("Training memory by its terms")
    figure = figures.create_terms_figure(
        {record.short_id: record.terms for record in records},
        limit_bytes=view.settings.available_bytes,
        limit_text=tables.limit_text(view),
    )
    frame = pd.concat([tables.terms_table(record).assign(design=record.short_id) for record in records])
    show_figure(
        figure,
        key="compare-terms",
        data=frame,
        file_name="compare-terms.csv",
        alt="A stacked bar per design of the terms of its training memory, against the budget.",
    )


def _show_blocks(view: StudyView, records: Sequence[TrialRecord]) -> None:
    st.subheader("Memory block by block")
    try:
        designs = {record.short_id: figures.list_block_bytes(explain_record(view, record)) for record in records}
    except RepnetSearchError as error:
        show_note(str(error))
        return
    show_figure(
        figures.create_blocks_figure(designs),
        key="compare-blocks",
        data=tables.blocks_table(designs),
        file_name="compare-blocks.csv",
        alt="The most bytes alive while each block runs, the designs' bars next to each other.",
    )
    st.caption(
        "The most bytes of the arena that are alive while a block or module runs, forward or backward; the highest bar "
        "of a design sets its arena. Parameters and what is kept beside them come on top."
    )


def _show_losses(records: Sequence[TrialRecord]) -> None:
    curves = {record.short_id: record.losses for record in records if record.losses}
    if not curves:
        return
    st.subheader("Learning curves")
    frame = pd.concat([tables.losses_table(record).assign(design=record.short_id) for record in records])
    show_figure(
        figures.create_losses_figure(curves),
        key="compare-losses",
        data=frame,
        file_name="compare-losses.csv",
        alt="The training loss of each epoch, a line per design.",
    )
