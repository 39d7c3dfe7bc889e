"""What became of the designs that a search looked at: from those it weighed to those it confirmed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from repnet_search.report.figures_style import BLUE, GREEN, GREY, ORANGE, SKY, VERMILLION, finish
from repnet_search.results.record import Outcome
from repnet_search.results.study import StudyView
from repnet_search.units import format_number


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """How many designs came so far: the step's name, what it means, its colour."""

    name: str
    count: int
    meaning: str
    colour: str


def list_funnel(view: StudyView) -> tuple[FunnelStep, ...]:
    """Returns the steps of a study's funnel; those that no design came to are left out, but for the trained."""
    seen, over = (sum(getattr(record, name) for record in view.records) for name in ("seen", "over"))
    count, longer = view.count, "longer and " if view.confirms_longer else ""
    steps = (
        FunnelStep("looked at", seen, "memory worked out while the sampler drew; nothing was trained", SKY),
        FunnelStep("of them over the limits", over, "left out by arithmetic alone", VERMILLION),
        FunnelStep("proposed", len(view.records), "became trials of the study", BLUE),
        FunnelStep("over budget", count(Outcome.OVER_BUDGET), "kept as pruned trials, never trained", VERMILLION),
        FunnelStep("repeated", count(Outcome.REPEATED), "the same design as an earlier trial, not trained again", GREY),
        FunnelStep("failed", count(Outcome.FAILED), "the training ended with an error", VERMILLION),
        FunnelStep("interrupted", count(Outcome.INTERRUPTED), "cut off by the user or a kill; tried again", GREY),
        FunnelStep("running", count(Outcome.RUNNING), "begun and not ended", ORANGE),
        FunnelStep("stopped at a rung", count(Outcome.STOPPED), "not among the best after some epochs", ORANGE),
        FunnelStep("trained", count(Outcome.TRAINED), "to the last epoch, the last layer alone included", GREEN),
        FunnelStep("confirmed", len(view.confirmed), f"trained again, {longer}from fresh seeds", GREEN),
    )
    return tuple(step for step in steps if step.count or step.name == "trained")


def list_failures(view: StudyView) -> tuple[tuple[str, str, int], ...]:
    """Returns how often a trial ended without an accuracy, by outcome and reason, the most frequent first."""
    outcomes = (Outcome.FAILED, Outcome.INTERRUPTED)
    counts = Counter((record.outcome.value, record.reason) for record in view.records if record.outcome in outcomes)
    return tuple((outcome, reason, count) for (outcome, reason), count in counts.most_common())


def create_funnel_figure(steps: Sequence[FunnelStep]) -> go.Figure:
    """Returns a bar per step of the funnel; logarithmic where the largest would leave nothing of the others."""
    figure = go.Figure()
    figure.add_bar(
        x=[step.count for step in steps],
        y=[step.name for step in steps],
        orientation="h",
        marker={"color": [step.colour for step in steps]},
        text=[format_number(step.count) for step in steps],
        textposition="auto",
        textangle=0,
        hovertext=[f"{step.count} {step.name}: {step.meaning}" for step in steps],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    counts = [step.count for step in steps if step.count]
    is_wide = bool(counts) and max(counts) > 50 * min(counts)
    title = "designs (logarithmic)" if is_wide else "designs"
    figure.update_xaxes(title=title, type="log" if is_wide else "linear", tickformat="~s")
    if is_wide:
        figure.update_xaxes(range=[-0.1, 1.05 * math.log10(max(counts))], dtick=1)
    figure.update_yaxes(autorange="reversed")
    return finish(figure, height=90 + 34 * max(3, len(steps)), left=84, legend=False)
