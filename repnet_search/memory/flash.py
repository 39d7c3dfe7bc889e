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

    Raises:
        OverBudgetError: it does not; as `describe_missing_flash` says.
    """
    problem = describe_missing_flash(backbone, activation_bits=activation_bits, limits=limits, classes=classes)
    if problem:
        raise OverBudgetError(problem)


def describe_missing_flash(
    backbone: BackboneSpec, *, activation_bits: Collection[int], limits: DeviceLimits, classes: int = 0
) -> str:
    """Returns why the flash cannot hold a backbone, in a sentence with what would do; "" where it can.

    Args:
        backbone: the frozen backbone.
        activation_bits: what it may run in.
        limits: of the device.
        classes: outputs of the last layer, which is the least that trains; 0 where they are not known yet.
    """
    if limits.flash_bytes is None:
        return ""
    bits, table = min(activation_bits), get_table(backbone)
    least = _least_flash(table, bits, classes)
    needed = least.total_bytes
    if needed <= limits.flash_bytes:
        return ""
    frozen_bytes = needed - least.trained_bytes - CODE_BYTES
    parts = f"{format_size(frozen_bytes)} of frozen weights and {format_size(CODE_BYTES)} of code"
    if classes:
        parts += f", with {format_size(least.trained_bytes)} for two copies of a last layer of {classes} classes"
    return (
        f"A flash of {format_size(limits.flash_bytes)} cannot hold {table.name} in {'int8' if bits == 8 else 'fp32'}: "
        f"{parts} take {format_size(needed)}, "
        f"{format_size(needed - limits.flash_bytes)} too much; use "
        f"{_ways_out(backbone, bits, classes, limits.flash_bytes)}."
    )


def _ways_out(backbone: BackboneSpec, bits: int, classes: int, flash_bytes: int) -> str:
    """Returns what would fit, as the end of a sentence that is right for options and for a design file."""
    table = get_table(backbone)
    options, fields = [], []
    in_int8 = _least_flash(table, 8, classes).total_bytes
    # Networks with smooth activations or squeeze-and-excitation run in fp32 alone (graph/backbone.py).
    if bits != 8 and not table.has_smooth_parts and in_int8 <= flash_bytes:
        options.append(f"--activation-bits 8 ({format_size(in_int8)})")
        fields.append("activation_bits")
    narrower = _widest_that_fits(backbone, bits, classes, flash_bytes)
    if narrower is not None:
        size = format_size(_least_flash(get_table(narrower), bits, classes).total_bytes)
        options.append(f"--width-mult {narrower.width_mult:g} with weights of that width ({size})")
        fields.append("backbone.width_mult")
    least = _least_flash(table, bits, classes)
    if least.trained_bytes > least.weight_bytes + least.bias_bytes:
        fitting = (flash_bytes - (least.total_bytes - least.trained_bytes)) // (least.trained_bytes // classes)
        if fitting > 1:
            options.append(f"at most {fitting} classes")
    if not options:
        return "a smaller backbone, or a device with more flash"
    in_file = f"; in a design file set {' or '.join(fields)}" if fields else ""
    return f"{' or '.join(options)}{in_file}"


def _least_flash(table: BlockTable, activation_bits: int, classes: int) -> FlashEstimate:
    """Returns the flash of the last layer alone."""
    trained = classes * (table.feature_channels + 1)
    return estimate_flash(table, activation_bits=activation_bits, train_bias=False, trained_elements=trained)


def _widest_that_fits(
    backbone: BackboneSpec, activation_bits: int, classes: int, flash_bytes: int
) -> BackboneSpec | None:
    """Returns the backbone in the largest customary width below its own that the flash holds."""
    for width in _WIDTHS if backbone.traced is None and has_widths(backbone.name) else ():
        narrower = backbone.model_copy(update={"width_mult": width})
        if width >= backbone.width_mult:
            continue
        if _least_flash(get_table(narrower), activation_bits, classes).total_bytes <= flash_bytes:
            return narrower
    return None
