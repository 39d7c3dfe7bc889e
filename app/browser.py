"""The study browser: one page over the studies of a storage; `repnet-search dashboard` starts it.

It only reads. Names come from the storage, so they are shown where Streamlit takes plain text (tables, st.text,
st.selectbox), never as Markdown: escaped there, an address would still become a link.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

import repnet_search
from repnet_search import Outcome, StudyView, TrialRecord

# Streamlit puts this file's folder on the path: in the source tree that is app/, in a wheel repnet_search/app/.
if TYPE_CHECKING:
    from app import browser_charts as charts
    from app import browser_tables as tables
    from app.browser_storage import read_studies
else:
    import browser_charts as charts
    import browser_tables as tables
    from browser_storage import read_studies

_COLUMNS = {
    tables.MEMORY: st.column_config.NumberColumn("memory (KiB)", format="%.1f"),
    tables.ACCURACY: st.column_config.NumberColumn("accuracy (%)", format="%.1f"),
    "best " + tables.ACCURACY: st.column_config.NumberColumn("best accuracy (%)", format="%.1f"),
    "budget (KiB)": st.column_config.NumberColumn(format="%.1f"),
    "flash (KiB)": st.column_config.NumberColumn(format="%.1f"),
    "seconds": st.column_config.NumberColumn(format="%.1f"),
    "trained": st.column_config.NumberColumn(help="Variants of the last layer alone are not counted."),
    "reason": st.column_config.TextColumn(width="large"),
    "weight standardisation": st.column_config.TextColumn("weight std."),
}


def main() -> None:
    """Shows the page."""
    st.set_page_config(page_title="repnet-search studies", layout="wide")
    try:
        views = read_studies(sys.argv[1] if len(sys.argv) > 1 else None)
    except repnet_search.RepnetSearchError as error:
        st.header("No study to show")
        st.text(str(error))
        st.button("Read again")
        return
    st.header("Study browser")
    with st.expander(f"All studies of this storage ({len(views)})", expanded=len(views) > 1):
        _show_table(tables.studies_table(views))
    view = _choose_study(views)
    _show_study(view)
    if not view.records:
        st.text("No trial has ended yet.")
        return
    left, right = st.columns([3, 2], gap="large")
    with right:
        _show_best_under(view)
    with left:
        _show_front(view)
    _show_design(view, _shown_record(view))
    _show_trials(view)


def _choose_study(views: Sequence[StudyView]) -> StudyView:
    """Returns the study of the URL or of the selector, and keeps its name in the URL; the newest stands first."""
    by_name = {view.name: view for view in reversed(views)}
    if st.session_state.get("study") not in by_name:
        wanted = st.query_params.get("study")
        st.session_state["study"] = wanted if wanted in by_name else next(iter(by_name))
        if wanted is not None and wanted not in by_name:
            st.text(f"There is no study named {wanted!r} in this storage; this is the newest.")
    selector, button = st.columns([5, 1], vertical_alignment="bottom")
    name = selector.selectbox("Study", list(by_name), key="study")
    button.button("Read again", on_click=read_studies.clear, help="A search that runs adds trials.", width="stretch")
    st.query_params["study"] = name
    return by_name[name]


def _show_study(view: StudyView) -> None:
    settings, best = view.settings, _winner(view)
    backbone = tables.describe_backbone(view)
    st.text(f"{backbone} on {settings.data.name} ({settings.data.classes} classes); {tables.describe_target(view)}")
    budget = repnet_search.format_size(settings.budget_bytes)
    if settings.reserve_bytes:
        budget += f" − {repnet_search.format_size(settings.reserve_bytes)}"
    _show_metrics(
        {
            "Budget less reserve" if settings.reserve_bytes else "Budget": budget,
            "Designs trained": str(view.trained_count),
            "Over budget": str(view.count(Outcome.OVER_BUDGET)),
            "Failed": tables.describe_failed(view),
            "Best validation accuracy": tables.format_percent(view.accuracy_of(best) if best is not None else None),
        }
    )


def _show_front(view: StudyView) -> None:
    """Shows the front; a click on a design shows it below."""
    st.subheader("Accuracy against training memory")
    points = tables.points_table(view.records)
    if points.empty:
        st.text("No design has been trained yet.")
        return
    winner = _winner(view)
    key = f"front-{view.name}"
    figure = charts.create_front_figure(
        points,
        limit_kib=tables.to_kib(view.settings.available_bytes),
        limit_text=tables.limit_text(view),
        winner=winner.number if winner is not None else None,
        selected=_shown_record(view).number,
    )
    st.plotly_chart(
        figure,
        theme="streamlit",
        key=key,
        on_select=partial(_take_clicked_point, key, view_name=view.name),
        selection_mode="points",
        config={"displaylogo": False},
    )
    variants, over = view.count(Outcome.TRAINED) - view.trained_count, view.count(Outcome.OVER_BUDGET)
    st.caption(
        f"{view.trained_count} designs and the last layer alone in {variants} variants; click one to see it below. "
        f"{over} over budget, hence not trained and not plotted."
    )
    _show_csv_button(points, file_name="front.csv")


def _show_best_under(view: StudyView) -> None:
    """Shows the best trained design within any budget, and the front as a table."""
    st.subheader("Best under a budget")
    points = tables.points_table(view.records)
    if points.empty:
        st.text("No design has been trained yet.")
        return
    limit_kib = tables.to_kib(view.settings.available_bytes)
    low, high = int(points[tables.MEMORY].min()), ceil(max(limit_kib, points[tables.MEMORY].max()))
    budget_kib = st.slider(
        "Training memory (KiB)", low, max(high, low + 1), max(low, int(limit_kib)), key=f"under-{view.name}"
    )
    _show_answer(view, view.choose_winner(budget_bytes=budget_kib * 1024))
    front = points[points["on the front"]].sort_values(tables.MEMORY)
    st.markdown("**Pareto front**")
    _show_table(front[["design", tables.MEMORY, tables.ACCURACY, "role"]], height=212)


def _show_answer(view: StudyView, record: TrialRecord | None) -> None:
    if record is None:
        st.text("No trained design fits.")
        return
    _show_metrics(
        {
            "Validation accuracy": tables.format_percent(view.accuracy_of(record)),
            "Training memory": repnet_search.format_size(record.ram_bytes),
        }
    )
    st.text(f"Design {record.short_id}, {record.origin.value}")
    st.button("Show below", on_click=_show_trial, args=(record.number,), kwargs={"view_name": view.name})


def _show_design(view: StudyView, record: TrialRecord) -> None:
    st.subheader(f"Design {record.short_id}", divider="gray")
    st.text(f"Trial {record.number}, {record.origin.value}: {record.outcome.value}. {record.reason}".strip())
    _show_metrics(
        {
            "Training memory": repnet_search.format_size(record.ram_bytes),
            "Validation accuracy": tables.format_percent(record.validation_accuracy),
            "Test accuracy": tables.format_percent(view.tested.get(record.design_id)),
            "Connectors": str(len(record.design.connectors)),
            "Proxy training": f"{record.elapsed_seconds:.1f} s",
        }
    )
    left, right = st.columns([3, 2], gap="large")
    with left:
        _show_memory(view, record)
        _show_losses(record)
    with right:
        st.markdown("**Input and recipe**")
        _show_table(tables.recipe_table(record))
    _show_connectors(record)
    _show_yaml(record)


def _show_memory(view: StudyView, record: TrialRecord) -> None:
    st.markdown("**Training memory**")
    terms = tables.terms_table(record)
    limit_kib = tables.to_kib(view.settings.available_bytes)
    figure = charts.create_terms_figure(terms, limit_kib=limit_kib, limit_text=tables.limit_text(view))
    st.plotly_chart(figure, theme="streamlit", key="terms", config={"displayModeBar": False})
    _show_csv_button(terms, file_name=f"memory-{record.short_id}.csv")


def _show_connectors(record: TrialRecord) -> None:
    st.markdown("**Connectors**")
    if record.design.connectors:
        _show_table(tables.connectors_table(record.design))
    else:
        st.text("None: the last layer alone is trained.")


def _show_losses(record: TrialRecord) -> None:
    if not record.losses:
        return
    st.markdown("**Learning curve**")
    losses = tables.losses_table(record)
    figure = charts.create_losses_figure(losses)
    st.plotly_chart(figure, theme="streamlit", key="losses", config={"displayModeBar": False})
    _show_csv_button(losses, file_name=f"losses-{record.short_id}.csv")


def _show_yaml(record: TrialRecord) -> None:
    text = repnet_search.design_to_yaml(record.design)
    with st.expander("As YAML"):
        st.code(text, language="yaml")
    st.download_button(
        "Download YAML", text, file_name=f"design-{record.short_id}.yaml", mime="application/yaml", on_click="ignore"
    )


def _show_trials(view: StudyView) -> None:
    """Shows the trials; the filter leaves those with one of the chosen outcomes, a row shows its design above."""
    st.subheader("Trials", divider="gray")
    present = [outcome for outcome in Outcome if view.count(outcome)]
    chosen = st.pills(
        "Outcome",
        present,
        selection_mode="multi",
        format_func=lambda outcome: f"{outcome.value} ({view.count(outcome)})",
        key=f"outcomes-{view.name}",
    )
    frame = tables.trials_table(record for record in view.records if not chosen or record.outcome in chosen)
    # Rows are known by their position, so another filter is another table.
    key = "-".join(["trials", view.name, *chosen])
    take_row = partial(_take_row, key, numbers=frame["trial"].tolist(), view_name=view.name)
    st.dataframe(
        frame, hide_index=True, column_config=_COLUMNS, key=key, on_select=take_row, selection_mode="single-row"
    )
    _show_csv_button(frame, file_name="trials.csv")


def _take_clicked_point(key: str, *, view_name: str) -> None:
    points = st.session_state[key].selection.points
    if points:
        _show_trial(int(points[0]["customdata"][0]), view_name=view_name)


def _take_row(key: str, *, numbers: Sequence[int], view_name: str) -> None:
    rows = st.session_state[key].selection.rows
    if rows:
        _show_trial(numbers[rows[0]], view_name=view_name)


def _show_trial(number: int, *, view_name: str) -> None:
    st.session_state[f"shown-{view_name}"] = number


def _shown_record(view: StudyView) -> TrialRecord:
    """Returns the trial that was picked last, at first the winner."""
    number = st.session_state.get(f"shown-{view.name}")
    picked = next((record for record in view.records if record.number == number), None)
    return picked or _winner(view) or view.records[0]


def _winner(view: StudyView) -> TrialRecord | None:
    return view.choose_winner()


def _show_metrics(values: Mapping[str, str]) -> None:
    """Shows numbers side by side; on a narrow page they wrap instead of being cut."""
    with st.container(horizontal=True, gap="medium"):
        for heading, value in values.items():
            st.metric(heading, value, width="content")


def _show_table(frame: pd.DataFrame, *, height: int | None = None) -> None:
    st.dataframe(frame, hide_index=True, column_config=_COLUMNS, height=height if height is not None else "auto")


def _show_csv_button(frame: pd.DataFrame, *, file_name: str) -> None:
    data = frame.to_csv(index=False)
    st.download_button(
        "Download CSV",
        data,
        file_name=file_name,
        mime="text/csv",
        on_click="ignore",
        key=f"csv-{file_name}",
        type="tertiary",
    )


if __name__ == "__main__":
    main()
