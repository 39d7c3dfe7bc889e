"""Every table of the browser, and the data behind every plot, as data frames whose headings carry the units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pandas as pd

import repnet_search
from repnet_search import Design, Outcome, StudyImportance, StudyView, TrialRecord, figures, format_count

MEMORY: Final = "training memory (KiB)"
ACCURACY: Final = "validation accuracy (%)"
CONFIRMED: Final = "confirmed accuracy (%)"
INTERVAL: Final = "half of its 95 % interval (%)"
BEST: Final = "best validation accuracy (%)"
LOSS: Final = "training loss"

_KIB: Final = 1024


def studies_table(
    views: Iterable[StudyView], *, runs: Mapping[str, str | None], links: Mapping[str, str]
) -> pd.DataFrame:
    """Returns a row per study: what it is about, how its trials ended, its best validation accuracy in %.

    Args:
        views: the studies.
        runs: of each by its name, what a search is doing to it now.
        links: of each by its name, its URL.
    """
    return pd.DataFrame([_study_row(view, run=runs[view.name], link=links[view.name]) for view in views])


def trials_table(records: Iterable[TrialRecord]) -> pd.DataFrame:
    """Returns a row per trial, in their order; the accuracy is missing where a design was not trained."""
    columns = ["trial", "design", "outcome", "origin", MEMORY, ACCURACY, "seconds", "reason"]
    return pd.DataFrame([_trial_row(record) for record in records], columns=columns)


def points_table(points: Iterable[figures.FrontPoint]) -> pd.DataFrame:
    """Returns a row per point of the front's plot."""
    columns = ["trial", "design", "role", "outcome", MEMORY, ACCURACY, CONFIRMED, INTERVAL, "seeds", "epochs"]
    marks = ["on the front", "within 1 point of the best", "recommended"]
    rows = [
        (
            point.trial,
            point.design,
            point.role,
            point.outcome.value,
            to_kib(point.ram_bytes),
            to_percent(point.proxy),
            to_percent(point.confirmed),
            to_percent(point.interval),
            point.seeds,
            point.epochs,
            point.on_front,
            point.is_near_best,
            point.is_recommended,
        )
        for point in points
    ]
    return pd.DataFrame(rows, columns=[*columns, *marks])


def terms_table(record: TrialRecord) -> pd.DataFrame:
    """Returns the terms of a design's training memory; they add up to it."""
    return pd.DataFrame([(name, to_kib(size)) for name, size in record.terms], columns=["term", MEMORY])


def losses_table(record: TrialRecord) -> pd.DataFrame:
    """Returns the mean training loss of each epoch, the first being 1."""
    return pd.DataFrame(enumerate(record.losses, start=1), columns=["epoch", LOSS])


def connectors_table(design: Design) -> pd.DataFrame:
    """Returns a row per connector with the fields of its module, overrides applied."""
    rows = []
    for index, connector in enumerate(design.connectors):
        place: dict[str, Any] = {"after block": connector.after_block, "exchange": connector.exchange.value}
        fields = {to_words(name): str(value) for name, value in design.module_of(index).model_dump(mode="json").items()}
        rows.append(place | fields)
    return pd.DataFrame(rows)


def recipe_table(record: TrialRecord) -> pd.DataFrame:
    """Returns what a design says beside its connectors: input, inner precision and recipe."""
    fields = list_fields(record.design) | {
        "trainable parameters": repnet_search.format_number(record.trainable_parameters)
    }
    return pd.DataFrame(list(fields.items()), columns=["field", "value"])


def list_fields(design: Design) -> dict[str, str]:
    """Returns what a design says beside its connectors, in words."""
    recipe = design.recipe
    return {
        "optimizer": recipe.optimizer.value,
        "images per update": str(recipe.accumulate),
        "learning rate": f"{recipe.lr:g}",
        "head's learning rate": f"×{recipe.head_lr_ratio:g}",
        "backbone's width": f"×{design.backbone.width_mult:g}",
        "image side": f"{design.resolution} px",
        "image pool": str(design.image_pool),
        "activations": f"{design.activation_bits} bits",
        "modules read": to_words(design.module_input.value),
        "biases trained": "yes" if design.train_bias else "no",
    }


def blocks_table(designs: Mapping[str, Sequence[tuple[str, int]]]) -> pd.DataFrame:
    """Returns the most bytes alive while each block runs, a column per design."""
    columns = {name: {place: to_kib(size) for place, size in blocks} for name, blocks in designs.items()}
    return pd.DataFrame(columns).rename_axis("block").rename(columns=lambda name: f"{name} (KiB)").reset_index()


def funnel_table(steps: Iterable[figures.FunnelStep]) -> pd.DataFrame:
    """Returns a row per step of the funnel."""
    return pd.DataFrame(
        [(step.name, step.count, step.meaning) for step in steps], columns=["step", "designs", "meaning"]
    )


def importance_table(importance: StudyImportance) -> pd.DataFrame:
    """Returns a row per field: its importance for accuracy, what that stays below by chance, and for memory, in %."""
    columns = ["field", "for accuracy (%)", "by chance at most (%)", "for memory (%)"]
    rows = [
        (to_words(item.field), to_percent(item.accuracy), to_percent(item.by_chance), to_percent(item.memory))
        for item in importance.fields
    ]
    return pd.DataFrame(rows, columns=columns)


def to_kib(size_bytes: int) -> float:
    """Returns a size in KiB."""
    return size_bytes / _KIB


def to_percent(share: float | None) -> float | None:
    """Returns a share of 0..1 in %, rounded to what a double can carry without noise."""
    return round(100 * share, 4) if share is not None else None


