"""How a search proposes designs and when it stops, as options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from repnet_search.cli.options import Command

if TYPE_CHECKING:
    from repnet_search.results.session import Session
    from repnet_search.search.confirm import ConfirmationPlan
    from repnet_search.spec.study import SearchSpec

DEFAULT_TRIALS = 24
SAMPLERS = ("tpe", "random", "nsga2", "exhaustive")
"""As `spec.study.Sampler` has them; importing it would cost `--help` a third of a second."""


@dataclass(frozen=True, slots=True)
class SearchChoice:
    """What the options of `search_options` say."""

    sampler: str
    show_cut: int
    reduction: int
    confirm: int
    confirm_seeds: int
    confirm_epochs: int | None

    def create(self) -> SearchSpec:
        """Returns the settings of the search."""
        from repnet_search.spec.study import Sampler, SearchSpec

        return SearchSpec(sampler=Sampler(self.sampler), pruned_per_design=self.show_cut, reduction=self.reduction)

    def create_confirmation(self, *, epochs: int) -> ConfirmationPlan | None:
        """Returns what is confirmed, None where nothing is; `epochs` are those of the search."""
        from repnet_search.search.confirm import ConfirmationPlan

        if self.confirm == 0:
            return None
        return ConfirmationPlan(self.confirm, self.confirm_seeds, self._confirm_epochs(epochs))

    def create_session(self, *, epochs: int, workers: int, warm_start: tuple[str, ...]) -> Session:
        """Returns what a study keeps of a run; `epochs` are those of the search."""
        from repnet_search.results.session import Session

        return Session(
            workers=workers,
            confirm=self.confirm,
            confirm_seeds=self.confirm_seeds,
            confirm_epochs=self._confirm_epochs(epochs),
            warm_start=warm_start,
        )

    def _confirm_epochs(self, epochs: int) -> int:
        from repnet_search.search.confirm import LONGER

        return self.confirm_epochs or LONGER * epochs


def search_options(command: Command) -> Command:
    """Adds the options of when a search stops, what it proposes, and how its best are confirmed."""
    options = (
        click.option(
            "--trials",
            type=click.IntRange(min=1),
            default=DEFAULT_TRIALS,
            show_default=True,
            help="Trained designs of the study in all; the last layer alone is trained beside them.",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            metavar="SECONDS",
            help="Stop searching after this time.",
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
            help="What proposes designs: a Parzen estimator whose best a Gaussian process ranks, uniform draws of what "
            "fits, an evolution, or all that fits (spaces of up to two million combinations).",
        ),
        click.option(
            "--show-cut",
            type=click.IntRange(min=0),
            default=1,
            show_default=True,
            metavar="N",
            help="Of the over-budget designs that tpe would have liked, record N per trained one as pruned.",
        ),
        click.option(
            "--warm-start",
            multiple=True,
            metavar="NAME",
            help="Behind the usual starts try the winners of another study of this storage, as near as this space has "
            "them; may be given several times.",
        ),
        click.option(
            "--reduction",
            type=click.IntRange(1, 100),
            default=1,
            show_default=True,
            metavar="N",
            help="Successive halving: after 1/N² and 1/N of the epochs one in N designs of similar memory goes on, and "
            "the others are stopped; 1 trains all to the end.",
        ),
        click.option(
            "--confirm",
            type=click.IntRange(0, 100),
            default=3,
            show_default=True,
            metavar="K",
            help="After the search, train the K most promising designs, the search's own best, the last layer alone "
            "and the widest design again from fresh seeds, and rank them by their mean; 0 leaves it out.",
        ),
        click.option(
            "--confirm-seeds",
            type=click.IntRange(1, 100),
            default=3,
            show_default=True,
            metavar="S",
            help="Seeds of the confirmation.",
        ),
        click.option(
            "--confirm-epochs", type=click.IntRange(1, 10_000), help="Its epochs. Default: twice those of the search."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
