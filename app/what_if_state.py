"""The design under edit as plain values, how it changed, and what the model says of it."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from typing import Any, Final

import streamlit as st

import repnet_search
from repnet_search import Design, MemoryExplanation, RepnetSearchError, Schedule, StudyView

Values = dict[str, Any]
Path = tuple[str | int, ...]
"""Where a value is in a design: ("recipe", "lr"), ("connectors", 2, "width")."""

_KEY: Final = "what-if"
_MOST_STEPS: Final = 100
_SOURCE: Final = "design"
_HINTS: Final = (
    ("--width-mult", ("backbone", "width_mult")),
    ("--last-conv", ("backbone", "last_conv")),
    ("backbone must be one of", ("backbone", "name")),
    ("image_pool", ("image_pool",)),
    ("activation_bits", ("activation_bits",)),
    ("resolution", ("resolution",)),
    ("module_input", ("module_input",)),
)
"""Words of sentences that name no path, and the fields that they are about."""


@dataclass
class Editor:
    """The design under edit.

    Args:
        given: what the page was opened with.
        start: the design that it is compared with.
        start_name: what that is.
        values: the design as it stands, valid or not.
        steps: what it was before each change, the oldest first.
        valid: the last valid one.
    """

    given: Design
    start: Design
    start_name: str
    values: Values
    steps: list[Values] = field(default_factory=list)
    valid: Design | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the values are no design: the model's own sentence, and the field that it is about (() where none is)."""

    sentence: str
    path: Path


def open_editor(view: StudyView, design: Design, *, name: str) -> Editor:
    """Returns the session's editor of a study's design, as it was left."""
    editors: dict[tuple[str, Design], Editor] = st.session_state.setdefault(_KEY, {})
    if (view.name, design) not in editors:
        editors[view.name, design] = Editor(design, design, name, to_values(design))
    return editors[view.name, design]


def to_values(design: Design) -> Values:
    """Returns a design as plain values; None in a connector is what it leaves to `module`."""
    return design.model_dump(mode="json")


def get_value(values: Values, path: Path) -> Any:
    """Returns a value of a design."""
    found: Any = values
    for part in path:
        found = found[part]
    return found


def change(editor: Editor, path: Path, value: Any) -> None:
    """Changes a value; connectors stay in the order of their blocks."""
    values = copy.deepcopy(editor.values)
    try:
        place = get_value(values, path[:-1])
    except IndexError:  # a field of a connector that has just been taken away reports once more
        return
    place[path[-1]] = value
    if path[-1] == "after_block":
        values["connectors"].sort(key=lambda connector: connector["after_block"])
    _replace(editor, values)


def add_connector(editor: Editor, blocks: list[int]) -> None:
    """Adds a connector after the first of these blocks that is behind all connectors, else after the last free one."""
    taken = {connector["after_block"] for connector in editor.values["connectors"]}
    free = [block for block in blocks if block not in taken]
    if not free:
        return
    block = next((block for block in free if block > max(taken, default=free[-1])), free[-1])
    values = copy.deepcopy(editor.values)
    values["connectors"].append(repnet_search.Connector(after_block=block).model_dump(mode="json"))
    values["connectors"].sort(key=lambda connector: connector["after_block"])
    _replace(editor, values)


def remove_connector(editor: Editor, index: int) -> None:
    """Takes a connector away."""
    values = copy.deepcopy(editor.values)
    del values["connectors"][index : index + 1]  # a second click on the last one finds none
    _replace(editor, values)


def use_design(editor: Editor, design: Design) -> None:
    """Puts another design in place of the values; a step that can be undone."""
    _replace(editor, to_values(design))


def start_from(editor: Editor, design: Design, *, name: str) -> None:
    """Begins with another design, with which the edited one is compared from now on."""
    editor.start, editor.start_name = design, name
    _replace(editor, to_values(design))


def undo(editor: Editor) -> None:
    """Takes the last change back."""
    if editor.steps:
        editor.values = editor.steps.pop()


def _replace(editor: Editor, values: Values) -> None:
    if values != editor.values:
        editor.steps = [*editor.steps, editor.values][-_MOST_STEPS:]
        editor.values = values


def read_design(values: Values, *, classes: int, schedule: Schedule) -> tuple[Design, MemoryExplanation] | Problem:
    """Returns the design that values mean with its memory, or why they are none."""
    try:
        design = repnet_search.validate_spec(Design, values, source=_SOURCE)
        resolved = repnet_search.resolve(design)
        return design, repnet_search.explain_memory(resolved, classes=classes, schedule=schedule)
    except RepnetSearchError as error:
        sentence = str(error).removeprefix(f"{_SOURCE}: ")
        return Problem(sentence, find_path(sentence))


def find_path(sentence: str) -> Path:
    """Returns the field that an error's sentence is about, () where it names none.

    >>> find_path("connectors[2].kernel must be an odd number, but got 4.")
    ('connectors', 2, 'kernel')
    >>> find_path("recipe.lr must be greater than 0, but got 0.")
    ('recipe', 'lr')
    """
    connector = re.search(r"connectors\[(\d+)\](?:\.(\w+))?", sentence)
    if connector is not None:
        words = (word for word in ("groups", "norm") if word in sentence)
        return "connectors", int(connector[1]), connector[2] or next(words, "after_block")
    named = re.match(r"(backbone|module|recipe)\.(\w+)", sentence)
    if named is not None:
        return named[1], named[2]
    return next((path for words, path in _HINTS if words in sentence), ())
