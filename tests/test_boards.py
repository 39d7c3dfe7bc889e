"""The boards are what their data sheets say, and a reserve costs as little as it can."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repnet_search.boards import BOARDS, Board, Region, get_board, list_boards, take_reserve
from repnet_search.errors import SpecError
from repnet_search.units import KIB, MIB

sizes = st.lists(st.integers(1, 512), min_size=1, max_size=6)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_a_board_is_plausible(board: Board) -> None:
    assert board.name == board.name.lower()
    assert 64 * KIB <= board.ram_bytes <= 2 * MIB
    assert all(region.size_bytes % KIB == 0 for region in board.ram_regions)
    assert len({region.name for region in board.ram_regions}) == len(board.ram_regions)
    assert 256 * KIB <= board.flash_bytes <= 16 * MIB
    assert board.flash_bytes % (256 * KIB) == 0
    assert 16e6 <= board.clock_hz <= 600e6
    assert board.has_fpu == (board.core.float_mac_cycles < 20)
    assert 0 < board.core.int8_mac_cycles <= board.core.float_mac_cycles
    assert board.datasheet
    assert get_board(board.name.upper()) is board


def test_names_are_unique() -> None:
    assert len({board.name for board in list_boards()}) == len(list_boards())


@pytest.mark.parametrize(
    ("name", "ram_kib", "largest_kib", "flash_kib", "clock_mhz"),
    [
        ("stm32f746", 320, 240, 1024, 216),
        ("stm32h743", 1056 - 64, 512, 2048, 480),  # of 1056 KB of RAM, 64 are ITCM
        ("portenta-h7", 1056 - 64, 512, 2048, 480),
        ("stm32f412", 256, 256, 1024, 100),
        ("stm32f446", 128, 112, 512, 180),
        ("stm32f407", 192, 112, 1024, 168),
        ("nrf52840", 256, 256, 1024, 64),
        ("arduino-nano-33-ble", 256, 256, 1024, 64),
        ("rp2040", 264, 256, 2048, 133),
        ("esp32-s3", 512 - 64, 416, 8192, 240),  # of 512 KB, 32 are for code and 32 the data cache
    ],
)
def test_the_totals_of_the_data_sheets(
    name: str, ram_kib: int, largest_kib: int, flash_kib: int, clock_mhz: int
) -> None:
    board = get_board(name)
    assert board.ram_bytes == ram_kib * KIB
    assert max(region.size_bytes for region in board.ram_regions) == largest_kib * KIB
    assert board.flash_bytes == flash_kib * KIB
    assert board.clock_hz == clock_mhz * 1_000_000


def test_an_unknown_board_names_the_nearest() -> None:
    with pytest.raises(SpecError, match=r"but got 'stm32f764'\. Did you mean 'stm32f746'"):
        get_board("stm32f764")


def test_a_reserve_comes_out_of_the_smallest_region_that_holds_it() -> None:
    board = get_board("stm32f746")
    left, taken = take_reserve(board.ram_regions, 32 * KIB)
    assert taken == (Region("dtcm", 32 * KIB),)
    assert [region.size_bytes // KIB for region in left] == [32, 240, 16]
    whole, nothing = take_reserve(board.ram_regions, 0)
    assert (whole, nothing) == (board.ram_regions, ())
    left, taken = take_reserve(get_board("stm32h743").ram_regions, 32 * KIB)
    assert taken == (Region("sram3", 32 * KIB),)
    assert "sram3" not in {region.name for region in left}


def test_a_reserve_that_no_region_holds_comes_out_of_the_largest() -> None:
    regions = (Region("a", 10), Region("b", 50), Region("c", 30))
    left, taken = take_reserve(regions, 60)
    assert taken == (Region("b", 50), Region("c", 10))
    assert left == (Region("a", 10), Region("c", 20))


@given(sizes, st.data())
def test_nothing_is_lost_to_a_reserve(sizes: list[int], data: st.DataObject) -> None:
    regions = tuple(Region(f"r{index}", size) for index, size in enumerate(sizes))
    reserve = data.draw(st.integers(0, sum(sizes)))
    left, taken = take_reserve(regions, reserve)
    assert sum(region.size_bytes for region in taken) == reserve
    assert sum(region.size_bytes for region in left) == sum(sizes) - reserve
    assert all(region.size_bytes > 0 for region in (*left, *taken))
