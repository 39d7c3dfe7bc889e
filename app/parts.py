"""Pieces that every page is made of: numbers in a row, tables, plots with their data, notes.

Names come from the storage, so they are shown where Streamlit takes plain text (tables, `show_note`, selectors), never
as Markdown: escaped there, an address would still become a link.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Literal

import pandas as pd
import streamlit as st

from . import tables

COLUMNS: Final = {
    tables.MEMORY: st.column_config.NumberColumn("memory (KiB)", format="%.1f", help="Estimated by arithmetic."),
    tables.ACCURACY: st.column_config.NumberColumn("search (%)", format="%.1f", help="Measured once, in the search."),
    tables.CONFIRMED: st.column_config.NumberColumn("confirmed (%)", format="%.1f", help="Mean over fresh seeds."),
    tables.INTERVAL: st.column_config.NumberColumn("± (%)", format="%.1f", help="Half the 95 % interval of the mean."),
    tables.BEST: st.column_config.NumberColumn("best (%)", format="%.1f", help="Of the designs within the budget."),
    "budget (KiB)": st.column_config.NumberColumn(format="%.0f"),
    "flash (KiB)": st.column_config.NumberColumn(format="%.0f"),
    "seconds": st.column_config.NumberColumn(format="%.1f"),
    "trained": st.column_config.NumberColumn(help="The last layer alone is not counted."),
    "reason": st.column_config.TextColumn(width="large"),
    "link": st.column_config.LinkColumn("link", display_text="open", width="small"),
}


_ROUNDED: Final = (tables.MEMORY, tables.ACCURACY, tables.CONFIRMED, tables.INTERVAL, tables.BEST)


def show_metrics(values: Mapping[str, str]) -> None:
    """Shows numbers side by side; on a narrow page they wrap instead of being cut."""
    with st.container(horizontal=True, gap="medium"):
        for heading, value in values.items():
            st.metric(heading, value, width="content")


def show_note(text: str) -> None:
    """Shows plain text, whatever names are in it."""
    st.text(text)


def show_table(
    frame: pd.DataFrame,
    *,
    height: int | Literal["auto", "content"] = "auto",
    key: str | None = None,
    on_row: Callable[[], None] | None = None,
) -> None:
    """Shows a data frame with the columns' usual formats.

    Args:
        frame: what to show.
        height: in pixels.
        key: of the table's state.
        on_row: called when a row is selected; the rows are in `st.session_state[key].selection.rows`.
    """
    st.dataframe(
        frame.round(dict.fromkeys(_ROUNDED, 1)),  # a table would round 81.25 up, where all other places print 81.2
        hide_index=True,
        column_config=COLUMNS,
        height=height,
        key=key,
        placeholder="–",
        on_select=on_row or "ignore",
        selection_mode="single-row",
    )


def show_figure(
    figure: Any,
    *,
    key: str,
    data: pd.DataFrame,
    file_name: str,
    alt: str,
    on_point: Callable[[], None] | None = None,
) -> None:
    """Shows a plot with its data as CSV below.

    Args:
        figure: a plotly figure.
        key: of the plot's state.
        data: what it draws.
        file_name: of the CSV.
        alt: what a screen reader says.
        on_point: called when a point is clicked; the points are in `st.session_state[key].selection.points`.
    """
    # Plotly would measure every label over and over, to hide those that overflow; margins have room for them.
    figure.update_xaxes(ticklabeloverflow="allow")
    figure.update_yaxes(ticklabeloverflow="allow")
    st.plotly_chart(
        figure,
        theme="streamlit",
        key=key,
        config={"displaylogo": False, "displayModeBar": False},
        alt=alt,
        on_select=on_point or "ignore",
        selection_mode="points",
    )
    show_csv_button(data, file_name=file_name)


def keep_value(key: str, default: Any) -> Callable[[], None]:
    """Gives a widget the value that it had last, where Streamlit forgets it: on another page, or when its ends change.

    Args:
        key: of the widget, which is shown next, without a value.
        default: what it has before it is changed.

    Returns:
        what its `on_change` must be.
    """
    kept = f"{key}-kept"
    st.session_state[key] = st.session_state.get(kept, default)

    def take() -> None:
        st.session_state[kept] = st.session_state[key]

    return take


def show_csv_button(frame: pd.DataFrame, *, file_name: str) -> None:
    """Shows a button that downloads a data frame, written once it is clicked."""
    st.download_button(
        "Download CSV",
        partial(frame.to_csv, index=False),
        file_name=file_name,
        mime="text/csv",
        on_click="ignore",
        key=f"csv-{file_name}",
        type="tertiary",
    )
