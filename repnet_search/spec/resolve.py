"""One form and one id: every field of a design explicit and effective, and the shapes that follow from it.

Two files that mean the same side network, recipe and input resolve to the same design and so to the same id.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property

from repnet_search.backbones import BlockTable
from repnet_search.errors import SpecError
from repnet_search.spec.design import Connector, Design, Exchange, ModuleInput, Recipe
from repnet_search.spec.shapes import IMAGE_CHANNELS, ModuleShape, shape_module
from repnet_search.spec.table import get_table


@dataclass(frozen=True)
class ResolvedDesign:
    """A design with every field explicit and effective, its backbone's table and its modules' shapes."""

    design: Design
    table: BlockTable
    modules: tuple[ModuleShape, ...]

    @cached_property
    def id(self) -> str:
        """The sha256 of the sorted JSON of the resolved design, without `format`."""
        value = self.design.model_dump(mode="json", exclude={"format"}, exclude_none=True)
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

    @property
    def short_id(self) -> str:
        """The first eight characters of the id, as tables show it."""
        return self.id[:8]

    @property
    def first_writer(self) -> int | None:
        """The index of the first module that writes into the backbone, None where none does."""
        return next((index for index, module in enumerate(self.modules) if module.exchange.writes), None)

    @property
    def head_reads_stream(self) -> bool:
        """Whether the head reads pooled r_n beside pooled b: the last connector does not write."""
        return bool(self.modules) and not self.modules[-1].exchange.writes

    @property
    def feature_channels(self) -> int:
        """What the head's linear layer reads."""
        return self.table.feature_channels + (self.modules[-1].out_channels if self.head_reads_stream else 0)


def resolve(design: Design, *, clamp_groups: bool = False, source: str | None = None) -> ResolvedDesign:
    """Returns a design in its one explicit and effective form.

    Args:
        design: as written.
        clamp_groups: a group count that does not divide is lowered to the next divisor, as a search space wants it;
            in an explicit file it is an error.
        source: the file that says so, for errors.

    Raises:
        SpecError: a connector out of range, after a block that does nothing, doubled or out of order, a group count
            that does not divide, block_input with another exchange than both, or a map that is pooled away.
    """
    try:
        return _resolve(design, clamp_groups=clamp_groups)
    except SpecError as error:
        if source is None:
            raise
        raise SpecError(f"{source}: {error}") from error


def _resolve(design: Design, *, clamp_groups: bool) -> ResolvedDesign:
    backbone = design.backbone
    table = get_table(backbone)
    _check_connectors(design, table)
    sizes = table.output_sizes(design.resolution)
    modules = []
    connectors = []
    for index in range(len(design.connectors)):
        module = _shape_module(design, table, sizes, index, clamp_groups=clamp_groups)
        modules.append(module)
        connectors.append(_explicit_connector(module))
    canonical = Design(
        backbone=backbone,
        resolution=design.resolution,
        activation_bits=design.activation_bits,
        image_pool=design.image_pool if connectors else 1,
        connectors=tuple(connectors),
        module_input=design.module_input if len(connectors) > 1 else ModuleInput.STREAM,
        train_bias=design.train_bias,
        recipe=_effective_recipe(design.recipe, head_only=not connectors and not design.train_bias),
    )
    return ResolvedDesign(design=canonical, table=table, modules=tuple(modules))


def snap_lr(lr: float) -> float:
    """Returns the nearest learning rate of the grid with 4 steps per decade.

    >>> snap_lr(0.001), snap_lr(0.002)
    (0.001, 0.00178)
    """
    return float(f"{10 ** (round(4 * math.log10(lr)) / 4):.3g}")


