"""Boards: what a device has for training, with figures from its data sheet.

RAM is a list of regions. A buffer lies in one of them, also where two are neighbours in the address map: whether a
linker script joins them is not known here, and a bus, a power domain or DMA may end at their border. Memory that holds
code or caches (ITCM, cache RAM), backup RAM and external RAM are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from repnet_search.errors import SpecError, suggest
from repnet_search.units import KIB, MIB

BOARD_RESERVE_BYTES = 32 * KIB
"""What stack, runtime and a camera's buffer are left on a board unless --reserve says otherwise."""

MHZ = 1_000_000


@dataclass(frozen=True, slots=True)
class Region:
    """A piece of RAM in which a buffer may lie."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Core:
    """A processor core and its cycles per multiply-accumulate, loads included.

    All are orders of magnitude, to tell seconds from minutes: kernels, caches and flash wait states move them by a
    factor of two or more. CMSIS-NN's paper has 12.3 M int8 MACs in 99 ms on a Cortex-M7 at 216 MHz, 1.7 cycles each
    [Lai2018cmsisnn]; its later kernels are faster. Cores without an FPU call a float library for every operation.

    [Lai2018cmsisnn] L. Lai, N. Suda, V. Chandra, CMSIS-NN: Efficient Neural Network Kernels for Arm Cortex-M CPUs,
    2018.
    """

    name: str
    float_mac_cycles: float
    int8_mac_cycles: float


CORTEX_M0_PLUS = Core("Cortex-M0+", float_mac_cycles=75, int8_mac_cycles=8)
CORTEX_M4F = Core("Cortex-M4F", float_mac_cycles=5, int8_mac_cycles=2)
CORTEX_M7 = Core("Cortex-M7", float_mac_cycles=2.5, int8_mac_cycles=1)
XTENSA_LX7 = Core("Xtensa LX7", float_mac_cycles=3, int8_mac_cycles=1)


@dataclass(frozen=True, slots=True)
class Board:
    """A device that may train.

    Args:
        name: for --board.
        title: what it is.
        ram_regions: the RAM that data may use.
        flash_bytes: of the chip, or of the flash beside it where the note says so.
        has_fpu: whether it computes fp32 in hardware.
        clock_hz: the highest clock.
        core: of those that train, one.
        datasheet: where the figures are from.
        note: what to know about the figures; "" where they speak for themselves.
    """

    name: str
    title: str
    ram_regions: tuple[Region, ...]
    flash_bytes: int
    has_fpu: bool
    clock_hz: int
    core: Core
    datasheet: str
    note: str = ""

    @property
    def ram_bytes(self) -> int:
        """The RAM of all regions."""
        return sum(region.size_bytes for region in self.ram_regions)


def _regions(**sizes_kib: int) -> tuple[Region, ...]:
    return tuple(Region(name, size * KIB) for name, size in sizes_kib.items())


_H7_REGIONS = _regions(dtcm=128, axi_sram=512, sram1=128, sram2=128, sram3=32, sram4=64)
_H7_NOTE = "64 KB of ITCM hold code"
_NRF52840_RAM = _regions(ram=256)

BOARDS = (
    Board(
        "stm32f746",
        "STM32F746 (Discovery)",
        _regions(dtcm=64, sram1=240, sram2=16),
        flash_bytes=1 * MIB,
        has_fpu=True,
        clock_hz=216 * MHZ,
        core=CORTEX_M7,
        datasheet="ST DS10916",
        note="16 KB of ITCM hold code",
    ),
    Board(
        "stm32h743",
        "STM32H743 (Nucleo-144)",
        _H7_REGIONS,
        flash_bytes=2 * MIB,
        has_fpu=True,
        clock_hz=480 * MHZ,
        core=CORTEX_M7,
        datasheet="ST DS12110",
        note=_H7_NOTE,
    ),
    Board(
        "stm32f412",
        "STM32F412xG (Discovery)",
        _regions(sram=256),
        flash_bytes=1 * MIB,
        has_fpu=True,
        clock_hz=100 * MHZ,
        core=CORTEX_M4F,
        datasheet="ST DS11139",
    ),
    Board(
        "stm32f446",
        "STM32F446xE (Nucleo-64)",
        _regions(sram1=112, sram2=16),
        flash_bytes=512 * KIB,
        has_fpu=True,
        clock_hz=180 * MHZ,
        core=CORTEX_M4F,
        datasheet="ST DS10693",
    ),
    Board(
        "stm32f407",
        "STM32F407xG (Discovery)",
        _regions(ccm=64, sram1=112, sram2=16),
        flash_bytes=1 * MIB,
        has_fpu=True,
        clock_hz=168 * MHZ,
        core=CORTEX_M4F,
        datasheet="ST DS8626",
        note="DMA does not reach the CCM",
    ),
    Board(
        "nrf52840",
        "Nordic nRF52840 (DK)",
        _NRF52840_RAM,
        flash_bytes=1 * MIB,
        has_fpu=True,
        clock_hz=64 * MHZ,
        core=CORTEX_M4F,
        datasheet="nRF52840 Product Specification",
    ),
    Board(
        "arduino-nano-33-ble",
        "Nano 33 BLE (nRF52840)",
        _NRF52840_RAM,
        flash_bytes=1 * MIB,
        has_fpu=True,
        clock_hz=64 * MHZ,
        core=CORTEX_M4F,
        datasheet="Arduino ABX00030",
    ),
    Board(
        "portenta-h7",
        "Portenta H7 (STM32H747)",
        _H7_REGIONS,
        flash_bytes=2 * MIB,
        has_fpu=True,
        clock_hz=480 * MHZ,
        core=CORTEX_M7,
        datasheet="ST DS12930",
        note=f"{_H7_NOTE}; the SDRAM and the QSPI flash beside the chip are left out",
    ),
    Board(
        "rp2040",
        "Pico (RP2040)",
        _regions(sram=256, scratch_x=4, scratch_y=4),
        flash_bytes=2 * MIB,
        has_fpu=False,
        clock_hz=133 * MHZ,
        core=CORTEX_M0_PLUS,
        datasheet="RP2040 Datasheet",
        note="no flash on the chip: the Pico has 2 MB of QSPI flash; give another board's with --flash",
    ),
    Board(
        "esp32-s3",
        "ESP32-S3 (WROOM-1-N8)",
        _regions(sram1=416, sram2=32),
        flash_bytes=8 * MIB,
        has_fpu=True,
        clock_hz=240 * MHZ,
        core=XTENSA_LX7,
        datasheet="ESP32-S3 Technical Reference Manual",
        note="of 512 KB of SRAM, 32 KB are for code and the instruction cache, 32 KB are the data cache, and ESP-IDF "
        "takes its share of the rest; flash of an N8 module",
    ),
)


def list_boards() -> tuple[Board, ...]:
    """Returns all boards."""
    return BOARDS


def get_board(name: str) -> Board:
    """Returns a board by its name, in upper or lower case.

    Raises:
        SpecError: there is none of this name.
    """
    for board in BOARDS:
        if board.name == name.lower():
            return board
    names = [board.name for board in BOARDS]
    raise SpecError(
        f"A board is one of {', '.join(names)}, but got {name!r}.{suggest(name.lower(), names)} For another device "
        "give --budget and --flash."
    )


def take_reserve(regions: tuple[Region, ...], reserve_bytes: int) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
    """Returns what is left of the regions when a reserve is taken out, and what was taken.

    It comes out of the smallest region that holds it, so that the large ones stay whole; where none does, out of the
    largest ones. A region of which nothing is left is left out.

    >>> take_reserve((Region("a", 64), Region("b", 240)), 32)
    ((Region(name='a', size_bytes=32), Region(name='b', size_bytes=240)), (Region(name='a', size_bytes=32),))
    """
    holding = [region for region in regions if region.size_bytes >= reserve_bytes]
    order = [min(holding, key=lambda r: r.size_bytes)] if holding else sorted(regions, key=lambda r: -r.size_bytes)
    taken: dict[str, int] = {}
    for region in order:
        taken[region.name] = min(region.size_bytes, reserve_bytes - sum(taken.values()))
    left = (Region(region.name, region.size_bytes - taken.get(region.name, 0)) for region in regions)
    return (
        tuple(region for region in left if region.size_bytes),
        tuple(Region(name, size) for name, size in taken.items() if size),
    )
