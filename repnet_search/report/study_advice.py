"""When not to use a Rep-Net, by a study's own numbers; and what those numbers leave open."""

from __future__ import annotations

from collections.abc import Iterator

from repnet_search.memory.flash import CODE_BYTES
from repnet_search.report.study_answers import find_compared, list_answers
from repnet_search.report.study_gain import format_points, measure_gain
from repnet_search.report.study_parts import Items, Paragraph, Section, Table
from repnet_search.report.study_sections import describe_account
from repnet_search.report.wording import describe_widest_behind
from repnet_search.results.confirmation import NEAR_BEST
from repnet_search.results.record import Origin, TrialRecord
from repnet_search.results.study import StudyView
from repnet_search.units import format_count, format_size


def advice_section(view: StudyView, winner: TrialRecord) -> Section:
    """Returns when something simpler will do."""
    return Section("When not to use a Rep-Net here", (Items(tuple(_advise(view, winner))),))


def _advise(view: StudyView, winner: TrialRecord) -> Iterator[str]:
    last_layer, widest = (find_compared(view, origin) for origin in (Origin.LAST_LAYER, Origin.WIDEST))
    if last_layer is not None:
        yield from _advise_last_layer(view, winner, last_layer)
    else:
        yield "The study has no last layer alone to compare with, so that nothing here shows what a Rep-Net gains."
    if widest is not None:
        yield from _advise_widest(view, winner, widest)
    yield from _advise_budget(view)
    if winner.design_id not in view.confirmed:
        yield (
            "Not on the strength of this report alone: the winner was trained once and is the best of "
            f"{format_count(view.trained_count, 'design')}. Confirm it first (--confirm)."
        )


def _advise_last_layer(view: StudyView, winner: TrialRecord, last_layer: TrialRecord) -> Iterator[str]:
    if winner.design_id == last_layer.design_id or not winner.design.connectors:
        yield "No Rep-Net beats the last layer alone here: train that."
        return
    gain, saving = measure_gain(view, winner, last_layer), _describe_saving(winner, last_layer)
    points = format_points(gain.difference)
    if gain.difference <= NEAR_BEST:
        side = "behind" if gain.difference >= 0 else "ahead of"
        yield f"Use the last layer alone: it is {points} {side} the winner, and {saving}."
    elif gain.is_shown:
        yield f"Where {points} do not matter, use the last layer alone: {saving}."
    elif gain.overlap is None:
        unshown = "that the difference is more than chance has yet to be shown (--confirm)"
        yield f"Where {points} do not matter, use the last layer alone: {saving}; {unshown}."
    else:
        yield (
            f"Use the last layer alone until more seeds say otherwise: {saving}, and these numbers do not show that "
            f"the {points} between them are more than chance."
        )
    tested = view.test_gain(winner, last_layer)
    if tested is not None and tested <= 0:
        yield "On the test images, which nothing was chosen by, the last layer alone is as good as the winner."


def _describe_saving(winner: TrialRecord, other: TrialRecord) -> str:
    """Returns how much less another design takes than the winner, as a clause about "it"."""
    saved = winner.ram_bytes - other.ram_bytes
    if saved <= 0:
        return f"it takes {format_size(-saved)} more of training memory" if saved else "it takes as much memory"
    return (
        f"it takes {format_size(saved)} less of training memory ({format_size(other.ram_bytes)} against "
        f"{format_size(winner.ram_bytes)})"
    )


def _advise_widest(view: StudyView, winner: TrialRecord, widest: TrialRecord) -> Iterator[str]:
    if winner.design_id == widest.design_id:
        yield "The winner is the widest design that fits: a search was not needed here."
        return
    gain = measure_gain(view, winner, widest)
    if gain.difference > NEAR_BEST or not widest.design.connectors:
        return
    tested = view.test_gain(winner, widest)
    if tested is not None and tested > NEAR_BEST:
        yield describe_widest_behind(tested)
    elif gain.seeds:
        yield "The widest design that fits is as good within a point: a search was not needed here."
    else:
        yield "In the search the widest design that fits came within a point: perhaps a search was not needed here."


def _advise_budget(view: StudyView) -> Iterator[str]:
    """Yields below which budget nothing but the last layer is the answer, and below which nothing at all is."""
    answers = list_answers(view)
    if not answers:
        return
    nets = [answer.from_bytes for answer in answers if answer.record.design.connectors]
    least = answers[-1].from_bytes
    if nets and min(nets) > least:
        yield (
            f"Below {format_size(min(nets))} the best of what was trained is the last layer alone, and below "
            f"{format_size(least)} none of it fits."
        )
    else:
        yield f"Below {format_size(least)} nothing of what was trained fits."


def limits_section(view: StudyView) -> Section:
    """Returns what is measured, what estimated and what assumed, and what the report does not know."""
    settings, training = view.settings, view.settings.training
    epochs, views = format_count(training.epochs, "epoch"), format_count(training.views, "view")
    rows = [
        (
            "training memory",
            "estimated",
            f"{describe_account(view)}; labels and a kernel's scratch are not counted. 'repnet-search verify' runs "
            "the step of a design and compares, to the byte.",
        ),
        (
            f"{training.metric.label} in the search",
            "measured once",
            f"a short training of {epochs} of {views} per image, seed {training.seed}, on this machine in PyTorch",
        ),
    ]
    if view.confirmed:
        longer = "longer, " if view.confirms_longer else ""
        rows.append(("confirmed accuracy", "measured", f"{longer}from fresh seeds, on this machine; not on the device"))
    rows.append(("test accuracy", "measured", _describe_test(view)))
    if settings.flash_bytes is not None:
        code = f"code of {format_size(CODE_BYTES)} is assumed; trained weights are kept in two copies"
        rows.append(("flash", "estimated", code))
    if settings.reserve_bytes:
        enough = f"{format_size(settings.reserve_bytes)} to be enough for stack, runtime and camera"
        rows.append(("reserve", "assumed", enough))
    else:
        rows.append(("reserve", "none", "stack, runtime and a camera's buffer come on top of the budget"))
    text = Paragraph(
        "Nothing here was run on the device: its kernels round differently, and its images may differ from these."
    )
    table = Table(("number", "is", "how"), tuple(rows))
    return Section("What is measured, estimated and assumed", (table, text))


def _describe_test(view: StudyView) -> str:
    if not view.tested:
        return "the test images were not read"
    return "the test images were read at the end, for the winner and what it is compared with; nothing was chosen by it"
