"""Where the reader is: page, study and design. The URL holds it, so that every view can be linked and gone back to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlencode

import streamlit as st

from repnet_search import Outcome, StudyView, TrialRecord

MOST_COMPARED: Final = 4
_NO_DESIGNS: Final = "none"
"""What the URL says of a comparison that was cleared."""


class Page(StrEnum):
    """The pages, in the order of the bar; the value stands in the URL."""

    STUDIES = "studies"
    FRONT = "front"
    DESIGN = "design"
    WHAT_IF = "what-if"
    COMPARE = "compare"
    WHAT_MATTERS = "what-matters"
    TRIALS = "trials"

    @property
    def label(self) -> str:
        """What the bar calls it."""
        return self.value.replace("-", " ").capitalize()


@dataclass(frozen=True, slots=True)
class Place:
    """What the URL says: a page, names as they stand there, known or not; None is what it does not say."""

    page: Page | None
    study: str | None
    design: str | None
    compared: tuple[str, ...] | None
    part: str | None


def read_place() -> Place:
    """Returns where the URL leads; a page that there is not is none."""
    wanted, given = st.query_params, st.query_params.get("page")
    named = tuple(part for part in wanted.get("compare", "").split(",") if part not in ("", _NO_DESIGNS))
    compared = named[:MOST_COMPARED] if "compare" in wanted else None
    page = Page(given) if given in {page.value for page in Page} else None
    return Place(page, wanted.get("study"), wanted.get("design"), compared, wanted.get("part"))


def go_to(
    *,
    page: Page | None = None,
    study: str | None = None,
    design: str | None = None,
    compared: Sequence[str] | None = None,
    part: str | None = None,
) -> None:
    """Changes what is named and keeps the rest; another study leaves the old one's designs behind, another page parts.

    For callbacks: what the script writes runs after them.
    """
    place = read_place()
    is_other = study is not None and study != place.study
    chosen = compared if compared is not None or is_other else place.compared
    values = {
        "page": page or place.page,
        "study": study or place.study,
        "design": design or (None if is_other else place.design),
        "compare": ",".join(chosen) or _NO_DESIGNS if chosen is not None else None,
        "part": part or (place.part if page in (None, place.page) else None),
    }
    st.query_params.from_dict({name: str(value) for name, value in values.items() if value})


def link_to(*, page: Page, study: str) -> str:
    """Returns the URL of a view, relative to the browser's own.

    >>> link_to(page=Page.FRONT, study="a b")
    '?page=front&study=a+b'
    """
    return "?" + urlencode({"page": page.value, "study": study})


def find_record(view: StudyView, design: str | None) -> TrialRecord | None:
    """Returns the trial that a URL means by the start of a design's id or by its number, a trained one first."""
    if design is None:
        return None
    found = [record for record in view.records if record.design_id.startswith(design)] if len(design) >= 6 else []
    if not found:
        found = [record for record in view.records if str(record.number) == design]
    return next((record for record in found if record.outcome is Outcome.TRAINED), found[0] if found else None)


def name_record(view: StudyView, record: TrialRecord) -> str:
    """Returns how a URL names a trial: by its design, unless that leads to another trial of the same one."""
    found = find_record(view, record.short_id)
    return record.short_id if found is not None and found.number == record.number else str(record.number)


def selected_record(view: StudyView) -> TrialRecord | None:
    """Returns the design of the URL, else the study's best, else its first trial; None where there is none."""
    found = find_record(view, read_place().design) or view.choose_winner()
    return found or (view.records[0] if view.records else None)