def check_connector_block(table: BlockTable, block: int, *, field: str) -> None:
    """Checks that a connector may sit after a block; `field` is where the block was written, for the sentence.

    Raises:
        SpecError: the backbone has no such block, or the block passes its input on unchanged.
    """
    if block > table.last_block:
        raise SpecError(f"{field} must be a block of {table.name} (0..{table.last_block}), but got {block}.")
    if table.blocks[block].is_identity:
        source = max(index for index in range(block) if not table.blocks[index].is_identity)
        raise SpecError(
            f"{field} must not be {block}: block {block} of {table.name} passes its input on unchanged; connect after "
            f"block {source} instead."
        )


def _check_connectors(design: Design, table: BlockTable) -> None:
    last = -1
    for index, connector in enumerate(design.connectors):
        field = f"connectors[{index}].after_block"
        check_connector_block(table, connector.after_block, field=field)
        if connector.after_block <= last:
            problem = "repeats" if connector.after_block == last else "comes after"
            raise SpecError(
                f"Connectors must be in ascending order, one per block, but {field} is {connector.after_block} and "
                f"{problem} block {last}; list each block once, earliest first."
            )
        last = connector.after_block
    if design.module_input is ModuleInput.BLOCK_INPUT and len(design.connectors) > 1:
        for index, connector in enumerate(design.connectors[:-1]):
            if connector.exchange is not Exchange.BOTH:
                _refuse_block_input(index, connector.exchange)
        if not design.connectors[-1].exchange.writes:
            _refuse_block_input(len(design.connectors) - 1, design.connectors[-1].exchange)


def _refuse_block_input(index: int, exchange: Exchange) -> None:
    raise SpecError(
        f"module_input: block_input needs every connector to exchange 'both', but connectors[{index}].exchange is "
        f"'{exchange.value}'; change it, or use module_input: stream."
    )


def _shape_module(
    design: Design, table: BlockTable, sizes: tuple[int, ...], index: int, *, clamp_groups: bool
) -> ModuleShape:
    connector = design.connectors[index]
    block = connector.after_block
    reads_block_input = index > 0 and design.module_input is ModuleInput.BLOCK_INPUT
    is_last = index == len(design.connectors) - 1
    return shape_module(
        design.module_of(index),
        index=index,
        source=_module_input(design, table, sizes, index, reads_block_input=reads_block_input),
        feature=(table.blocks[block].channels, sizes[block]),
        after_block=block,
        exchange=Exchange.BOTH if is_last and connector.exchange.writes else connector.exchange,
        reads_block_input=reads_block_input,
        clamp_groups=clamp_groups,
    )


def _module_input(
    design: Design, table: BlockTable, sizes: tuple[int, ...], index: int, *, reads_block_input: bool
) -> tuple[int, int]:
    """Returns channels and map side of what module `index` reads."""
    if index == 0:
        size = design.resolution // design.image_pool
        if size < 1:
            raise SpecError(
                f"image_pool must leave at least one pixel, but {design.image_pool} does not at resolution "
                f"{design.resolution}."
            )
        return IMAGE_CHANNELS, size
    block = design.connectors[index].after_block if reads_block_input else design.connectors[index - 1].after_block + 1
    return table.blocks[block - 1].channels, sizes[block - 1]


def _explicit_connector(module: ModuleShape) -> Connector:
    """Returns the connector that `resolve` maps to this very module again."""
    base = module.in_channels if module.in_channels != IMAGE_CHANNELS else module.out_channels
    uniform = len(set(module.groups)) <= 1
    return Connector(
        after_block=module.after_block,
        exchange=module.exchange,
        depth=module.depth,
        width=module.mid_channels / base if module.depth else 1.0,
        kernel=module.kernel,
        groups=(module.groups[0] if module.groups else 1) if uniform else "depthwise",
        pool=module.pool,
        norm=module.norm,
        weight_standardisation=module.weight_standardisation,
    )


def _effective_recipe(recipe: Recipe, *, head_only: bool) -> Recipe:
    ratio = 1.0 if head_only else recipe.head_lr_ratio
    lr = recipe.lr * recipe.head_lr_ratio if head_only else recipe.lr
    return recipe.model_copy(update={"lr": snap_lr(lr), "head_lr_ratio": ratio})
