"""A report as one HTML page with everything inside: figures, style, plotly.js; it opens without a network.

Its content security policy forbids the page to load anything, so that a name of the user's could not either.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from itertools import count

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from repnet_search.report.study_page import DRAW_FIGURES, POLICY, STYLE
from repnet_search.report.study_parts import Code, Items, Paragraph, Part, Picture, StudyReport, Table

_BEFORE_UNIT = re.compile(r"(?<=\d) (?=%|±|KiB|MiB|px|bytes)|(?<=±) ")

_LONG_PIECE = re.compile(r"(.{16})")
_LONGEST_WORD = 40
_FEW_COLUMNS = 3


def write_html(report: StudyReport) -> str:
    """Returns the report as one page."""
    body = "\n".join(_write_body(report))
    title = _escape(report.title)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n{body}\n<script>{get_plotlyjs()}</script>\n<script>{DRAW_FIGURES}</script>\n</body>\n</html>\n"
    )


def _write_body(report: StudyReport) -> Iterator[str]:
    numbers = count(1)
    yield f"<header><h1>{_escape(report.title)}</h1><p>{_escape(report.question)}</p></header>"
    links = (f'<a href="#s{index}">{_escape(item.title)}</a>' for index, item in enumerate(report.sections))
    yield f"<nav>{' '.join(links)}</nav>\n<main>"
    for index, section in enumerate(report.sections):
        yield f'<section id="s{index}"><h2>{_escape(section.title)}</h2>'
        for part in section.parts:
            yield _write_picture(part, next(numbers)) if isinstance(part, Picture) else _write(part)
        yield "</section>"
    yield f"</main>\n<footer>{_escape(report.origin)}.</footer>"


def _write(part: Part) -> str:
    if isinstance(part, Paragraph):
        kind = ' class="answer"' if part.stands_out else ""
        return f"<p{kind}>{_escape(part.text)}</p>"
    if isinstance(part, Items):
        return f"<ul>{''.join(f'<li>{_escape(text)}</li>' for text in part.texts)}</ul>"
    if isinstance(part, Code):
        return f'<pre tabindex="0"><code>{html.escape(part.text.rstrip())}</code></pre>'
    return _write_table(part) if isinstance(part, Table) else ""


def _write_table(table: Table) -> str:
    """Returns a table in a box of its own; in a narrow window one of many columns becomes a list per row."""
    head = "".join(f'<th scope="col"{_align(table, name)}>{_escape(name)}</th>' for name in table.headings)
    rows = []
    for index, row in enumerate(table.rows):
        cells = "".join(_write_cell(table, *cell) for cell in zip(table.headings, row, strict=True))
        strong = ' class="strong"' if index == table.strong else ""
        rows.append(f"<tr{strong}>{cells}</tr>")
    title = f'<p class="title">{_escape(table.title)}</p>' if table.title else ""
    many = " many" if len(table.headings) > _FEW_COLUMNS else ""
    inner = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'{title}<div class="table{many}" tabindex="0"><table>{inner}</table></div>'


def _write_cell(table: Table, heading: str, text: str) -> str:
    """Returns a cell, which a hash does not make wider than a telephone."""
    is_hash = len(text) > _LONGEST_WORD and text.isalnum()
    shown = _LONG_PIECE.sub(r"\1<wbr>", text) if is_hash else _escape(text)
    return f'<td{_align(table, heading)} data-heading="{_escape(heading)}">{shown}</td>'


def _align(table: Table, heading: str) -> str:
    if heading in table.numbers:
        return ' class="number"'
    return "" if heading else ' class="bar"'


def _write_picture(picture: Picture, number: int) -> str:
    """Returns a figure with its caption; its numbers are folded away."""
    wide = " wide" if picture.is_wide else ""
    figure = picture.create()
    height = int(figure.layout.height or 450)
    return (
        f'<figure><h3>{_escape(picture.title)}</h3><div class="frame{wide}">'
        f'<div class="plot" id="figure-{number}" role="img" aria-label="{_escape(picture.alt)}" '
        f'style="height:{height}px"></div></div>'
        f'<script type="application/json" data-figure="figure-{number}">{_write_figure(figure)}</script>'
        f"<figcaption>{_escape(f'{picture.key} {picture.caption}'.strip())}</figcaption>"
        f"<details><summary>The numbers behind it</summary>{_write_table(picture.numbers)}</details></figure>"
    )


def _write_figure(figure: go.Figure) -> str:
    """Returns a figure as JSON that cannot end its script; its colours are the page's."""
    figure.update_layout(template=go.layout.Template())
    text: str = figure.to_json()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _escape(text: str) -> str:
    """Returns a text that a browser shows as it is; a number keeps its unit on its line."""
    return html.escape(_BEFORE_UNIT.sub("\N{NO-BREAK SPACE}", text))
