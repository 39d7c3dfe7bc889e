"""The parts of a report that are about the search as a whole: what was asked, what became of it, the front."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from repnet_search.report.figures_front import create_front_figure
from repnet_search.report.figures_funnel import create_funnel_figure, list_failures, list_funnel
from repnet_search.report.figures_importance import create_importance_figure
from repnet_search.report.front_points import list_front_points
from repnet_search.report.study_answers import list_answers
from repnet_search.report.study_parts import Items, Paragraph, Part, Picture, Section, Table, draw_bar
from repnet_search.report.wording import (
    describe_accuracy,
    describe_backbone,
    describe_connectors,
    describe_recipe,
    format_percent,
    front_notes,
)
from repnet_search.results.front import pareto_front
from repnet_search.results.record import Outcome, TrialRecord
from repnet_search.results.study import StudyView
from repnet_search.search.importance import StudyImportance
from repnet_search.units import format_count, format_number, format_size


def limit_text(view: StudyView) -> str:
    """Returns what a design of a study may take, for a plot."""
    name = "budget less reserve" if view.settings.reserve_bytes else "budget"
    return f"{name} {format_size(view.settings.available_bytes)}"


def describe_account(view: StudyView) -> str:
    """Returns how the memory of a study's designs was counted."""
    return f"account arena, schedule {view.settings.schedule.value}, micro-batch 1, each design in its own recipe"


def setting_section(view: StudyView) -> Section:
    """Returns what the study was about."""
    settings, training, search = view.settings, view.settings.training, view.settings.search
    proxy = f", {settings.data.proxy_images} images to train and validate" if settings.data.proxy_images else ""
    rows = {
        "images": f"{settings.data.name}: {settings.data.classes} classes{proxy}",
        "frozen backbone": "; ".join(
            f"{describe_backbone(spec)}, weights {weights.name}, input {weights.input_range}"
            for spec, weights in settings.all_weights.items()
        ),
        **_describe_limits(view),
        "training memory is": describe_account(view),
        "image side": ", ".join(f"{side} px" for side in settings.space.resolution),
        "frozen activations": " or ".join("int8" if bits == 8 else "fp32" for bits in settings.space.activation_bits),
        "each design trains": f"{format_count(training.epochs, 'epoch')} of {format_count(training.views, 'view')} per "
        f"image, seed {training.seed}, judged by {training.metric.label} on validation images",
        "search": f"{search.sampler.value}"
        + (f", successive halving by {search.reduction}" if search.reduction > 1 else ""),
        "time": f"{_list_seconds(view):.0f} s of training, all trainings added up",
    }
    return Section("What was asked", (Table(("setting", "value"), tuple(rows.items())),))


def _describe_limits(view: StudyView) -> dict[str, str]:
    settings = view.settings
    reserve = f", {format_size(settings.reserve_bytes)} of it reserved" if settings.reserve_bytes else ""
    budget = f"{format_size(settings.budget_bytes)} of training memory{reserve}"
    rows = {"board": settings.board} if settings.board is not None else {}
    rows["budget"] = budget
    if settings.flash_bytes is not None:
        rows["flash"] = f"{format_size(settings.flash_bytes)} for frozen weights, code and trained weights"
    return rows


def _list_seconds(view: StudyView) -> float:
    confirmed = sum(run.elapsed_seconds for item in view.confirmed.values() for run in item.runs)
    return sum(record.elapsed_seconds for record in view.records) + confirmed


def funnel_section(view: StudyView) -> Section:
    """Returns what became of all designs that were looked at."""
    steps = list_funnel(view)
    most = max(step.count for step in steps)
    rows = tuple((step.name, format_number(step.count), step.meaning, draw_bar(step.count / most)) for step in steps)
    numbers = Table(("step", "designs", "which means", ""), rows, ("designs",))
    picture = Picture(
        create=lambda: create_funnel_figure(steps),
        title="From the designs that were looked at to those that were confirmed",
        key="",
        caption="Whether a design fits is arithmetic; only what fits was trained.",
        alt="Bars: how many designs came to each step of the search.",
        numbers=numbers,
    )
    return Section("What became of the designs", (picture, *_list_troubles(view)))


def _list_troubles(view: StudyView) -> Iterator[Part]:
    running = view.count(Outcome.RUNNING)
    if running:
        yield Paragraph(
            f"{format_count(running, 'training')} had begun and not ended when this was written: a search was still "
            "running, or was killed. The same command goes on."
        )
    failures = list_failures(view)
    if failures:
        rows = tuple((outcome, reason, str(count)) for outcome, reason, count in failures)
        yield Table(("ended as", "reason", "designs"), rows, ("designs",), title="Without an accuracy")


