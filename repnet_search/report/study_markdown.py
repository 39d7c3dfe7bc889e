"""A report as Markdown: one file of text, in which the numbers of each figure stand instead of it.

Figures of text alone, because drawing each a second time, as PNG, would be a second truth beside the HTML report.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from repnet_search.report.study_parts import Code, Items, Paragraph, Part, Picture, StudyReport, Table

_SIGNS = re.compile(r"([\\`*\[\]|~$])")
_OUTER_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_LINE_START = re.compile(r"^(\d*)([#>+.)-])(?=\s|$)")


def write_markdown(report: StudyReport) -> str:
    """Returns the report as Markdown."""
    blocks = [f"# {_escape(report.title)}", f"*{_escape(report.question)}*"]
    for section in report.sections:
        blocks.append(f"## {_escape(section.title)}")
        for part in section.parts:
            blocks.extend(_write(part))
    return "\n\n".join([*blocks, f"{_escape(report.origin)}."]) + "\n"


def _write(part: Part) -> Iterator[str]:
    if isinstance(part, Paragraph):
        text = _escape(part.text)
        yield f"**{text}**" if part.stands_out else text
    elif isinstance(part, Items):
        yield "\n".join(f"- {_escape(text)}" for text in part.texts)
    elif isinstance(part, Table):
        yield from _write_table(part)
    elif isinstance(part, Code):
        yield _write_code(part)
    else:
        yield from _write_picture(part)


def _write_picture(picture: Picture) -> Iterator[str]:
    """Yields a figure's numbers, with what is said of it."""
    yield f"### {_escape(picture.title)}"
    yield from _write_table(picture.numbers)
    yield _escape(picture.caption)


def _write_table(table: Table) -> Iterator[str]:
    if table.title:
        yield f"{_escape(table.title)}:"
    rule = ["--:" if heading in table.numbers else "---" for heading in table.headings]
    lines = [_write_row(table.headings), f"|{'|'.join(rule)}|"]
    for index, row in enumerate(table.rows):
        lines.append(_write_row(row, strong=index == table.strong))
    yield "\n".join(lines)


def _write_row(cells: Sequence[str], *, strong: bool = False) -> str:
    texts = [_escape(cell) for cell in cells]
    return f"| {' | '.join(f'**{text}**' if strong and text else text for text in texts)} |"


def _write_code(code: Code) -> str:
    """Returns a fence that nothing in the text can close."""
    longest = max((len(run) for run in re.findall(r"`+", code.text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{code.language}\n{code.text.rstrip()}\n{fence}"


def _escape(text: str) -> str:
    """Returns a text that Markdown shows as it is, on one line."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    escaped = _OUTER_UNDERSCORE.sub(r"\\_", _SIGNS.sub(r"\\\1", line))
    return _LINE_START.sub(r"\1\\\2", escaped)