def to_words(name: str) -> str:
    """Returns a field's name as people write it."""
    return name.replace("_", " ")


def format_percent(share: float | None) -> str:
    """Returns a share of 0..1 for people, a dash where there is none."""
    return f"{100 * share:.1f} %" if share is not None else "–"


def format_accuracy(view: StudyView, record: TrialRecord) -> str:
    """Returns a design's accuracy with its interval where it was confirmed by several seeds."""
    confirmation = view.confirmed.get(record.design_id)
    if confirmation is None:
        return format_percent(record.validation_accuracy)
    mean, interval = confirmation.validation
    return f"{100 * mean:.1f} ± {100 * interval:.1f} %" if interval is not None else format_percent(mean)


def format_test(view: StudyView, record: TrialRecord) -> str:
    """Returns a design's test accuracy with its interval where it was confirmed by several seeds."""
    confirmation = view.confirmed.get(record.design_id)
    mean, interval = confirmation.test if confirmation is not None and confirmation.test is not None else (None, None)
    if mean is None or interval is None:
        return format_percent(view.tested.get(record.design_id))
    return f"{100 * mean:.1f} ± {100 * interval:.1f} %"


def describe_measurement(view: StudyView, record: TrialRecord) -> str:
    """Returns how a design's accuracy came about: from how many seeds, of how many epochs."""
    confirmation = view.confirmed.get(record.design_id)
    if confirmation is not None:
        seeds = len(confirmation.runs)
        has_interval = confirmation.validation[1] is not None
        spread = "± is half its 95 % interval" if has_interval else "too few for an interval"
        return f"mean of {format_count(seeds, 'fresh seed')} × {format_count(confirmation.epochs, 'epoch')}, {spread}"
    if record.validation_accuracy is None:
        return "not measured"
    return f"measured once in the search, {format_count(view.settings.training.epochs, 'epoch')}, not confirmed"


def describe_seeds(view: StudyView, record: TrialRecord) -> str:
    """Returns the trainings behind a design's accuracy, in short."""
    confirmation = view.confirmed.get(record.design_id)
    if confirmation is not None:
        seeds = len(confirmation.runs)
        return f"{format_count(seeds, 'seed')} × {format_count(confirmation.epochs, 'epoch')}"
    if record.validation_accuracy is None:
        return "–"
    return f"search: 1 seed × {format_count(view.settings.training.epochs, 'epoch')}"


def describe_account(view: StudyView) -> str:
    """Returns how the memory of a study's designs was counted."""
    schedule = view.settings.schedule.value
    return f"estimated, account arena, schedule {schedule}, micro-batch 1, each design in its own recipe"


def limit_text(view: StudyView) -> str:
    """Returns what a design of a study may take, for a plot."""
    name = "budget less reserve" if view.settings.reserve_bytes else "budget"
    return f"{name} {repnet_search.format_size(view.settings.available_bytes)}"


def describe_study(view: StudyView) -> str:
    """Returns what a study is about, in one line of names."""
    settings = view.settings
    return (
        f"{describe_backbone(view)} on {settings.data.name} ({settings.data.classes} classes); {describe_target(view)}"
    )


def describe_target(view: StudyView) -> str:
    """Returns what a study searched for beside its budget: board and flash where they were limits, schedule, metric."""
    settings = view.settings
    board = [f"board {settings.board}"] if settings.board is not None else []
    flash = [f"flash {repnet_search.format_size(settings.flash_bytes)}"] if settings.flash_bytes is not None else []
    metric = settings.training.metric.label
    return ", ".join([*board, *flash, f"schedule {settings.schedule.value}", f"metric {metric}"])


def describe_backbone(view: StudyView) -> str:
    """Returns the name of a study's backbone and its widths."""
    backbones = view.settings.backbones
    return f"{backbones[0].name} {' or '.join(f'×{backbone.width_mult:g}' for backbone in backbones)}"


def describe_failed(view: StudyView) -> str:
    """Returns how many trainings failed, and apart from them those that were cut off, which are tried again."""
    cut_off = view.count(Outcome.INTERRUPTED)
    return f"{view.count(Outcome.FAILED)}{f' (+{cut_off} interrupted)' if cut_off else ''}"


def _study_row(view: StudyView, *, run: str | None, link: str) -> dict[str, Any]:
    settings, best = view.settings, view.choose_winner()
    return {
        "study": view.name,
        "link": link,
        "now": (run or "ended").split(":")[0],
        BEST: to_percent(view.accuracy_of(best)) if best is not None else None,
        "best from": describe_seeds(view, best) if best is not None else "–",
        "data": settings.data.name,
        "backbone": describe_backbone(view),
        "budget (KiB)": to_kib(settings.budget_bytes),
        "trained": view.trained_count,
        "stopped": view.count(Outcome.STOPPED),
        "over budget": view.count(Outcome.OVER_BUDGET),
        "failed": view.count(Outcome.FAILED),
        "interrupted": view.count(Outcome.INTERRUPTED),
        "board": settings.board,
        "flash (KiB)": to_kib(settings.flash_bytes) if settings.flash_bytes is not None else None,
        "schedule": settings.schedule.value,
        "metric": settings.training.metric.label,
    }


def _trial_row(record: TrialRecord) -> tuple[Any, ...]:
    return (
        record.number,
        record.short_id,
        record.outcome.value,
        record.origin.value,
        to_kib(record.ram_bytes),
        to_percent(record.validation_accuracy),
        record.elapsed_seconds,
        record.reason,
    )
