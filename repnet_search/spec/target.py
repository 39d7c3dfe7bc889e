"""How a target trains: what is a property of the device, not of the design."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from repnet_search.boards import Board, Region, take_reserve
from repnet_search.errors import SpecError
from repnet_search.units import format_size


class Schedule(StrEnum):
    """How a target runs the frozen backbone.

    layer: one operator at a time, as the lean runtime does. inplace: depthwise convolutions overwrite their input,
    channel by channel [Lin2022tinyengine]. streamed: a frozen inverted residual runs per hidden channel, so that the
    expanded map never exists; nothing is recomputed; other depthwise convolutions run in place.

    [Lin2022tinyengine] J. Lin et al., On-Device Training Under 256KB Memory, NeurIPS 2022.
    """

    LAYER = "layer"
    INPLACE = "inplace"
    STREAMED = "streamed"


class Slopes(StrEnum):
    """How a target keeps the slopes of the frozen backbone's h-swish and SiLU for the backward pass.

    exact: as their input, 4 bytes per element. 8bit: as the slope itself in one byte, off by at most 1/252; where a
    squeeze-and-excitation follows, the input is kept all the same, from which its input map is made again.
    """

    EXACT = "exact"
    EIGHT_BIT = "8bit"


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """What a device has for training.

    Args:
        ram_bytes: training memory that a design may take, a reserve taken off.
        flash_bytes: for frozen weights, code and trained weights; None where it is no limit.
        regions: what the RAM consists of, the reserve taken off; () where it is one piece.
    """

    ram_bytes: int
    flash_bytes: int | None = None
    regions: tuple[Region, ...] = ()

    @classmethod
    def of_board(cls, board: Board, *, reserve_bytes: int = 0) -> DeviceLimits:
        """Returns what a board has without a reserve.

        Raises:
            SpecError: the reserve leaves nothing of the RAM.
        """
        if reserve_bytes >= board.ram_bytes:
            raise SpecError(
                f"A reserve must be less than the RAM of {board.name}, {format_size(board.ram_bytes)}, but got "
                f"{format_size(reserve_bytes)}."
            )
        left, _ = take_reserve(board.ram_regions, reserve_bytes)
        return cls(board.ram_bytes - reserve_bytes, board.flash_bytes, left)
