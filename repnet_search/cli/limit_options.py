"""What the device has, as options: a budget or a board, a reserve, and flash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from repnet_search.cli.options import Command, Size

if TYPE_CHECKING:
    from repnet_search.boards import Board, Region
    from repnet_search.spec.target import DeviceLimits


@dataclass(frozen=True, slots=True)
class Device:
    """What the options mean: the limits, and what they were made of.

    Args:
        limits: what a design may take.
        ram_bytes: the budget, or the RAM of the board, the reserve in it.
        reserve_bytes: what is kept free of it.
        reserved: out of which regions of the board.
        board: where one was named.
    """

    limits: DeviceLimits
    ram_bytes: int
    reserve_bytes: int
    reserved: tuple[Region, ...] = ()
    board: Board | None = None


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """What the options of `device_options` say."""

    budget: int | None
    board: str | None
    reserve: int | None
    flash: int | None

    def require(self) -> Device:
        """Returns the device; raises as `create`, and where none is described."""
        from repnet_search.errors import UsageError

        device = self.create()
        if device is None:
            raise UsageError("Say what the device has: --budget 256KB, or --board stm32f746 ('boards' lists them).")
        return device

    def create(self) -> Device | None:
        """Returns the device, None where no option describes one.

        Raises:
            UsageError: a budget and a board, a reserve or a flash alone, or a reserve that leaves nothing.
            SpecError: there is no such board.
        """
        from repnet_search.errors import UsageError

        if self.budget is not None and self.board is not None:
            raise UsageError("--budget and --board both say how much memory there is; give one of them.")
        if self.board is not None:
            return self._of_board(self.board)
        if self.budget is not None:
            return self._of_budget(self.budget)
        for option, value in (("--reserve", self.reserve), ("--flash", self.flash)):
            if value is not None:
                raise UsageError(f"{option} goes with --budget or --board; give one of them too.")
        return None

    def _of_budget(self, budget_bytes: int) -> Device:
        from repnet_search.errors import UsageError
        from repnet_search.spec.target import DeviceLimits

        reserve = self.reserve or 0
        if reserve >= budget_bytes:
            raise UsageError("--reserve must be less than --budget.")
        return Device(DeviceLimits(budget_bytes - reserve, self.flash), budget_bytes, reserve)

    def _of_board(self, name: str) -> Device:
        import dataclasses

        from repnet_search.boards import BOARD_RESERVE_BYTES, get_board, take_reserve
        from repnet_search.errors import UsageError
        from repnet_search.spec.target import DeviceLimits
        from repnet_search.units import format_size

        board = get_board(name)
        reserve = BOARD_RESERVE_BYTES if self.reserve is None else self.reserve
        if reserve >= board.ram_bytes:
            raise UsageError(f"--reserve must be less than the RAM of {board.name}, {format_size(board.ram_bytes)}.")
        limits = DeviceLimits.of_board(board, reserve_bytes=reserve)
        if self.flash is not None:
            limits = dataclasses.replace(limits, flash_bytes=self.flash)
        _, reserved = take_reserve(board.ram_regions, reserve)
        return Device(limits, board.ram_bytes, reserve, reserved, board)


def device_options(*, budget_help: str) -> Callable[[Command], Command]:
    """Returns what adds --budget, --board, --reserve and --flash.

    Args:
        budget_help: what the command does with a budget.
    """

    def add(command: Command) -> Command:
        flash = click.option(
            "--flash",
            type=Size(),
            help="Flash for the frozen backbone, 64 KiB of code and two copies of what is trained: a second hard "
            "limit. Default: the board's.",
        )
        for option in (flash, reserve_option, board_option):
            command = option(command)
        return click.option("--budget", type=Size(), help=budget_help)(command)

    return add


def board_option(command: Command) -> Command:
    """Adds --board."""
    return click.option(
        "--board", metavar="NAME", help="A device instead of a budget, one of 'boards': its regions of RAM, its flash."
    )(command)


def reserve_option(command: Command) -> Command:
    """Adds --reserve."""
    return click.option(
        "--reserve",
        type=Size(zero=True),
        help="Part of the RAM to keep free for stack, runtime and camera. Default: 0 of a budget, 32KB of a board.",
    )(command)
