"""Every table of the browser, and the data behind every plot, as data frames whose headings carry the units."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import pandas as pd

import repnet_search
from repnet_search import Design, Origin, Outcome, StudyView, TrialRecord

MEMORY: Final = "training memory (KiB)"
ACCURACY: Final = "validation accuracy (%)"
LOSS: Final = "training loss"
SEARCHED: Final = "searched"

_KIB: Final = 1024
_ROLES: Final = {
    Origin.LAST_LAYER: "last layer alone",
    Origin.WIDEST: "widest fitting",
    Origin.PAPER: "paper preset",
}


def studies_table(views: Iterable[StudyView]) -> pd.DataFrame:
    """Returns a row per study: what it is about, how its trials ended, its best validation accuracy in %."""
    return pd.DataFrame([_study_row(view) for view in views])


def trials_table(records: Iterable[TrialRecord]) -> pd.DataFrame:
    """Returns a row per trial, in their order; the accuracy is missing where a design was not trained."""
    columns = ["trial", "design", "outcome", "origin", MEMORY, ACCURACY, "seconds", "reason"]
    return pd.DataFrame([_trial_row(record) for record in records], columns=columns)


def points_table(records: Iterable[TrialRecord]) -> pd.DataFrame:
    """Returns a row per trained trial: what the front's plot shows."""
    trained = [record for record in records if record.outcome is Outcome.TRAINED]
    front = {record.number for record in repnet_search.pareto_front(trained)}
    columns = ["trial", "design", "role", MEMORY, ACCURACY, "on the front"]
    rows = [
        (
            record.number,
            record.short_id,
            _ROLES.get(record.origin, SEARCHED),
            to_kib(record.ram_bytes),
            to_percent(record.validation_accuracy),
            record.number in front,
        )
        for record in trained
    ]
    return pd.DataFrame(rows, columns=columns)


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
        fields = {_words(name): str(value) for name, value in design.module_of(index).model_dump(mode="json").items()}
        rows.append(place | fields)
    return pd.DataFrame(rows)


def recipe_table(record: TrialRecord) -> pd.DataFrame:
    """Returns what a design says beside its connectors: input, inner precision and recipe."""
    design, recipe = record.design, record.design.recipe
    fields = {
        "optimizer": recipe.optimizer.value,
        "images per update": recipe.accumulate,
        "learning rate": f"{recipe.lr:g}",
        "head's learning rate": f"×{recipe.head_lr_ratio:g}",
        "backbone's width": f"×{design.backbone.width_mult:g}",
        "image side": f"{design.resolution} px",
        "image pool": design.image_pool,
        "activations": f"{design.activation_bits} bits",
        "modules read": _words(design.module_input.value),
        "biases trained": "yes" if design.train_bias else "no",
        "trainable parameters": f"{record.trainable_parameters:,}".replace(",", " "),
    }
    return pd.DataFrame([(name, str(value)) for name, value in fields.items()], columns=["field", "value"])


def to_kib(size_bytes: int) -> float:
    """Returns a size in KiB."""
    return size_bytes / _KIB


def to_percent(share: float | None) -> float | None:
    """Returns a share of 0..1 in %, rounded to what a double can carry without noise."""
    return round(100 * share, 4) if share is not None else None


def format_percent(share: float | None) -> str:
    """Returns a share of 0..1 for people, a dash where there is none."""
    return f"{100 * share:.1f} %" if share is not None else "–"


def limit_text(view: StudyView) -> str:
    """Returns what a design of a study may take, for a plot."""
    name = "budget less reserve" if view.settings.reserve_bytes else "budget"
    return f"{name} {repnet_search.format_size(view.settings.available_bytes)}"


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


def _study_row(view: StudyView) -> dict[str, Any]:
    settings = view.settings
    best = view.choose_winner()
    return {
        "study": view.name,
        "budget (KiB)": to_kib(settings.budget_bytes),
        "board": settings.board,
        "flash (KiB)": to_kib(settings.flash_bytes) if settings.flash_bytes is not None else None,
        "schedule": settings.schedule.value,
        "metric": settings.training.metric.label,
        "backbone": describe_backbone(view),
        "data": settings.data.name,
        "trained": view.trained_count,
        "over budget": view.count(Outcome.OVER_BUDGET),
        "failed": view.count(Outcome.FAILED),
        "interrupted": view.count(Outcome.INTERRUPTED),
        "best " + ACCURACY: to_percent(view.accuracy_of(best)) if best is not None else None,
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


def _words(name: str) -> str:
    return name.replace("_", " ")
