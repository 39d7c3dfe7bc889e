"""Flash: the frozen backbone, the code, and what was trained, twice.

Frozen weights take a byte where the backbone runs in int8, else 4; folded biases 4, unless they train; in int8 every
output channel also has a multiplier and a shift for its requantisation. Trained weights are kept in fp32 and in two
copies, the current one and the one before, so that a power loss while one is written loses nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from repnet_search.backbones import BlockTable, has_widths
from repnet_search.errors import OverBudgetError
from repnet_search.graph.tape import FLOAT_BYTES
from repnet_search.spec.design import BackboneSpec
from repnet_search.spec.table import get_table
from repnet_search.spec.target import DeviceLimits
from repnet_search.units import KIB, format_size

CODE_BYTES = 64 * KIB
"""An assumption: training and inference kernels, their tables, the C library, drivers and start-up. Interpreters for
inference alone take tens of KB with their kernels, and a training engine needs each kernel's backward one too."""
TRAINED_COPIES = 2
REQUANTISATION_BYTES = 5
"""Per output channel: a multiplier of 4 bytes and a shift of 1, as in TensorFlow Lite's per-channel scheme."""

_WIDTHS = (1.4, 1.0, 0.75, 0.5, 0.35, 0.25, 0.1)


@dataclass(frozen=True, slots=True)
class FlashEstimate:
    """What a design takes in flash, in bytes."""

    weight_bytes: int
    bias_bytes: int
    requantisation_bytes: int
    code_bytes: int
    trained_bytes: int

    @property
    def total_bytes(self) -> int:
        """The sum of the terms, which a limit of flash holds for."""
        return sum(size for _, size in self.terms)

    @property
    def terms(self) -> tuple[tuple[str, int], ...]:
        """The summands with their names; those that are 0 are left out."""
        terms = (
            ("frozen weights", self.weight_bytes),
            ("folded biases", self.bias_bytes),
            ("requantisation", self.requantisation_bytes),
            ("code (assumed)", self.code_bytes),
            ("trained, 2 copies", self.trained_bytes),
        )
        return tuple((name, size) for name, size in terms if size)


def estimate_flash(
    table: BlockTable, *, activation_bits: int, train_bias: bool, trained_elements: int
) -> FlashEstimate:
    """Returns what a design takes in flash.

    Args:
        table: the frozen backbone.
        activation_bits: of the backbone, 8 or 32.
        train_bias: whether the backbone's biases train; they are then among the trained elements.
        trained_elements: trainable parameters and the norms' running statistics.
    """
    quantised = activation_bits == 8
    return FlashEstimate(
        weight_bytes=table.weight_count * (1 if quantised else FLOAT_BYTES),
        bias_bytes=0 if train_bias else table.bias_count * FLOAT_BYTES,
        requantisation_bytes=table.bias_count * REQUANTISATION_BYTES if quantised else 0,
        code_bytes=CODE_BYTES,
        trained_bytes=trained_elements * FLOAT_BYTES * TRAINED_COPIES,
    )


def check_backbone_fits(
    backbone: BackboneSpec, *, activation_bits: Collection[int], limits: DeviceLimits, classes: int = 0
) -> None:
    """Makes sure that the flash holds a backbone before anything is trained on it.

    Args:
        backbone: the frozen backbone.
        activation_bits: what it may run in.
        limits: of the device.
        classes: outputs of the last layer, which is the least that trains; 0 where they are not known yet.

    Raises:
        OverBudgetError: it does not; says what is needed and which width or number of bits would do.
    """
    if limits.flash_bytes is None:
        return
    bits = min(activation_bits)
    needed = _least_bytes(backbone, bits, classes)
    if needed <= limits.flash_bytes:
        return
    ways_out = []
    in_int8 = _least_bytes(backbone, 8, classes)
    if bits != 8 and in_int8 <= limits.flash_bytes:
        ways_out.append(f"--activation-bits 8 ({format_size(in_int8)})")
    narrower = _widest_that_fits(backbone, bits, classes, limits.flash_bytes)
    if narrower is not None:
        ways_out.append(f"--width-mult {narrower.width_mult:g} ({format_size(_least_bytes(narrower, bits, classes))})")
    what = "frozen weights and last layer" if classes else "frozen weights"
    advice = " or ".join(ways_out) or "a smaller backbone, or a device with more flash"
    raise OverBudgetError(
        f"A flash of {format_size(limits.flash_bytes)} cannot hold {get_table(backbone).name} in "
        f"{'int8' if bits == 8 else 'fp32'}: its {what} with {format_size(CODE_BYTES)} of code take "
        f"{format_size(needed)}, {format_size(needed - limits.flash_bytes)} too much; use {advice}."
    )


def _least_bytes(backbone: BackboneSpec, activation_bits: int, classes: int) -> int:
    """Returns the flash of the last layer alone."""
    table = get_table(backbone)
    trained = classes * (table.feature_channels + 1)
    return estimate_flash(
        table, activation_bits=activation_bits, train_bias=False, trained_elements=trained
    ).total_bytes


def _widest_that_fits(
    backbone: BackboneSpec, activation_bits: int, classes: int, flash_bytes: int
) -> BackboneSpec | None:
    """Returns the backbone in the largest customary width below its own that the flash holds."""
    for width in _WIDTHS if backbone.traced is None and has_widths(backbone.name) else ():
        narrower = backbone.model_copy(update={"width_mult": width})
        if width < backbone.width_mult and _least_bytes(narrower, activation_bits, classes) <= flash_bytes:
            return narrower
    return None