def front_section(view: StudyView, winner: TrialRecord) -> Section:
    """Returns accuracy against memory, and every design that no other beats in both."""
    points = [point for point in list_front_points(view) if point.proxy is not None]
    metric = view.settings.training.metric
    create = partial(
        create_front_figure,
        points,
        limit_bytes=view.settings.available_bytes,
        limit_text=limit_text(view),
        metric=metric.label,
    )
    picture = Picture(
        create=create,
        title=f"Validation {metric.label} against training memory",
        key=_describe_markers(view, len(points)),
        caption="Memory is estimated, accuracy measured. No trained design beats one of the front in both.",
        alt=f"Scatter plot of validation {metric.label} against training memory of every trained design, with the "
        "budget as a line; the table below has the designs of its front.",
        numbers=_front_table(view, winner),
    )
    notes = tuple(Paragraph(note) for note in front_notes(pareto_front(view.records), winner=winner))
    return Section("Accuracy against training memory", (picture, *notes))


def _describe_markers(view: StudyView, count: int) -> str:
    """Returns how the markers of the front's figure are read."""
    drawn = f"{format_number(count)} trained design{' is' if count == 1 else 's are'} drawn"
    if not view.confirmed:
        return f"{drawn}, each measured once, in the search's short training."
    return (
        f"{drawn}. Hollow: measured once, in the search's short training; full: confirmed, the mean of fresh seeds "
        "with its 95 % interval."
    )


def _front_table(view: StudyView, winner: TrialRecord) -> Table:
    """Returns the Pareto front, least memory first."""
    front, has_widths = pareto_front(view.records), bool(view.settings.wider)
    label = view.settings.training.metric.label
    rows = []
    for record in front:
        width = [f"×{record.design.backbone.width_mult:g}"] if has_widths else []
        rows.append(
            (
                f"{'★ ' if record.design_id == winner.design_id else ''}{record.short_id}",
                format_size(record.ram_bytes),
                format_percent(record.validation_accuracy),
                draw_bar(record.validation_accuracy or 0.0),
                *width,
                f"{record.design.resolution}",
                format_number(record.trainable_parameters),
                describe_recipe(record.design),
                describe_connectors(record.design),
            )
        )
    width = ["width"] if has_widths else []
    headings = ("design", "memory", label, "", *width, "px", "parameters", "recipe", "connectors after block")
    strong = next((index for index, record in enumerate(front) if record.design_id == winner.design_id), None)
    title = f"The front: {label} as the search saw it, one training each"
    return Table(headings, tuple(rows), ("memory", label, "px", "parameters"), title=title, strong=strong)


def budgets_section(view: StudyView) -> Section:
    """Returns the best design under every smaller budget."""
    metric = view.settings.training.metric
    rows = []
    for answer in list_answers(view):
        record, confirmation = answer.record, view.confirmed.get(answer.record.design_id)
        rows.append(
            (
                format_size(answer.from_bytes),
                record.short_id,
                describe_accuracy(record, confirmation, metric=metric),
                describe_connectors(record.design),
            )
        )
    headings = ("from a budget of", "design", "accuracy", "connectors after block")
    once = "once, and shorter" if view.confirms_longer else "once"
    text = Paragraph(
        "The same study answers every smaller budget, without training anything: the best design that fits, from its "
        f"budget up to that of the row above. What was not confirmed was trained {once}: its accuracy "
        "compares with others of that kind alone. The search looked for the best under the whole budget, so that a "
        "study of its own may find more under a much smaller one."
    )
    return Section("Under smaller budgets", (text, Table(headings, tuple(rows), ("from a budget of",))))


def importance_section(view: StudyView, importance: StudyImportance | None) -> Section:
    """Returns what decides accuracy and memory, as far as the study can tell."""
    if importance is None or all(item.accuracy is None for item in importance.fields):
        few = format_count(view.trained_count, "trained design")
        are = "is" if view.trained_count == 1 else "are"
        text = f"{few} {are} too few to tell which fields of a design decide its accuracy; run the study on for longer."
        return Section("What matters", (Paragraph(text),))
    rows = tuple(
        (
            item.field.replace("_", " "),
            format_percent(item.accuracy),
            format_percent(item.by_chance),
            format_percent(item.memory),
        )
        for item in importance.fields
    )
    headings = ("field", "accuracy", "by chance up to", "memory")
    picture = Picture(
        create=lambda: create_importance_figure(importance.fields),
        title="How much each field of a design decides",
        key="",
        caption=f"Accuracy: what sets the best quarter of {importance.trainings} trained designs apart (Optuna's "
        "PED-ANOVA), the last layer alone left out. Memory: the share of its variance that a field explains alone.",
        alt="Bars: the importance of each field of a design for accuracy and for training memory.",
        numbers=Table(headings, rows, headings[1:]),
    )
    clear = [item.field for item in importance.fields if (item.accuracy or 0.0) > (item.by_chance or 0.0)]
    shown = f"{' and '.join(clear)} {'stands' if len(clear) == 1 else 'stand'} out" if clear else "no field stands out"
    notes = Items(
        (
            f"Beyond what shuffled accuracies give in 95 of 100 cases, {shown.replace('_', ' ')}; one field in twenty "
            "does so by luck.",
            "The search chose these designs: what it settled early may look unimportant.",
        )
    )
    return Section("What matters", (picture, notes))
