"""The three accounts of one design side by side; each figure says what it counts, for which batch and recipe.

They answer different questions and are never mixed: `arena` is what a device needs, `eager` what stock PyTorch holds on
to, `paper` what the published tables counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from repnet_search.errors import SpecError
from repnet_search.graph import Schedule, Slopes, TrainingGraph, build_graph
from repnet_search.graph.tape import FLOAT_BYTES
from repnet_search.memory.eager import count_kept_bytes
from repnet_search.memory.estimate import estimate_memory
from repnet_search.memory.paper import estimate_paper
from repnet_search.memory.parameters import optimizer_bytes_per_parameter
from repnet_search.spec.design import Optimizer, Recipe
from repnet_search.spec.resolve import ResolvedDesign


class Account(StrEnum):
    """A way of counting training memory."""

    ARENA = "arena"
    EAGER = "eager"
    PAPER = "paper"

    @property
    def meaning(self) -> str:
        """What the account counts, in a few words."""
        return _MEANINGS[self]


_MEANINGS = {
    Account.ARENA: "RAM of a lean runtime; frozen weights stay in flash",
    Account.EAGER: "stock PyTorch in fp32: what it keeps for the backward pass, and all weights; no kernel scratch",
    Account.PAPER: "the rules of the published tables: no backward pass, no gradients, no optimizer; MB of 10^6 bytes",
}


@dataclass(frozen=True, slots=True)
class AccountFigure:
    """A figure with its terms in bytes.

    Args:
        account: what was counted.
        schedule: of a target; None where the account knows none.
        batch: images of the micro-batch.
        recipe: what the parameters pay for; None where the account leaves it out.
        terms: the summands with their names.
        missing: why there is no figure; "" where there is one.
    """

    account: Account
    schedule: Schedule | None
    batch: int
    recipe: Recipe | None
    terms: tuple[tuple[str, int], ...]
    missing: str = ""

    @property
    def total_bytes(self) -> int | None:
        """The sum of the terms, None where there is no figure."""
        return None if self.missing else sum(size for _, size in self.terms)


def compare_accounts(
    resolved: ResolvedDesign, *, classes: int, batch: int = 1, slopes: Slopes = Slopes.EXACT
) -> tuple[AccountFigure, ...]:
    """Returns the arena for every schedule, then eager, then paper; `slopes` are those of the arena's target.

    Raises:
        SpecError: as `build_graph`.
    """
    recipe = resolved.design.recipe
    figures = []
    for schedule in Schedule:
        memory = estimate_memory(resolved, classes=classes, batch=batch, schedule=schedule, slopes=slopes)
        figures.append(AccountFigure(Account.ARENA, schedule, batch, recipe, memory.terms))
    graph = build_graph(resolved, classes=classes, batch=batch)
    figures.append(AccountFigure(Account.EAGER, None, batch, recipe, _eager_terms(graph, recipe)))
    figures.append(_paper_figure(resolved, classes=classes, batch=batch))
    return tuple(figures)


def _eager_terms(graph: TrainingGraph, recipe: Recipe) -> tuple[tuple[str, int], ...]:
    """PyTorch keeps a gradient per trainable parameter whatever the recipe; its Adam also a step count per tensor."""
    parameters = graph.parameter_count
    tensors = sum(parameter.trains for parameter in graph.parameters)
    state = parameters * optimizer_bytes_per_parameter(recipe)
    if recipe.optimizer is Optimizer.ADAM:
        state += FLOAT_BYTES * tensors
    frozen = sum(parameter.elements for parameter in graph.parameters if not parameter.trains)
    terms = (
        ("kept for backward", count_kept_bytes(graph)),
        ("parameters", parameters * FLOAT_BYTES),
        ("norm state", graph.norm_state_elements * FLOAT_BYTES),
        ("optimizer state", state),
        ("gradients", parameters * FLOAT_BYTES),
        ("frozen weights", frozen * FLOAT_BYTES),
    )
    return tuple((name, size) for name, size in terms if size)


def _paper_figure(resolved: ResolvedDesign, *, classes: int, batch: int) -> AccountFigure:
    try:
        paper = estimate_paper(resolved, classes=classes, batch=batch)
    except SpecError as error:  # the published rules know no int8 backbone
        return AccountFigure(Account.PAPER, None, batch, None, (), missing=str(error))
    terms = (
        ("activations", batch * paper.peak_activation_bytes),
        ("parameters (frozen ones 1 byte)", paper.parameter_bytes),
    )
    return AccountFigure(Account.PAPER, None, batch, None, terms)
