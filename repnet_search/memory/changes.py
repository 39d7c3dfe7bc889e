"""What may be changed in a design file to save training memory, one field at a time, the mildest value first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial
from typing import NamedTuple

from repnet_search.spec.design import Connector, Design, Exchange, ModuleInput, ModuleSpec, Optimizer

SMALLEST_RESOLUTION = 32
"""Backbones halve their maps five times: below 32 px nothing is left to halve."""
_RESOLUTION_STEP = 8
_RESOLUTIONS = 32
_CHEAPER_OPTIMIZERS = {
    Optimizer.ADAM: (Optimizer.MOMENTUM, Optimizer.SIGN_SGD),
    Optimizer.MOMENTUM: (Optimizer.SIGN_SGD,),
    Optimizer.NORMALISED_SGD: (Optimizer.SIGN_SGD,),
}

Value = int | float | str


class Change(NamedTuple):
    """A changed field of a design file with its old and its new value; `after` is "" for a connector that goes."""

    field: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.field} {self.before} -> {self.after}" if self.after else f"{self.field} ({self.before}) left out"


class Step(NamedTuple):
    """A change and what it makes of a design; steps of different fields may follow each other in any order."""

    change: Change
    apply: Callable[[Design], Design]


Field = tuple[Step, ...]
"""The values that a field may change to, the mildest first."""


def list_fields(design: Design) -> tuple[Field, ...]:
    """Returns what may change in a design as it is written: what the whole design shares first, then connectors."""
    fields = [*_design_fields(design), *_recipe_fields(design), *_shared_module_fields(design)]
    for index in range(len(design.connectors)):
        fields += _connector_fields(design, index)
    return tuple(field for field in fields if field)


def list_last_resorts(design: Design) -> tuple[Field, ...]:
    """Returns the fields that together lead to the least design on a backbone: connectors go, the first ones first."""
    blocks = [connector.after_block for connector in design.connectors]
    dropped = tuple(
        Step(Change("connectors", f"the first {count}", ""), partial(_drop_connectors, tuple(blocks[:count])))
        for count in range(1, len(blocks) + 1)
    )
    fields = (dropped, *_design_fields(design), *_recipe_fields(design))
    return tuple(field for field in fields if field)


def _design_fields(design: Design) -> Iterator[Field]:
    step = _RESOLUTION_STEP * -(-design.resolution // (_RESOLUTION_STEP * _RESOLUTIONS))
    largest = (design.resolution - 1) // step * step
    resolutions = range(largest, SMALLEST_RESOLUTION - 1, -step)
    choices: tuple[tuple[str, Value, tuple[Value, ...]], ...] = (
        ("resolution", design.resolution, tuple(resolutions)),
        ("activation_bits", design.activation_bits, (8,) if design.activation_bits > 8 else ()),
        ("image_pool", design.image_pool, tuple(pool for pool in (2, 4, 8) if pool > design.image_pool)),
        ("train_bias", design.train_bias, (False,) if design.train_bias else ()),
        (
            "module_input",
            design.module_input,
            (ModuleInput.STREAM,) if design.module_input is ModuleInput.BLOCK_INPUT else (),
        ),
    )
    for name, before, values in choices:
        yield tuple(Step(_change(name, before, value), partial(_set_field, name, value)) for value in values)


def _recipe_fields(design: Design) -> Iterator[Field]:
    recipe = design.recipe
    choices: tuple[tuple[str, Value, tuple[Value, ...]], ...] = (
        ("optimizer", recipe.optimizer, _CHEAPER_OPTIMIZERS.get(recipe.optimizer, ())),
        ("accumulate", recipe.accumulate, (1,) if recipe.accumulate > 1 else ()),
    )
    for name, before, values in choices:
        yield tuple(
            Step(_change(f"recipe.{name}", before, value), partial(_set_recipe, name, value)) for value in values
        )


def _shared_module_fields(design: Design) -> Iterator[Field]:
    """The fields of `module` that some connector leaves to it."""
    for name, values in _cheaper_module(design.module):
        if any(getattr(connector, name) is None for connector in design.connectors):
            before = getattr(design.module, name)
            yield tuple(
                Step(_change(f"module.{name}", before, value), partial(_set_module, name, value)) for value in values
            )


def _connector_fields(design: Design, index: int) -> Iterator[Field]:
    """A connector's exchange, the fields of its module, and whether it is there at all."""
    connector, path = design.connectors[index], f"connectors[{index}]"
    block = connector.after_block
    # A connector that only reads keeps the backbone in front of it off the gradient path.
    exchanges = tuple(Exchange)[tuple(Exchange).index(connector.exchange) + 1 :]
    for name, before, values in (
        ("exchange", connector.exchange, exchanges),
        *((name, getattr(design.module_of(index), name), v) for name, v in _cheaper_module(design.module_of(index))),
    ):
        yield tuple(
            Step(_change(f"{path}.{name}", before, value), partial(_set_connector, block, name, value))
            for value in values
        )
    yield (Step(Change(path, f"after block {block}", ""), partial(_drop_connectors, (block,))),)


def _cheaper_module(module: ModuleSpec) -> Iterator[tuple[str, tuple[Value, ...]]]:
    """Yields the fields of a module with the values that take less memory; groups need not divide."""
    yield "width", tuple(module.width / part for part in (2, 4))
    yield "depth", tuple(range(module.depth - 1, -1, -1))
    yield "kernel", tuple(kernel for kernel in (5, 3) if kernel < module.kernel)
    yield "pool", tuple(pool for pool in (2 * module.pool, 4 * module.pool) if pool <= 64)
    if module.groups != "depthwise":
        yield "groups", (2 * module.groups, 4 * module.groups, "depthwise")
    yield "weight_standardisation", (False,) if module.weight_standardisation else ()


def _change(field: str, before: Value, after: Value) -> Change:
    return Change(field, _text(before), _text(after))


def _text(value: Value) -> str:
    """Returns a value as a design file has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, StrEnum):
        return value.value
    return f"{value:g}" if isinstance(value, float) else str(value)


def _set_field(name: str, value: Value, design: Design) -> Design:
    return design.model_copy(update={name: value})


def _set_recipe(name: str, value: Value, design: Design) -> Design:
    return design.model_copy(update={"recipe": design.recipe.model_copy(update={name: value})})


def _set_module(name: str, value: Value, design: Design) -> Design:
    return design.model_copy(update={"module": design.module.model_copy(update={name: value})})


def _set_connector(block: int, name: str, value: Value, design: Design) -> Design:
    """Changes the connector after a block, if it is still there."""
    connectors = (
        connector.model_copy(update={name: value}) if connector.after_block == block else connector
        for connector in design.connectors
    )
    return design.model_copy(update={"connectors": tuple(connectors)})


def _drop_connectors(blocks: tuple[int, ...], design: Design) -> Design:
    connectors: tuple[Connector, ...] = tuple(item for item in design.connectors if item.after_block not in blocks)
    return design.model_copy(update={"connectors": connectors})
