"""A study as a report for who was not there: content alone, whatever it is written as.

study_html.py and study_markdown.py write it out. The answer stands first, what it rests on behind it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

from repnet_search import __version__
from repnet_search.errors import StudyError
from repnet_search.report.study_advice import advice_section, limits_section
from repnet_search.report.study_answers import find_compared
from repnet_search.report.study_command import create_command, list_placeholders, needs_space_file
from repnet_search.report.study_compared import baselines_section, confirmation_section
from repnet_search.report.study_gain import describe_gain, format_points, measure_gain
from repnet_search.report.study_parts import Code, Items, Paragraph, Part, Section, StudyReport, Table
from repnet_search.report.study_sections import (
    budgets_section,
    front_section,
    funnel_section,
    importance_section,
    setting_section,
)
from repnet_search.report.study_winner import winner_section
from repnet_search.report.wording import describe_accuracy, describe_backbone, format_percent, format_runs
from repnet_search.results.record import Origin, Outcome, TrialRecord
from repnet_search.results.session import find_versions
from repnet_search.results.study import StudyView
from repnet_search.search.importance import StudyImportance
from repnet_search.spec.files import dump_yaml
from repnet_search.units import format_count, format_size


def create_report(
    view: StudyView, *, importance: StudyImportance | None = None, written: datetime | None = None
) -> StudyReport:
    """Returns the report of a study.

    Args:
        view: the study.
        importance: what matters in it; None where it has too few trainings.
        written: when; None means now.

    Raises:
        StudyError: nothing was trained yet, or nothing that fits.
    """
    winner = view.choose_winner()
    if winner is None:
        raise StudyError(f"The study {view.name!r} has no trained design yet; run it for longer.")
    sections = (
        _answer_section(view, winner),
        setting_section(view),
        funnel_section(view),
        front_section(view, winner),
        winner_section(view, winner),
        confirmation_section(view, winner),
        baselines_section(view, winner),
        budgets_section(view),
        importance_section(view, importance),
        advice_section(view, winner),
        limits_section(view),
        _command_section(view),
    )
    day = (written or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC")
    return StudyReport(f"Study {view.name}", _ask(view), sections, f"Written by repnet-search {__version__}, {day}")


def _ask(view: StudyView) -> str:
    settings = view.settings
    where = f"on the board {settings.board}" if settings.board is not None else "on a device"
    return (
        f"Which side network (Rep-Net) adapts a frozen {settings.backbone.name} best to the {settings.data.classes} "
        f"classes of {settings.data.name}, if training {where} may take {format_size(settings.available_bytes)} of RAM?"
    )


def _answer_section(view: StudyView, winner: TrialRecord) -> Section:
    confirmation, limit = view.confirmed.get(winner.design_id), view.settings.available_bytes
    metric = view.settings.training.metric
    kind = "the last layer alone, without a Rep-Net" if not winner.design.connectors else "a Rep-Net"
    answer = (
        f"Design {winner.short_id}, {kind}: {describe_accuracy(winner, confirmation, metric=metric)}. Training it "
        f"takes {format_size(winner.ram_bytes)} of {format_size(limit)} ({100 * winner.ram_bytes / limit:.0f} %)."
    )
    parts: list[Part] = [Paragraph(answer, stands_out=True), Items(tuple(_compare(view, winner)))]
    return Section("The answer", tuple(parts))


def _compare(view: StudyView, winner: TrialRecord) -> Iterator[str]:
    """Yields what stands beside the winner's accuracy: the test images, and the gain over the last layer alone."""
    metric, confirmation = view.settings.training.metric, view.confirmed.get(winner.design_id)
    tested = view.tested.get(winner.design_id)
    if tested is not None:
        runs = confirmation.test_accuracies if confirmation is not None else []
        shown = format_runs(runs) if runs else format_percent(tested)
        other = _describe_other_test(view, winner)
        yield f"{metric.of('On the test images')}, which nothing was chosen by: {shown}{other}."
    last_layer = find_compared(view, Origin.LAST_LAYER)
    if last_layer is None:
        yield "The study has no last layer alone to compare with."
    elif last_layer.design_id == winner.design_id:
        yield _describe_defeat(view, winner)
    else:
        yield _describe_difference(view, winner, last_layer)
    if view.count(Outcome.RUNNING):
        yield "The study was not finished when this was written: a search was still running on it, or was cut off."


