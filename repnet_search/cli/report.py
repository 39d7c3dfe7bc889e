"""`repnet-search report`: a study as one file for who was not there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from repnet_search.cli.options import storage_option

if TYPE_CHECKING:
    from repnet_search.results.study import StudyView
    from repnet_search.search.importance import StudyImportance

_SUFFIXES = (".html", ".md")


@click.command(short_help="Write what a study found, and what it rests on, as a file.")
@click.option("--study", required=True, metavar="NAME", help="The study to report.")
@click.option(
    "--to",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="FILE.html: one page with its figures, which opens without a network. FILE.md: the same as text.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@storage_option
def report(*, study: str, to: Path, force: bool, storage: str | None) -> None:
    """Write what a study found, and what that rests on, as one file.

    The answer first; then setting, funnel, front, the winner with its memory, the confirmation with intervals,
    baselines, smaller budgets, when not to use a Rep-Net, and the command that makes the study again.
    """
    from repnet_search.report.study_markdown import write_markdown
    from repnet_search.report.study_report import create_report
    from repnet_search.results.study import load_study
    from repnet_search.spec.files import save_text
    from repnet_search.units import format_size

    suffix = _check_place(to, force=force)
    view = load_study(study, storage=storage)
    content = create_report(view, importance=_measure_importance(view, storage))
    if suffix == ".html":
        from repnet_search.report.study_html import write_html

        text = write_html(content)
    else:
        text = write_markdown(content)
    save_text(to, text)
    print(f"The report of study {study} is in {to} ({format_size(len(text.encode()))}).")


def _check_place(to: Path, *, force: bool) -> str:
    """Returns the suffix of the file to write.

    Raises:
        UsageError: another suffix.
        RepnetSearchError: the file is there, or has no folder.
    """
    from repnet_search.errors import RepnetSearchError, UsageError

    suffix = to.suffix.lower()
    if suffix not in _SUFFIXES:
        raise UsageError(f"A report is written as {' or '.join(_SUFFIXES)}, but got {str(to)!r}.")
    if to.is_dir():
        raise RepnetSearchError(f"A report is a file, but {to} is a folder; name another file.")
    if not to.parent.is_dir():
        raise RepnetSearchError(f"There is no folder {to.parent} for the report; make it first, or use another one.")
    if to.exists() and not force:
        raise RepnetSearchError(f"The file {to} is there already; replace it with --force, or name another one.")
    return suffix


def _measure_importance(view: StudyView, storage: str | None) -> StudyImportance | None:
    """Returns what matters in a study, None where too little was trained to tell."""
    from repnet_search.cli.render import create_console
    from repnet_search.results.front import trained
    from repnet_search.results.record import BASELINES
    from repnet_search.results.storage import load_optuna_study, open_storage
    from repnet_search.search.importance import FEWEST_TRAININGS, measure_importance

    searched = [record for record in trained(view.records) if record.origin not in BASELINES]
    if len(searched) < FEWEST_TRAININGS:
        return None
    with create_console(stderr=True).status("Measuring what matters …"):  # of thousands of trainings, minutes
        return measure_importance(load_optuna_study(view.name, open_storage(storage)))
