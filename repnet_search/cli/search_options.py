"""How a search proposes designs and when it stops, as options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from repnet_search.cli.options import Command

if TYPE_CHECKING:
    from repnet_search.spec.study import SearchSpec

DEFAULT_TRIALS = 24
SAMPLERS = ("tpe", "random", "nsga2", "exhaustive")
"""As `spec.study.Sampler` has them; importing it would cost `--help` a third of a second."""


@dataclass(frozen=True, slots=True)
class SearchChoice:
    """What the options of `search_options` say."""

    sampler: str
    show_cut: int

    def create(self) -> SearchSpec:
        """Returns the settings of the search."""
        from repnet_search.spec.study import Sampler, SearchSpec

        return SearchSpec(sampler=Sampler(self.sampler), pruned_per_design=self.show_cut)


def search_options(command: Command) -> Command:
    """Adds --trials, --timeout, --patience, --sampler and --show-cut."""
    options = (
        click.option(
            "--trials",
            type=click.IntRange(min=1),
            default=DEFAULT_TRIALS,
            show_default=True,
            help="Trained designs of the study in all; the last layer alone is trained beside them.",
        ),
        click.option(
            "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Stop after this time."
        ),
        click.option(
            "--patience",
            type=click.IntRange(min=1),
            metavar="K",
            help="Stop after K trained designs in a row of which none was on the front of accuracy against memory.",
        ),
        click.option(
            "--sampler",
            type=click.Choice(SAMPLERS),
            default=SAMPLERS[0],
            show_default=True,
            help="What proposes designs: a Parzen estimator, uniform draws of what fits, an evolution, or all that "
            "fits (spaces of up to two million combinations).",
        ),
        click.option(
            "--show-cut",
            type=click.IntRange(min=0),
            default=1,
            show_default=True,
            metavar="N",
            help="Of the over-budget designs that tpe would have liked, record N per trained one as pruned.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