def _describe_defeat(view: StudyView, winner: TrialRecord) -> str:
    """Returns that the last layer alone has won, and on what that rests."""
    if winner.design_id in view.confirmed or not view.trained_count:
        return "No Rep-Net beats the last layer alone here: train that."
    seen = format_count(view.trained_count, "design")
    return f"None of {seen} that the search trained once beats the last layer alone: train that, or search for longer."


def _describe_other_test(view: StudyView, winner: TrialRecord) -> str:
    """Returns the last layer's accuracy on the test images as a clause, where it is another design and was tested."""
    last_layer = find_compared(view, Origin.LAST_LAYER)
    if last_layer is None or last_layer.design_id == winner.design_id:
        return ""
    tested, confirmation = view.tested.get(last_layer.design_id), view.confirmed.get(last_layer.design_id)
    if tested is None:
        return ""
    runs = confirmation.test_accuracies if confirmation is not None else []
    return f"; the last layer alone {format_runs(runs) if runs else format_percent(tested)}"


def _describe_difference(view: StudyView, winner: TrialRecord, last_layer: TrialRecord) -> str:
    gain = measure_gain(view, winner, last_layer)
    confirmation = view.confirmed.get(last_layer.design_id) if gain.seeds else None
    reaches = format_runs(confirmation.validation_accuracies) if confirmation else None
    change = "better" if gain.difference >= 0 else "worse"
    more = winner.ram_bytes - last_layer.ram_bytes
    price = f"{format_size(abs(more))} {'more' if more >= 0 else 'less'} of training memory"
    return " ".join(
        (
            f"The last layer alone reaches {reaches or format_percent(last_layer.validation_accuracy)} with "
            f"{format_size(last_layer.ram_bytes)}: the winner is {format_points(gain.difference)} {change} for "
            f"{price}.",
            *describe_gain(gain),
        )
    )


def _command_section(view: StudyView) -> Section:
    notes = (
        "In a folder without a study of this name; where it is there, the same command goes on with it.",
        _describe_workers(view),
        "Another processor, torch version or --accelerator changes the last digits of a training, and sometimes what "
        "the search proposes next.",
        *list_placeholders(view),
    )
    parts: list[Part] = [Code(create_command(view), "sh"), Items(notes), _hash_table(view), _version_table(view)]
    if needs_space_file(view.settings.space):
        parts += [Paragraph("space.yaml:"), Code(dump_yaml(view.settings.space.model_dump(mode="json")), "yaml")]
    return Section("How to make this study again", tuple(parts))


def _hash_table(view: StudyView) -> Table:
    settings = view.settings
    rows = [(f"images: {settings.data.name}, training and validation", settings.data.sha256)]
    rows += [
        (f"weights: {weights.name}, of {describe_backbone(spec)}", weights.sha256)
        for spec, weights in settings.all_weights.items()
    ]
    if settings.backbone.traced is not None:
        rows.append((f"code: {settings.backbone.name}", settings.backbone.traced.sha256))
    return Table(("what", "sha256"), tuple(rows), title="What went in")


def _describe_workers(view: StudyView) -> str:
    workers = sorted({session.workers for session in view.sessions})
    if workers == [1]:
        return "It had one worker: with the same versions and machine it is made again, trial by trial."
    had = f"It had {' and '.join(map(str, workers))} workers" if workers else "How many workers it had is not kept"
    return (
        f"{had}. One worker makes the same study again, trial by trial; of several, what each proposes depends on who "
        "ended first: other designs, and perhaps another winner of about the same accuracy."
    )


def _version_table(view: StudyView) -> Table:
    """Returns the versions that made the study, a column for each set of them; the ones here where it keeps none."""
    made = list({json.dumps(session.versions): session for session in view.sessions}.values())
    if not made:
        return Table(
            ("package", "version"),
            tuple(find_versions().items()),
            title="Versions that wrote this report (the study keeps none)",
        )
    names = dict.fromkeys(name for session in made for name in session.versions)
    rows = tuple((name, *(session.versions.get(name, "–") for session in made)) for name in names)
    columns = (
        ("version",)
        if len(made) == 1
        else tuple(f"from {session.started[:16].replace('T', ' ')} UTC" for session in made)
    )
    return Table(("package", *columns), rows, title="Versions that made this study")
