"""What if: change any field of a design, or the device, and see at once what training it takes."""

from __future__ import annotations

import shlex
from typing import Final

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

import repnet_search
from repnet_search import Design, MemoryExplanation, RepnetSearchError, StudyView

from .parts import show_note
from .step_view import create_fitting_plan, show_step
from .what_if_device import Target, show_device
from .what_if_editor import show_editor
from .what_if_results import describe, show_answer, show_elsewhere, show_known, show_nearest, show_numbers, show_terms
from .what_if_state import Editor, Problem, open_editor, read_design

_STICKY: Final = """<style>
div:has(> .st-key-what-if-top) { position: sticky; top: 0; z-index: 90; }
.st-key-what-if-top {
    padding: 0.5rem 0;
    background: light-dark(#FFFFFF, #171614);
}
</style>"""
"""The answer stays in sight while fields below it are changed, on the page's background, of .streamlit/config.toml."""


@st.fragment
def show_what_if(view: StudyView, design: Design) -> None:
    """Shows an editor that begins with a design of the study, and what the edited one takes.

    A fragment: a change runs this page alone, not the reading of the studies.
    """
    try:
        _show_page(view, design)
    except RepnetSearchError as error:  # a study of another version may hold a design or a board that is unknown here
        show_note(str(error))


def _show_page(view: StudyView, design: Design) -> None:
    name = f"design {repnet_search.resolve(design).short_id}"
    editor = open_editor(view, design, name=name)
    classes = view.settings.data.classes
    st.html(_STICKY)
    top, below = st.container(key="what-if-top"), st.container()
    left, right = st.columns([5, 6], gap="large")
    with left:
        st.subheader("Device")
        target = show_device(view)
        st.subheader("Design")
        read = read_design(editor.values, classes=classes, schedule=target.schedule)
        problem = read if isinstance(read, Problem) else None
        if not isinstance(read, Problem):
            editor.valid = read[0]
        show_editor(view, editor, problem)
    shown = _show_top(editor, target, read, (top, below), classes=classes)
    if shown is not None:
        with right:
            _show_results(view, editor, target, shown, classes=classes)
        show_elsewhere(shown, target, classes=classes)


def _show_top(
    editor: Editor,
    target: Target,
    read: tuple[Design, MemoryExplanation] | Problem,
    places: tuple[DeltaGenerator, DeltaGenerator],
    *,
    classes: int,
) -> MemoryExplanation | None:
    """Shows the numbers of the edited design, of the last valid one where it is none; returns what they are of."""
    top, below = places
    if not isinstance(read, Problem):
        explained = read[1]
    else:
        last = _explain(editor.valid or editor.start, target, classes=classes)
        if last is None:
            return None
        explained = last
    fit = repnet_search.check_fit(explained, target.limits)
    start = _explain(editor.start, target, classes=classes)
    with top:
        show_answer(explained, start, target, fit)
        if isinstance(read, Problem):
            st.badge("not valid: the numbers of the last valid design", color="red")
        if target.problems:
            st.badge(f"not valid, so left out: {', '.join(target.problems)}", color="red")
    with below:
        show_numbers(explained, start)
        show_note(describe(explained, fit, target))
    return explained


def _explain(design: Design, target: Target, *, classes: int) -> MemoryExplanation | None:
    try:
        return repnet_search.explain_memory(repnet_search.resolve(design), classes=classes, schedule=target.schedule)
    except RepnetSearchError:
        return None


def _show_results(
    view: StudyView, editor: Editor, target: Target, explained: MemoryExplanation, *, classes: int
) -> None:
    design = editor.valid or editor.start
    start = _explain(editor.start, target, classes=classes)
    show_terms(explained, start, start_name=editor.start_name)
    show_known(view, explained)
    nearest = st.container()  # filled last: a search of a second must not hold up the rest
    _show_file(view, design, target)
    fit = repnet_search.check_fit(explained, target.limits)
    show_step(
        explained,
        key="what-if",
        name="edited",
        budget_bytes=target.limits.ram_bytes,
        compared=start,
        plan=create_fitting_plan(explained, target.limits, classes=classes),
        in_tabs=True,
    )
    with nearest:
        show_nearest(editor, design, target, classes=classes, fits=fit.fits)


def _show_file(view: StudyView, design: Design, target: Target) -> None:
    st.subheader("Train it")
    text = repnet_search.design_to_yaml(design)
    name = f"design-{repnet_search.resolve(design).short_id}.yaml"
    st.download_button(
        "Download YAML", text, file_name=name, mime="application/yaml", on_click="ignore", key="what-if-yaml"
    )
    with st.expander("The command, and the file", key="what-if-train", on_change="rerun") as shown:
        if shown.open:
            st.code(train_command(view, name, target), language="bash", wrap_lines=True)
            st.code(text, language="yaml", wrap_lines=True)


def train_command(view: StudyView, file_name: str, target: Target) -> str:
    """Returns the command that trains a design file as the study trained its designs."""
    settings = view.settings
    training = settings.training
    parts = [
        f"repnet-search train {shlex.quote(file_name)} {target.options} --schedule {target.schedule.value}",
        f"--epochs {training.epochs} --views {training.views} --metric {training.metric.value}",
    ]
    if settings.data.name != "digits":
        parts.append("--data IMAGES --weights WEIGHTS")
    return " ".join(parts)
