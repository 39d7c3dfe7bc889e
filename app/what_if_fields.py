"""The fields of a design as widgets, each with the model's sentence below it where its value is not valid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import streamlit as st

import repnet_search
from repnet_search import Exchange, ModuleInput, Norm, Optimizer

from .parts import show_note
from .what_if_device import show_problem
from .what_if_state import Editor, Path, Problem, change, get_value, remove_connector

_WIDTH: Final = 148
_POPOVER: Final = 380
"""Of a module's own fields: three in a row."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field's widget.

    Args:
        label: above it.
        choices: of a selector; () of a number.
        step: of a number; a float where the field is one.
        is_switch: whether it is on or off.
        open: whether a selector takes other values than its choices.
        help: what it means.
    """

    label: str
    choices: tuple[Any, ...] = ()
    step: int | float = 1
    is_switch: bool = False
    open: bool = False
    help: str | None = None


INPUT_FIELDS: Final[dict[Path, Field]] = {
    ("backbone", "name"): Field("Backbone", repnet_search.list_backbones(), help="Frozen: its weights never train."),
    ("backbone", "width_mult"): Field("Backbone's width", step=0.05),
    ("resolution",): Field("Image side (px)", step=8),
    ("activation_bits",): Field("Activation bits", (32, 8), help="Of the frozen backbone: 32 is fp32, 8 is int8."),
    ("image_pool",): Field("Image pool", (1, 2, 4, 8), help="The first module reads the image pooled by this."),
    ("module_input",): Field("Modules read", tuple(ModuleInput), help="Behind the first one."),
    ("backbone", "last_conv"): Field("Last convolution", is_switch=True),
    ("train_bias",): Field("Train biases", is_switch=True, help="All backbone biases too."),
}
RECIPE_FIELDS: Final[dict[Path, Field]] = {
    ("recipe", "optimizer"): Field("Optimizer", tuple(Optimizer), help="Its state counts as training memory."),
    ("recipe", "accumulate"): Field("Images per update", help="More than 1 keeps a gradient per parameter."),
    ("recipe", "lr"): Field("Learning rate", step=0.0001),
    ("recipe", "head_lr_ratio"): Field("Head's rate ×", step=0.5),
}
_MODULE_FIELDS: Final = {
    "width": Field("Width", step=0.25, help="Mid channels, as a multiple of the module's input channels."),
    "depth": Field("Depth", help="k×k convolutions; 0 is a 1×1 convolution alone."),
    "kernel": Field("Kernel", step=2),
    "groups": Field("Groups", (1, 2, 4, 8, "depthwise"), open=True),
    "pool": Field("Pool", help="What the module's input is pooled by."),
    "norm": Field("Norm", tuple(Norm)),
    "weight_standardisation": Field("Weight std.", (False, True)),
}


def show_fields(editor: Editor, fields: dict[Path, Field], problem: Problem | None) -> None:
    """Shows fields in rows as wide as there is room, with the problem of one of them below."""
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        for path, item in fields.items():
            _show_field(editor, path, item, inherited=None)
    if problem is not None and problem.path in fields:
        show_problem(problem.sentence)


def show_module_fields(editor: Editor, problem: Problem | None) -> None:
    """Shows the module fields that connectors share."""
    show_fields(editor, {("module", name): item for name, item in _MODULE_FIELDS.items()}, problem)


def show_connector(editor: Editor, index: int, blocks: dict[int, str], problem: Problem | None) -> None:
    """Shows a connector's fields, those of its own module behind a button; an empty one is what `module` says.

    Args:
        editor: the design under edit.
        index: the connector's place.
        blocks: the blocks of the backbone after which a connector may sit, with their maps.
        problem: of the design, shown here where it is about this connector.
    """
    path: Path = ("connectors", index)
    block, module = get_value(editor.values, (*path, "after_block")), _describe_module(editor, path)
    show_note(f"m{index + 1} after block {block}{module and f': {module}'}")  # groups may be any text that was typed
    own = blocks | {block: "no block of this backbone"} | blocks
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        after = Field("After block", tuple(own))
        _show_field(editor, (*path, "after_block"), after, inherited=None, labels=own, width=190)
        _show_field(editor, (*path, "exchange"), Field("Exchange", tuple(Exchange)), inherited=None)
        # One name for good: a new one would shut it.
        with st.popover("Module", key=f"{key_of(path)}-module", on_change="rerun") as popover:
            if popover.open:
                _show_own_module(editor, path)
        st.button("Remove", key=f"remove-{index}", on_click=remove_connector, args=(editor, index), type="tertiary")
    if problem is not None and problem.path[:2] == path:
        show_problem(problem.sentence)


def _show_own_module(editor: Editor, path: Path) -> None:
    st.caption("What it does unlike the other modules; an empty field is as in theirs.")
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom", width=_POPOVER):
        for name, item in _MODULE_FIELDS.items():
            _show_field(editor, (*path, name), item, inherited=editor.values["module"][name], width=112)


def _describe_module(editor: Editor, path: Path) -> str:
    """Returns the fields in which a connector's module differs from the others, in words; "" where there are none."""
    values = {item.label: get_value(editor.values, (*path, name)) for name, item in _MODULE_FIELDS.items()}
    return ", ".join(f"{label.lower()} {_text(value)}" for label, value in values.items() if value is not None)


def key_of(path: Path) -> str:
    """Returns the key of a field's widget."""
    return "-".join(["what-if", *map(str, path)])


def _show_field(
    editor: Editor,
    path: Path,
    item: Field,
    *,
    inherited: Any,
    labels: dict[int, str] | None = None,
    width: int = _WIDTH,
) -> None:
    """Shows a field's widget; `inherited` is what an empty one means, None where it cannot be empty."""
    key, value = key_of(path), get_value(editor.values, path)
    st.session_state[key] = value
    taken: dict[str, Any] = {"key": key, "on_change": _take, "args": (editor, path), "help": item.help}
    empty = None if inherited is None else _text(inherited)
    if item.is_switch:
        st.toggle(item.label, **taken)
    elif item.choices:
        choices = item.choices if value is None or value in item.choices else (*item.choices, value)
        st.selectbox(
            item.label,
            choices,
            index=0 if inherited is None else None,  # without an index it can be emptied
            format_func=lambda choice: _label(choice, labels),
            placeholder=empty or "choose",
            accept_new_options=item.open,
            width=width,
            **taken,
        )
    else:
        st.number_input(
            item.label,
            value="min" if inherited is None else None,
            step=item.step,
            format="%g" if isinstance(item.step, float) else "%d",
            placeholder=empty,
            width=width,
            **taken,
        )


def _take(editor: Editor, path: Path) -> None:
    value = st.session_state[key_of(path)]
    if isinstance(value, str) and value.isdecimal():  # typed into an open selector
        value = int(value)
    change(editor, path, str(value) if isinstance(value, (ModuleInput, Norm, Optimizer, Exchange)) else value)


def _label(choice: Any, labels: dict[int, str] | None) -> str:
    return f"{choice} · {labels[choice]}" if labels and choice in labels else _text(choice)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
