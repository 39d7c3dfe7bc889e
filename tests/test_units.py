from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repnet_search.errors import UsageError
from repnet_search.units import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("256KB", 262144),
        ("256KiB", 262144),
        ("256kB", 256000),
        ("1MB", 1048576),
        ("0.5 MB", 524288),
        ("7", 7),
        ("1e3B", 1000),
        ("0", 0),
    ],
)
def test_sizes_are_read_as_datasheets_mean_them(text: str, size_bytes: int) -> None:
    assert parse_size(text, zero=True) == size_bytes


def test_memory_of_less_than_a_kib_is_a_number_without_its_unit() -> None:
    assert parse_size("1KB") == parse_size("1024") == 1024
    for text, hint in (("256", True), ("256B", False), ("0", False), ("-1", False), ("1" * 16, False)):
        with pytest.raises(UsageError, match="A size") as error:
            parse_size(text)
        assert ("write the unit, such as 256KB" in str(error.value)) == hint


@pytest.mark.parametrize("text", ["256XB", "-1KB", "0", "1e99GB", "", "KB", "256 kb", "nan", "inf", "1e999"])
def test_what_is_no_size_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_size(text)
    assert repr(text) in str(error.value)


@given(st.integers(min_value=1, max_value=1 << 39))
def test_a_plain_number_is_bytes_and_prints_to_within_its_last_digit(size_bytes: int) -> None:
    assert parse_size(str(size_bytes), zero=True) == size_bytes
    if size_bytes >= 1024:
        shown = parse_size(format_size(size_bytes))
        assert abs(shown - size_bytes) <= 0.051 * (1024 if size_bytes < 1024**2 else 1024**2) + 1
