"""Which backbone the tensors of a weights file fit, told from their names and shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from repnet_search.backbones import (
    BlockTable,
    Conv,
    default_width_mult,
    has_last_conv,
    has_widths,
    list_backbones,
)
from repnet_search.errors import SpecError, WeightsError
from repnet_search.spec.design import BackboneSpec
from repnet_search.spec.table import get_table

NORM_PARTS = ("weight", "bias", "running_mean", "running_var")

_SHOWN_KEYS = 6
_SHOWN_KEYS_OF_ANOTHER = 1
_COMMON_WIDTHS = (0.1, 0.2, 0.25, 0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
_CLASSIFIERS = ("classifier.", "fc.")


def weight_shape(conv: Conv) -> tuple[int, ...]:
    """Returns the shape of a convolution's weight; a linear layer's in a file lacks the two ones at its end."""
    return conv.out_channels, conv.in_channels // conv.groups, conv.kernel, conv.kernel


def fits(state: Mapping[str, Tensor], spec: BackboneSpec) -> bool:
    """Returns whether tensors are a backbone's."""
    return not _mismatches(state, spec)


def check_fits(state: Mapping[str, Tensor], spec: BackboneSpec, *, name: str) -> None:
    """Makes sure that tensors are a backbone's.

    Raises:
        WeightsError: they are not; says which keys are wrong, and which backbone they do fit.
    """
    problems = _mismatches(state, spec)
    if not problems:
        return
    fitting = describe_fitting(state, spec)
    count = _SHOWN_KEYS_OF_ANOTHER if fitting else _SHOWN_KEYS
    shown = "; ".join(problems[:count])
    more = f"; and {len(problems) - count} more keys" if len(problems) > count else ""
    what = f"The weights {name} do not fit {describe_backbone(spec)}"
    raise WeightsError(f"{what}.{fitting} First wrong: {shown}{more}." if fitting else f"{what}: {shown}{more}.")


def describe_fitting(state: Mapping[str, Tensor], spec: BackboneSpec) -> str:
    """Returns which other backbone tensors fit, as a sentence; "" where none of those that there are does."""
    for candidate in _candidates(spec):
        if candidate != spec and fits(state, candidate):
            return f" They fit {describe_backbone(candidate)}."
    return ""


def list_widths(spec: BackboneSpec) -> tuple[BackboneSpec, ...]:
    """Returns a backbone in its common widths, the narrowest first."""
    if not has_widths(spec.name):
        return (spec,)
    return tuple(spec.model_copy(update={"width_mult": width}) for width in _COMMON_WIDTHS)


def describe_backbone(spec: BackboneSpec) -> str:
    """Returns a backbone's name and the options that it has."""
    options = [f"--width-mult {spec.width_mult:g}"] if has_widths(spec.name) else []
    options += [f"--{'' if spec.last_conv else 'no-'}last-conv"] if has_last_conv(spec.name) else []
    return f"{spec.name} with {' '.join(options)}" if options else spec.name


def weights_table(spec: BackboneSpec) -> BlockTable:
    """Returns the block table of a backbone whose weights are wanted.

    Raises:
        WeightsError: there is no such backbone.
    """
    try:
        return get_table(spec)
    except SpecError as error:
        raise WeightsError(str(error)) from error


def _mismatches(state: Mapping[str, Tensor], spec: BackboneSpec) -> list[str]:
    """Returns a phrase per key that is missing, misshapen or unknown."""
    expected = _expected_shapes(weights_table(spec))
    known = _expected_shapes(weights_table(spec.model_copy(update={"last_conv": has_last_conv(spec.name)})))
    problems = []
    for key, shape in expected.items():
        if key not in state:
            problems.append(f"{key} is missing")
        elif tuple(state[key].shape) not in (shape, _linear_shape(shape)):
            problems.append(f"{key} must have shape {shape}, but has {tuple(state[key].shape)}")
    # `known` has the last convolution in any case: one that is cut off is no mistake in the file.
    if spec.traced is None:  # of a network of the user's own nobody knows which keys are its head's
        problems += [f"{key} is unknown" for key in sorted(state) if key not in known and not _ignored(key)]
    return problems


def _expected_shapes(table: BlockTable) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for conv in table.convs():
        shapes[f"{conv.key}.weight"] = weight_shape(conv)
        shapes |= {f"{conv.key}.bias": (conv.out_channels,)} if conv.bias else {}
        shapes |= {f"{conv.norm_key}.{part}": (conv.out_channels,) for part in NORM_PARTS} if conv.norm_key else {}
    return shapes


def _linear_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:2] if shape[2:] == (1, 1) else shape


def _ignored(key: str) -> bool:
    """Whether a key is a classifier's or a norm's counter of batches."""
    return key.startswith(_CLASSIFIERS) or key.endswith("num_batches_tracked")


def _candidates(spec: BackboneSpec) -> Iterator[BackboneSpec]:
    """Yields the backbones of the same name in other widths and with or without last convolution, then the others."""
    for name in sorted(list_backbones(), key=lambda name: name != spec.name):
        base = BackboneSpec(name=name, width_mult=default_width_mult(name))
        for width in list_widths(base):
            for last_conv in (spec.last_conv, not spec.last_conv):
                if has_last_conv(name) or not last_conv:
                    yield width.model_copy(update={"last_conv": last_conv})
