"""A report as a file: HTML that loads nothing, Markdown that shows names as they are, the command that writes both."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from repnet_search.cli.main import run_cli
from repnet_search.report.study_html import write_html
from repnet_search.report.study_markdown import write_markdown
from repnet_search.report.study_parts import Code, Items, Paragraph, Section, StudyReport, Table
from repnet_search.report.study_report import create_report
from repnet_search.spec import files
from tests.report.made_study import BEST, LAST_LAYER, RUNNING, make_settings, make_view, save_view

EVIL = '<img src="http://a.example/x.png" onerror=alert(1)></script>**b** [c](http://d.example) |e| `f`'
CONFIRMED = {LAST_LAYER: (0.80, 0.81, 0.82), BEST: (0.89, 0.90, 0.91)}
VOID = {"meta", "img", "br", "link", "input", "wbr"}


class Reader(HTMLParser):
    """Collects the elements of a page with their attributes, the texts, and what is left open."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self.open and self.open[-1] == "script" else self.texts).append(data)


@pytest.fixture(scope="module")
def page() -> Reader:
    """A report as HTML, of a study whose names are full of markup."""
    view = make_view(name=EVIL, confirmed=CONFIRMED, tested=True, settings=make_settings(data=EVIL))
    reader = Reader()
    reader.feed(write_html(create_report(view)))
    reader.close()
    return reader


def test_the_page_is_whole_and_has_its_figures(page: Reader) -> None:
    assert page.open == []
    plots = [attributes for _, attributes in page.elements if attributes.get("class") == "plot"]
    assert len(plots) == 5
    assert all(attributes["aria-label"] for attributes in plots)
    assert [tag for tag, _ in page.elements].count("figcaption") == len(plots)
    specs = [json.loads(text) for text in page.scripts if text.startswith("{")]
    assert len(specs) == len(plots)
    assert not any("layout" in spec["layout"].get("template", {}) for spec in specs)  # the colours are the page's


def test_the_page_loads_nothing(page: Reader) -> None:
    for tag, attributes in page.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed")
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    (style,) = [text for text in page.texts if "prefers-color-scheme" in text]
    assert "@import" not in style
    assert "url(" not in style
    policies = [attributes["content"] for _, attributes in page.elements if "http-equiv" in attributes]
    assert len(policies) == 1
    assert policies[0] is not None
    assert policies[0].startswith("default-src 'none'")


def test_names_with_markup_are_text(page: Reader) -> None:
    assert f"Study {EVIL}" in page.texts
    assert not any("onerror" in text for text in page.scripts if len(text) < 100_000)


def test_markdown_shows_names_as_they_are() -> None:
    report = StudyReport(
        "Study *a*_b_",
        "<b>?",
        (
            Section(
                "1. c_d",
                (
                    Paragraph("# e", stands_out=True),
                    Paragraph("2. f\ng"),
                    Items(("- h", "256.0 KiB")),
                    Table(("i|j", "n"), (("`k`", "1"),), ("n",), strong=0),
                    Code("```\nl", "sh"),
                ),
            ),
        ),
        "by us",
    )
    assert write_markdown(report).split("\n\n") == [
        r"# Study \*a\*\_b\_",
        "*&lt;b>?*",
        r"## 1\. c_d",
        r"**\# e**",
        r"2\. f g",
        "- \\- h\n- 256.0 KiB",
        "| i\\|j | n |\n|---|--:|\n| **\\`k\\`** | **1** |",
        "````sh\n```\nl\n````",
        "by us.\n",
    ]


def test_markdown_has_every_section_and_no_markup_of_names() -> None:
    report = create_report(make_view(name=EVIL, confirmed=CONFIRMED, settings=make_settings(data=EVIL)))
    text = write_markdown(report)
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert "<img" not in outside
    assert re.search(r"(?<!\\)\]\(http", outside) is None
    assert [line for line in outside.splitlines() if line.startswith("## ")] == [
        f"## {item.title}" for item in report.sections
    ]


def test_the_command_writes_a_file_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = save_view(make_view(confirmed=CONFIRMED), tmp_path / "journal.log")
    to = tmp_path / "out.md"
    command = ["report", "--study", "first", "--storage", storage, "--to", str(to)]
    assert run_cli(command) == 0
    first = to.read_text(encoding="utf-8")
    assert "90.0 ± 2.5 %" in first
    assert run_cli(command) == 1
    assert "--force" in capsys.readouterr().err
    to.write_text("old", encoding="utf-8")
    assert run_cli([*command, "--force"]) == 0
    assert to.read_text(encoding="utf-8").startswith("# Study first")


def test_a_report_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = save_view(make_view(), tmp_path / "journal.log")
    to = tmp_path / "out.md"
    to.write_text("old", encoding="utf-8")

    def fail(handle: int, mode: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fdopen", fail)
    assert run_cli(["report", "--study", "first", "--storage", storage, "--to", str(to), "--force"]) == 1
    monkeypatch.undo()
    assert to.read_text(encoding="utf-8") == "old"
    assert sorted(path.name for path in tmp_path.glob("*.md*")) == ["out.md"]


@pytest.mark.parametrize(
    ("name", "to", "code", "words"),
    [
        ("first", "out.pdf", 2, ".html or .md"),
        ("first", "missing/out.md", 1, "There is no folder"),
        ("first", "folder.md", 1, "is a folder"),
        ("frist", "out.md", 1, "first"),
        ("empty", "out.md", 1, "no trained design yet"),
    ],
)
def test_what_cannot_be_written_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, to: str, code: int, words: str
) -> None:
    storage = save_view(make_view(), tmp_path / "journal.log")
    save_view(make_view(name="empty", records=(RUNNING,)), tmp_path / "journal.log")
    (tmp_path / "folder.md").mkdir()
    assert run_cli(["report", "--study", name, "--storage", storage, "--to", str(tmp_path / to)]) == code
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
