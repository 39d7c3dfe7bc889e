"""What the edited design is to fit: a budget or a board, a reserve, flash, and how the target runs the backbone."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Final

import streamlit as st

import repnet_search
from repnet_search import BOARD_RESERVE_BYTES, Board, DeviceLimits, RepnetSearchError, Schedule, StudyView

from .parts import show_note

BUDGET: Final = "a budget"
_KEY: Final = "what-if-device"
_KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """A device as it was chosen.

    Args:
        limits: what a design may take.
        board: None where a budget was given.
        schedule: how the frozen backbone runs.
        options: the command line's options that mean it.
        problems: the sentence of each field that means nothing; it counts as empty then.
    """

    limits: DeviceLimits
    board: Board | None
    schedule: Schedule
    options: str
    problems: dict[str, str] = field(default_factory=dict)


def show_device(view: StudyView) -> Target:
    """Shows the choice of a device, at first the study's own; returns it."""
    values = _values_of(view)
    boards = {board.name: board for board in repnet_search.list_boards()}
    with st.container(horizontal=True, gap="small"):
        _choose(values, "device", "Fit into", [BUDGET, *boards], width=200, labels=_label_boards(boards))
        if values["device"] == BUDGET:
            _write(values, "budget", "Budget", help_text="Training memory, such as 256KB.")
        _write(values, "reserve", "Reserve", help_text="RAM for stack, runtime and camera. Empty: 0, of a board 32KB.")
        _write(values, "flash", "Flash", help_text="A second limit. Empty: the board's, of a budget none.")
        schedules = [schedule.value for schedule in Schedule]
        _choose(values, "schedule", "Schedule", schedules, width=130, labels={})
    target = read_target(values)
    for sentence in target.problems.values():
        show_problem(sentence)
    if target.board is not None:
        show_note(_describe(target.board))
    return target


def show_problem(sentence: str) -> None:
    """Shows why a field is not valid, as plain text."""
    with st.container(horizontal=True, gap="small", vertical_alignment="top"):
        st.badge("not valid", color="red")
        st.text(sentence, width="stretch")


def read_target(values: dict[str, Any]) -> Target:
    """Returns what the values of the device's fields mean; a field that means nothing counts as empty."""
    problems: dict[str, str] = {}

    def read(name: str, *, zero: bool = False) -> int | None:
        text = str(values[name] or "").strip()
        try:
            return repnet_search.parse_size(text, zero=zero) if text else None
        except RepnetSearchError as error:
            problems[name] = f"{name}: {error}"
            return None

    board = None if values["device"] == BUDGET else repnet_search.get_board(values["device"])
    budget, flash = read("budget") if board is None else None, read("flash")
    reserve = read("reserve", zero=True)
    try:
        limits = _limits(board, budget or values["usual_bytes"], reserve, flash)
    except RepnetSearchError as error:
        problems["reserve"] = str(error)
        reserve = None
        limits = _limits(board, budget or values["usual_bytes"], None, flash)
    device = f"--board {board.name}" if board is not None else f"--budget {_size(budget or values['usual_bytes'])}"
    options = [device]
    options += [
        f"--{name} {_size(size)}" for name, size in (("reserve", reserve), ("flash", flash)) if size is not None
    ]
    return Target(limits, board, Schedule(values["schedule"]), " ".join(options), problems)


def _limits(board: Board | None, budget_bytes: int, reserve: int | None, flash: int | None) -> DeviceLimits:
    if board is None:
        left = budget_bytes - (reserve or 0)
        if left <= 0:
            raise RepnetSearchError(
                f"The reserve must be less than the budget of {repnet_search.format_size(budget_bytes)}, but is "
                f"{repnet_search.format_size(reserve or 0)}; lower it."
            )
        return DeviceLimits(left, flash)
    limits = DeviceLimits.of_board(board, reserve_bytes=BOARD_RESERVE_BYTES if reserve is None else reserve)
    return limits if flash is None else dataclasses.replace(limits, flash_bytes=flash)


def _values_of(view: StudyView) -> dict[str, Any]:
    """Returns the session's values, of a study that is new to it the study's own."""
    kept = st.session_state.get(_KEY)
    if kept is None or kept["study"] != view.name:
        kept = study_values(view) | {"study": view.name}
        st.session_state[_KEY] = kept
    found: dict[str, Any] = kept
    return found


def study_values(view: StudyView) -> dict[str, Any]:
    """Returns the fields' values that mean a study's own device."""
    settings = view.settings
    usual_reserve = 0 if settings.board is None else BOARD_RESERVE_BYTES  # what an empty field means
    own_flash = settings.board is None or settings.flash_bytes != repnet_search.get_board(settings.board).flash_bytes
    return {
        "device": settings.board or BUDGET,
        "budget": _size(settings.budget_bytes),
        "reserve": "" if settings.reserve_bytes == usual_reserve else _size(settings.reserve_bytes),
        "flash": _size(settings.flash_bytes) if own_flash and settings.flash_bytes is not None else "",
        "schedule": settings.schedule.value,
        "usual_bytes": settings.budget_bytes,
    }


def _size(size_bytes: int) -> str:
    return f"{size_bytes // _KIB}KB" if size_bytes % _KIB == 0 else str(size_bytes)


def _label_boards(boards: dict[str, Board]) -> dict[str, str]:
    return {board.name: f"{board.name} · {repnet_search.format_size(board.ram_bytes)}" for board in boards.values()}


def _describe(board: Board) -> str:
    regions = " + ".join(
        f"{region.name} {repnet_search.format_size(region.size_bytes)}" for region in board.ram_regions
    )
    fpu = "" if board.has_fpu else ", no FPU"
    note = f" {board.note[:1].upper()}{board.note[1:]}." if board.note else ""
    core = f"{board.core.name} at {board.clock_hz // 1_000_000} MHz{fpu}"
    return f"{board.title}: {regions}; {core} ({board.datasheet}).{note}"


def _choose(
    values: dict[str, Any], name: str, label: str, options: list[str], *, width: int, labels: dict[str, str]
) -> None:
    key = f"{_KEY}-{name}"
    st.session_state[key] = values[name]
    st.selectbox(
        label,
        options,
        key=key,
        on_change=_take,
        args=(name,),
        width=width,
        format_func=lambda option: labels.get(option, option),
    )


def _write(values: dict[str, Any], name: str, label: str, *, help_text: str) -> None:
    key = f"{_KEY}-{name}"
    st.session_state[key] = values[name]
    st.text_input(label, key=key, on_change=_take, args=(name,), width=110, help=help_text)


def _take(name: str) -> None:
    st.session_state[_KEY][name] = st.session_state[f"{_KEY}-{name}"]
