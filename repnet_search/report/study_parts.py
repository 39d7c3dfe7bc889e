"""What a report consists of, whatever it is written as: sections of paragraphs, tables, pictures and code.

All texts are plain: a name with markup in it is still a name, and whoever writes a report out escapes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go

_BAR_LETTERS = 24


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Some sentences; those that stand out say what the reader came for."""

    text: str
    stands_out: bool = False


@dataclass(frozen=True, slots=True)
class Items:
    """A list of sentences."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below headings.

    Args:
        headings: of the columns.
        rows: a text per column.
        numbers: the headings of columns of numbers, which stand right.
        title: above the table.
        strong: the index of the row that stands out.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[str, ...] = ()
    title: str = ""
    strong: int | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """Text that is copied as it is: a command, a file."""

    text: str
    language: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure, and in numbers what it shows, for whoever cannot see it.

    Args:
        create: makes the figure; not called where a report has no figures.
        title: what it is.
        key: how to read the figure; "" where it speaks for itself.
        caption: what holds of the figure and of its numbers.
        alt: what it shows, in words.
        numbers: behind it.
        is_wide: whether it needs more width than a telephone has.
    """

    create: Callable[[], go.Figure]
    title: str
    key: str
    caption: str
    alt: str
    numbers: Table
    is_wide: bool = False


Part = Paragraph | Items | Table | Code | Picture


@dataclass(frozen=True, slots=True)
class Section:
    """Parts below a title."""

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class StudyReport:
    """A report: its title, the question that it answers, its sections, and what wrote it."""

    title: str
    question: str
    sections: tuple[Section, ...]
    origin: str

    def parts(self) -> Iterator[Part]:
        """Yields the parts of all sections."""
        for section in self.sections:
            yield from section.parts


def draw_bar(share: float) -> str:
    """Returns a bar of text for a share in 0..1; whatever is not nothing is seen.

    >>> draw_bar(0.5), draw_bar(0.001), draw_bar(0)
    ('████████████', '▏', '')
    """
    if share <= 0:
        return ""
    return "█" * min(_BAR_LETTERS, round(_BAR_LETTERS * share)) or "▏"
