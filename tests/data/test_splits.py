"""Which file goes into which split."""

from __future__ import annotations

import unicodedata
from random import Random

import pytest

from repnet_search.data.source import Split
from repnet_search.data.splits import _apportion, assign_splits, name_key, proxy_counts
from repnet_search.errors import DataError


def _splits(count: int, *, stem: str = "image") -> dict[str, Split]:
    """Returns the split of each of `count` names where both held-out sets come from the same folder."""
    names = [f"{stem}-{index}.jpg" for index in range(count)]
    assigned = assign_splits(names, hold_out_test=True, hold_out_validation=True)
    return {name: split for split, members in assigned.items() for name in members}


def test_each_name_is_in_one_split_and_the_order_given_does_not_matter() -> None:
    names = [f"{index}.png" for index in range(200)]
    forth = assign_splits(names, hold_out_test=True, hold_out_validation=True)
    assert forth == assign_splits(names[::-1], hold_out_test=True, hold_out_validation=True)
    assert sorted(name for members in forth.values() for name in members) == sorted(names)


def test_shares_are_a_fifth_and_a_fifth_of_the_rest() -> None:
    counts = {split: list(_splits(5000).values()).count(split) for split in Split}
    assert counts[Split.TEST] == pytest.approx(1000, abs=100)
    assert counts[Split.VALIDATION] == pytest.approx(800, abs=100)


@pytest.mark.parametrize("stem", ["a", "b", "c", "d", "e", "f"])
def test_adding_a_file_moves_no_other_once_each_split_has_its_own(stem: str) -> None:
    before = _splits(40, stem=stem)
    for count in range(41, 200):
        after = _splits(count, stem=stem)
        assert {name: after[name] for name in before} == before
        before = after


@pytest.mark.parametrize("stem", ["a", "b", "c", "d", "e", "f"])
def test_in_a_small_class_adding_a_file_moves_at_most_the_stand_ins(stem: str) -> None:
    before = _splits(3, stem=stem)
    for count in range(4, 60):
        after = _splits(count, stem=stem)
        assert sum(after[name] is not split for name, split in before.items()) <= 2
        before = after


@pytest.mark.parametrize("count", [3, 4, 5, 6, 10])
def test_small_classes_are_in_every_split(count: int) -> None:
    for stem in range(50):
        assert set(_splits(count, stem=str(stem)).values()) == set(Split)


def test_a_folder_of_its_own_for_the_test_set_leaves_validation_to_be_held_out() -> None:
    names = [f"{index}.png" for index in range(100)]
    assigned = assign_splits(names, hold_out_test=False, hold_out_validation=True)
    assert set(assigned) == {Split.TRAIN, Split.VALIDATION}
    both = assign_splits(names, hold_out_test=True, hold_out_validation=True)
    # The two draws are independent: what validates is the same, but for the files that now test.
    assert set(both[Split.VALIDATION]) == set(assigned[Split.VALIDATION]) - set(both[Split.TEST])


def test_names_hash_alike_however_accents_and_bad_bytes_are_stored() -> None:
    assert name_key("fleur-é.jpg") == name_key(unicodedata.normalize("NFD", "fleur-é.jpg"))
    assert name_key(b"\xff.jpg".decode("utf-8", "surrogateescape")) == b"\xff.jpg"


def test_the_assignment_is_pinned() -> None:
    # Recorded studies rest on it: a change of the rule is a change of the format.
    letters = {Split.TRAIN: "a", Split.VALIDATION: "b", Split.TEST: "c"}
    splits = _splits(30)
    assert "".join(letters[splits[f"image-{index}.jpg"]] for index in range(30)) == "baaaaaaaaabaaaaaaaaaacbabacaab"


@pytest.mark.parametrize("proxy_images", [6, 7, 10, 33, 100, 159, 160])
def test_a_proxy_takes_exactly_as_many_as_asked(proxy_images: int) -> None:
    train, validation = proxy_counts(
        train=[8, 80, 40], validation=[2, 20, 10], proxy_images=proxy_images, validation_share=0.2
    )
    assert sum(train) + sum(validation) == proxy_images
    for taken, there in zip((train, validation), ([8, 80, 40], [2, 20, 10]), strict=True):
        assert all(1 <= count <= size for count, size in zip(taken, there, strict=True))


def test_a_proxy_is_stratified_and_keeps_the_share_it_is_given() -> None:
    assert proxy_counts(train=[400, 800], validation=[300, 600], proxy_images=150, validation_share=0.2) == (
        [40, 80],
        [10, 20],
    )
    natural = proxy_counts(train=[100, 100], validation=[100, 100], proxy_images=80, validation_share=None)
    assert natural == ([20, 20], [20, 20])


def test_a_proxy_fills_up_from_training_where_validation_is_short() -> None:
    train, validation = proxy_counts(train=[100, 100], validation=[2, 2], proxy_images=100, validation_share=0.2)
    assert (sum(train), sum(validation)) == (96, 4)


def test_a_proxy_larger_than_what_is_there_takes_all() -> None:
    assert proxy_counts(train=[8, 9], validation=[2, 3], proxy_images=10**9, validation_share=0.2) == ([8, 9], [2, 3])


def test_a_proxy_of_many_small_classes_gives_each_one_image() -> None:
    sizes = [1000] + [1] * 200
    train, validation = proxy_counts(train=sizes, validation=sizes, proxy_images=420, validation_share=0.2)
    assert min(train) == min(validation) == 1
    assert sum(train) + sum(validation) == 420


@pytest.mark.parametrize("proxy_images", [-1, 0, 5])
def test_a_proxy_too_small_for_its_classes_is_refused(proxy_images: int) -> None:
    with pytest.raises(DataError, match=rf"at least 6 for 3 classes, but is {proxy_images}; give a larger number"):
        proxy_counts(train=[9, 9, 9], validation=[3, 3, 3], proxy_images=proxy_images, validation_share=0.2)


def _apportion_slowly(sizes: list[int], total: int) -> list[int]:
    """Returns what the proxy's shares are by definition: one image at a time to or from the farthest quota."""
    quotas = [total * size / sum(sizes) for size in sizes]
    counts = [min(size, max(1, int(quota))) for size, quota in zip(sizes, quotas, strict=True)]
    while (missing := total - sum(counts)) != 0:
        step = 1 if missing > 0 else -1
        open_classes = [place for place, size in enumerate(sizes) if 1 <= counts[place] + step <= size]
        counts[max(open_classes, key=lambda place: (step * (quotas[place] - counts[place]), -place))] += step
    return counts


def test_shares_are_those_of_the_definition() -> None:
    random = Random(0)
    for _ in range(300):
        sizes = [random.randint(1, random.choice((3, 40))) for _ in range(random.randint(1, 12))]
        total = random.randint(len(sizes), sum(sizes))
        assert _apportion(sizes, total=total) == _apportion_slowly(sizes, total)


def test_ten_thousand_classes_take_no_time() -> None:
    sizes = [2 + place % 5 for place in range(10_000)]
    train, validation = proxy_counts(train=sizes, validation=sizes, proxy_images=21_111, validation_share=0.2)
    assert sum(train) + sum(validation) == 21_111
    assert min(train + validation) == 1
