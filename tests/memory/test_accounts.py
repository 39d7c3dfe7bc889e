"""Accounts side by side: every figure is its own account's, and says what it is of."""

from __future__ import annotations

import pytest

from repnet_search.errors import SpecError
from repnet_search.graph import Schedule, build_graph
from repnet_search.memory import (
    Account,
    AccountFigure,
    compare_accounts,
    count_kept_bytes,
    estimate_memory,
    estimate_paper,
)
from repnet_search.spec import Design, Norm, Optimizer, Recipe, resolve
from tests.designs import six_connectors


def by_account(figures: tuple[AccountFigure, ...], account: Account) -> list[AccountFigure]:
    return [figure for figure in figures if figure.account is account]


def test_every_figure_is_the_account_s_own() -> None:
    resolved = resolve(six_connectors())
    figures = compare_accounts(resolved, classes=10, batch=2)
    assert {figure.batch for figure in figures} == {2}
    arenas = by_account(figures, Account.ARENA)
    assert [figure.schedule for figure in arenas] == list(Schedule)
    for figure in arenas:
        assert figure.schedule is not None
        memory = estimate_memory(resolved, classes=10, batch=2, schedule=figure.schedule)
        assert figure.total_bytes == memory.ram_bytes
        assert figure.recipe == resolved.design.recipe
    (paper,) = by_account(figures, Account.PAPER)
    assert paper.total_bytes == estimate_paper(resolved, classes=10, batch=2).total_bytes
    assert (paper.recipe, paper.schedule) == (None, None)


@pytest.mark.parametrize(
    ("optimizer", "floats"), [(Optimizer.SIGN_SGD, 0), (Optimizer.MOMENTUM, 1), (Optimizer.ADAM, 2)]
)
def test_eager_by_hand(optimizer: Optimizer, floats: int) -> None:
    resolved = resolve(Design(connectors=(), recipe=Recipe(optimizer=optimizer)))
    (eager,) = by_account(compare_accounts(resolved, classes=10), Account.EAGER)
    steps = 4 * 2 if optimizer is Optimizer.ADAM else 0  # a step count for the weight and one for the bias
    terms = dict(eager.terms)
    assert terms["kept for backward"] == count_kept_bytes(build_graph(resolved, classes=10))
    assert terms["parameters"] == terms["gradients"] == 4 * 1130
    assert terms.get("optimizer state", 0) == 4 * 1130 * floats + steps
    assert terms["frozen weights"] == 4 * (238688 + 5760)


def test_the_paper_account_says_why_it_has_no_int8() -> None:
    resolved = resolve(six_connectors().model_copy(update={"activation_bits": 8}))
    (paper,) = by_account(compare_accounts(resolved, classes=10), Account.PAPER)
    assert paper.total_bytes is None
    assert "int8" in paper.missing


def test_a_batch_norm_needs_a_batch() -> None:
    resolved = resolve(six_connectors(norm=Norm.BATCH))
    assert all(figure.total_bytes for figure in compare_accounts(resolved, classes=10, batch=2))
    with pytest.raises(SpecError, match="couples the images of a batch"):
        compare_accounts(resolved, classes=10)
