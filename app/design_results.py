"""What a trained design learned: its learning curve, accuracy per class, confusion matrix, and int8 saturation."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

import repnet_search
from repnet_search import Outcome, RepnetSearchError, StudyView, TrialRecord, figures

from . import tables
from .parts import show_figure, show_note

if TYPE_CHECKING:
    from repnet_search import TrialEvaluation

_VALIDATION, _TEST = "validation images", "test images"


def show_results(view: StudyView, record: TrialRecord) -> None:
    """Shows what was measured of a design; one that was not trained has nothing to show."""
    if record.outcome is not Outcome.TRAINED:
        show_note(f"Nothing: it was not trained to its end ({record.outcome.value}).")
        return
    left, right = st.columns(2, gap="large")
    with left:
        _show_losses(view, record)
    with right:
        _show_saturation(record)
    st.subheader("Accuracy per class")
    _show_classes(view, record)


def _show_losses(view: StudyView, record: TrialRecord) -> None:
    if not record.losses:
        return
    st.subheader("Learning curve")
    show_figure(
        figures.create_losses_figure({record.short_id: record.losses}),
        key="design-losses",
        data=tables.losses_table(record),
        file_name=f"losses-{record.short_id}.csv",
        alt="The mean training loss of each epoch of the search.",
    )
    training = view.settings.training
    epochs, seconds = len(record.losses), f"{record.elapsed_seconds:.1f} s"
    show_note(f"Measured in the search: epochs {epochs}, views of each image {training.views}, {seconds} in all.")


def _show_saturation(record: TrialRecord) -> None:
    """Shows the share of b that was clamped behind each connector, where the backbone runs in int8."""
    if record.design.activation_bits != 8:
        return
    st.subheader("Saturation per connector")
    if not record.saturation:
        writes = any(connector.exchange.writes for connector in record.design.connectors)
        show_note("It was not recorded." if writes else "No connector writes into the backbone: nothing can saturate.")
        return
    show_figure(
        figures.create_saturation_figure(record.saturation),
        key="design-saturation",
        data=pd.DataFrame(record.saturation, columns=["after block", "share clamped"]),
        file_name=f"saturation-{record.short_id}.csv",
        alt="The share of backbone values that were clamped behind each writing connector.",
    )
    show_note("Measured on the validation images, after training.")


@st.fragment
def _show_classes(view: StudyView, record: TrialRecord) -> None:
    """Shows accuracy per class and confusion matrix on demand: it takes a second, and the trained weights."""
    choices = [_VALIDATION, *([_TEST] if record.design_id in view.tested else [])]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        images = st.segmented_control("Images", choices, default=_VALIDATION, key=f"images-{record.number}")
        key = f"classes-{view.name}-{record.number}"
        if st.button("Measure", key=f"measure-{record.number}", type="primary"):
            st.session_state[key] = True
    if not st.session_state.get(key):
        show_note("Runs the trained weights that the study kept; nothing is trained or written.")
        return
    try:
        # Its accuracies and times tell it from a design that was trained, or confirmed, anew.
        measured = repr((view.name, view.sessions[:1], record, view.confirmed.get(record.design_id)))
        result = _evaluate(view, record, test=images == _TEST, measured=measured)
    except RepnetSearchError as error:
        show_note(f"{error}\n\nTo get it:\n{_commands(view)}")
        return
    _show_evaluation(view, record, result)


@st.cache_data(show_spinner="Running the trained design", max_entries=64)
def _evaluate(_view: StudyView, _record: TrialRecord, *, test: bool, measured: str) -> TrialEvaluation:
    """Returns the evaluation; torch is imported here, so that a page which does not measure opens at once."""
    del measured  # of the cache's key alone
    return repnet_search.evaluate_trial(_view, _record, test=test)


def _show_evaluation(view: StudyView, record: TrialRecord, result: TrialEvaluation) -> None:
    evaluation = result.evaluation
    show_note(
        f"Measured now on {result.images} of {view.settings.data.name}, with the weights {result.weights}: "
        f"{tables.format_percent(evaluation.accuracy)} accuracy, "
        f"{tables.format_percent(evaluation.balanced_accuracy)} balanced."
    )
    counts = evaluation.confusion.tolist()
    data = pd.DataFrame(figures.confusion_rows(evaluation.labels, counts))
    left, right = st.columns([2, 3], gap="large")
    with left:
        show_figure(
            figures.create_classes_figure(evaluation.labels, evaluation.class_accuracies),
            key=f"classes-figure-{record.number}",
            data=data[["true class", "images", "accuracy (%)"]],
            file_name=f"classes-{record.short_id}.csv",
            alt="The accuracy of each class, the worst first.",
        )
    with right:
        show_figure(
            figures.create_confusion_figure(evaluation.labels, counts),
            key=f"confusion-figure-{record.number}",
            data=data,
            file_name=f"confusion-{record.short_id}.csv",
            alt="How many images of each true class were taken for which class.",
        )


def _commands(view: StudyView) -> str:
    """Returns the commands that measure the study's winner on its own images."""
    study = shlex.quote(view.name)
    return (
        f"repnet-search export --study {study} --to out --data IMAGES --weights WEIGHTS\n"
        "repnet-search evaluate out --data IMAGES"
    )
