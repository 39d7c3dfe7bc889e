"""The editor of a design: where it starts, its fields, its connectors."""

from __future__ import annotations

from functools import partial
from typing import Final

import streamlit as st

import repnet_search
from repnet_search import Design, RepnetSearchError, StudyView

from .kept import list_notable
from .parts import keep_value, show_note
from .tables import format_accuracy
from .what_if_device import show_problem
from .what_if_fields import INPUT_FIELDS, RECIPE_FIELDS, show_connector, show_fields, show_module_fields
from .what_if_state import Editor, Path, Problem, add_connector, start_from, undo, use_design

_START: Final = "what-if-start"
_PART: Final = "what-if-part"
_PARTS: Final = ("Connectors", "Modules", "Backbone and input", "Recipe")
_CONNECTORS, _MODULES, _INPUT, _RECIPE = _PARTS
_LAST_LAYER, _PAPER = "last layer alone", "paper preset"


def show_editor(view: StudyView, editor: Editor, problem: Problem | None) -> None:
    """Shows what can be changed, part by part; a problem stands next to its field, on top where that is shut."""
    _show_start(view, editor)
    take = keep_value(_PART, _CONNECTORS)
    opened = st.session_state[_PART]
    if problem is not None and _find_part(problem.path) != opened:
        show_problem(problem.sentence)
    tabs = st.tabs(_PARTS, key=_PART, on_change=take)
    with tabs[_PARTS.index(opened)]:
        if opened == _CONNECTORS:
            _show_connectors(editor, problem)
        elif opened == _MODULES:
            st.caption("Of every connector that says nothing else.")
            show_module_fields(editor, problem)
        else:
            show_fields(editor, INPUT_FIELDS if opened == _INPUT else RECIPE_FIELDS, problem)


def _find_part(path: Path) -> str | None:
    """Returns the part that has a field, None where there is no field."""
    if path in INPUT_FIELDS:
        return _INPUT
    if path in RECIPE_FIELDS:
        return _RECIPE
    return {"connectors": _CONNECTORS, "module": _MODULES}.get(str(path[0])) if path else None


def _show_start(view: StudyView, editor: Editor) -> None:
    starts = list_starts(view, editor.given)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.session_state[_START] = None
        st.selectbox(
            "Start from",
            list(starts),
            index=None,
            placeholder=f"now: {editor.start_name}",
            key=_START,
            on_change=_take_start,
            args=(editor, starts),
            width=330,
            help="The design that is edited, and with which it is compared.",
        )
        steps = len(editor.steps)
        st.button(f"Undo ({steps})" if steps else "Undo", disabled=not steps, on_click=undo, args=(editor,), key="undo")
        st.button("Back to the start", on_click=use_design, args=(editor, editor.start), key="to-start")


def list_starts(view: StudyView, given: Design) -> dict[str, Design]:
    """Returns what an edit may begin with, by its name: presets on the given design's backbone, and trained ones."""
    starts = {_LAST_LAYER: repnet_search.get_preset("smallest", given)}
    starts[_PAPER] = repnet_search.get_preset("paper", given)
    winner = view.choose_winner()
    if winner is not None:
        starts = {f"winner {winner.short_id}": winner.design} | starts
    for record in list_notable(view):
        size = repnet_search.format_size(record.ram_bytes)
        starts[f"{record.short_id} · {size} · {format_accuracy(view, record)}"] = record.design
    return starts


def _take_start(editor: Editor, starts: dict[str, Design]) -> None:
    chosen = st.session_state[_START]
    if chosen in starts:
        start_from(editor, starts[chosen], name=chosen)


def _show_connectors(editor: Editor, problem: Problem | None) -> None:
    blocks = list_blocks(editor)
    connectors = editor.values["connectors"]
    if not connectors:
        show_note("None: the last layer alone is trained.")
    for index in range(len(connectors)):
        with st.container(border=True, key=f"connector-{index}"):
            show_connector(editor, index, blocks, problem)
    st.button("Add a connector", key="add-connector", on_click=partial(add_connector, editor, list(blocks)))


def list_blocks(editor: Editor) -> dict[int, str]:
    """Returns the blocks after which a connector may sit, with their maps (C×H×W), of the last valid design."""
    design = editor.valid or editor.start
    try:
        table = repnet_search.resolve(repnet_search.get_preset("smallest", design)).table
    except RepnetSearchError:
        return {}
    element_bytes = design.activation_bits // 8
    blocks = {}
    for index, (block, side) in enumerate(zip(table.blocks, table.output_sizes(design.resolution), strict=True)):
        if not block.is_identity:
            size = repnet_search.format_size(block.channels * side * side * element_bytes)
            blocks[index] = f"{block.channels}×{side}×{side} · {size}"
    return blocks
