"""What a little more memory buys: chosen and counted by one measure, the confirmation's or the search's."""

from __future__ import annotations

from app.budget_answer import answer_budget
from repnet_search import StudyView
from repnet_search.results.confirmation import Confirmation
from tests.app.conftest import KIB, make_record, make_runs, make_settings

CHEAP, BETTER, BEST = (
    make_record(1, ram_kib=100, accuracy=0.70),
    make_record(2, ram_kib=110, accuracy=0.76),
    make_record(3, ram_kib=120, accuracy=0.74),
)


def view(*confirmed: tuple[int, float]) -> StudyView:
    records = {record.number: record for record in (CHEAP, BETTER, BEST)}
    found = {
        records[number].design_id: Confirmation(tuple(make_runs(records[number], (mean,) * 3)))
        for number, mean in confirmed
    }
    return StudyView("first", make_settings(), tuple(records.values()), {}, found)


def test_two_confirmed_designs_are_compared_by_their_means() -> None:
    answer = answer_budget(view((1, 0.72), (3, 0.80)), 100 * KIB)
    assert (answer.record, answer.more, answer.is_confirmed) == (CHEAP, BEST, True)
    assert answer.sentence.startswith("The next 32 KiB buy +8.0 points: design 00000003")


def test_else_the_search_chooses_and_counts() -> None:
    answer = answer_budget(view((3, 0.80)), 100 * KIB)
    assert (answer.record, answer.more, answer.is_confirmed) == (CHEAP, BETTER, False)
    assert "buy +6.0 points: design 00000002, 110.0 KiB (as the search measured, one seed each)" in answer.sentence


def test_more_memory_may_buy_nothing() -> None:
    assert "buy nothing" in answer_budget(view(), 110 * KIB).sentence
    assert "buy the first design that fits" in answer_budget(view(), 90 * KIB).sentence
