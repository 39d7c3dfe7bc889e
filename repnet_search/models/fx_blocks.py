"""A traced network's items as blocks, cut at its residual sums and module boundaries or where the user says.

Without cut points a block ends behind every residual unit and max pool, and where a module ends that is one unit: a
submodule of a Sequential, or of the network itself, that is no Sequential of further modules. Single layers of a
Sequential make a block per convolution.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from repnet_search.backbones import Block, Conv, SqueezeExcite
from repnet_search.errors import SpecError, suggest
from repnet_search.models.fx_items import ConvItem, Item, PoolItem, ResidualItem, SqueezeItem
from repnet_search.models.fx_steps import WHOLE, NotCutError

_CONTAINERS = (nn.Sequential, nn.ModuleList)


def cut_blocks(module: nn.Module, items: Sequence[Item], cut: tuple[str, ...]) -> tuple[Block, ...]:
    """Returns the blocks of a network.

    Args:
        module: the network, for its module tree.
        items: what it does.
        cut: the submodules whose outputs end blocks; () cuts at every boundary.

    Raises:
        NotCutError: what lies between two boundaries is no block.
        SpecError: a cut point is no submodule, or lies where no single value is alive.
    """
    pieces = _cut_where_told(module, items, cut) if cut else _cut_at_boundaries(module, items)
    blocks = tuple(_block(piece) for piece in _pools_first(pieces))
    _check_keys(blocks)
    return blocks


def _cut_at_boundaries(module: nn.Module, items: Sequence[Item]) -> list[list[Item]]:
    units = _list_units(module)
    pieces: list[list[Item]] = []
    owner: str | None = None
    for item in items:
        unit = next((unit for unit in units if unit in item.paths), None)
        last = pieces[-1][-1] if pieces else None
        in_unit = isinstance(last, ConvItem | SqueezeItem) and unit is not None and unit == owner
        if last is None or not (isinstance(item, PoolItem | SqueezeItem) or (isinstance(item, ConvItem) and in_unit)):
            pieces.append([])
        pieces[-1].append(item)
        owner = unit
    return pieces


def _list_units(module: nn.Module) -> list[str]:
    """Returns the paths of the modules that are one block each, unless they hold residual sums."""
    prefix, root = _main_part(module)
    units: list[str] = []
    _expand(prefix, root, units)
    return units


def _main_part(module: nn.Module) -> tuple[str, nn.Module]:
    """Returns the submodule that holds all convolutions, such as torchvision's `features`, and its path."""
    prefix = ""
    while True:
        holding = [(name, child) for name, child in module.named_children() if _holds_convs(child)]
        if len(holding) != 1 or isinstance(holding[0][1], nn.Conv2d):
            return prefix, module
        name, module = holding[0]
        prefix += f"{name}."


def _holds_convs(module: nn.Module) -> bool:
    return any(isinstance(child, nn.Conv2d) for child in module.modules())


def _expand(prefix: str, module: nn.Module, units: list[str]) -> None:
    for name, child in module.named_children():
        nested = any(list(grandchild.children()) for grandchild in child.children())
        if isinstance(child, _CONTAINERS) and nested:
            _expand(f"{prefix}{name}.", child, units)
        elif list(child.children()):
            units.append(f"{prefix}{name}")


def _cut_where_told(module: nn.Module, items: Sequence[Item], cut: tuple[str, ...]) -> list[list[Item]]:
    names = [name for name, _ in module.named_modules()]
    ends = set()
    for point in cut:
        if point not in names:
            raise SpecError(f"A cut point must be a submodule, but {point!r} is none.{suggest(point, names)}")
        inside = [index for index, item in enumerate(items) if point in item.paths]
        if not inside:
            raise SpecError(f"A cut point must lie in front of the head, but {point!r} does not.")
        item = items[inside[-1]]
        if isinstance(item, ResidualItem) and not _ends_with(item, point):
            raise SpecError(
                f"A cut point must end where a single value is alive, but {point!r} ends inside the residual unit "
                f"{item.where}; cut behind that."
            )
        ends.add(inside[-1])
    pieces: list[list[Item]] = [[]]
    for index, item in enumerate(items):
        pieces[-1].append(item)
        if index in ends:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _ends_with(item: ResidualItem, point: str) -> bool:
    """Whether a submodule reaches to the end of a residual unit: it holds the sum, not a part of one way."""
    return item.where == point or item.where.startswith(f"{point}.")


def _pools_first(pieces: Iterable[list[Item]]) -> list[list[Item]]:
    """Returns pieces cut in front of the means of a map, which begin what follows; means alone are the head's."""
    parts: list[list[Item]] = [[]]
    for piece in pieces:
        if not _is_means(parts[-1]):
            parts.append([])
        for item in piece:
            if isinstance(item, PoolItem) and item.is_global:
                parts.append([])
            parts[-1].append(item)
    return [part for part in parts if part and not _is_means(part)]


def _is_means(items: list[Item]) -> bool:
    return len(items) == 1 and isinstance(items[0], PoolItem) and items[0].is_global


def _block(items: list[Item]) -> Block:
    """Returns the block that some items are; its stage comes later."""
    pools_first = isinstance(items[0], PoolItem) and items[0].is_global
    items = items[1:] if pools_first else items
    max_pool = isinstance(items[-1], PoolItem)
    items = items[:-1] if max_pool else items
    for item in items:
        if isinstance(item, PoolItem):
            raise NotCutError(item.where, "a pool can end a block but not lie inside one; cut behind it")
    units = [item for item in items if isinstance(item, ResidualItem)]
    if units and len(items) > 1:
        other = next(item for item in items if item is not units[-1])
        raise NotCutError(
            units[-1].where,
            f"a block is one residual unit or one chain of convolutions, but {other.where} is in it too; cut behind "
            f"{other.where}",
        )
    if not items:
        raise NotCutError(WHOLE, "a pool comes without a convolution in front of it in its block")
    if units:
        return _residual_block(units[0], max_pool=max_pool)
    convs, squeeze = _chain(items)
    return Block(convs, False, 0, convs[-1].out_channels, max_pool=max_pool, squeeze=squeeze, pools_first=pools_first)


def _residual_block(unit: ResidualItem, *, max_pool: bool) -> Block:
    convs, squeeze = _chain(unit.branch)
    shortcut = unit.shortcut.conv if unit.shortcut is not None else None
    return Block(convs, True, 0, convs[-1].out_channels, shortcut, unit.activation, max_pool=max_pool, squeeze=squeeze)


def _chain(items: Sequence[Item]) -> tuple[tuple[Conv, ...], SqueezeExcite | None]:
    """Returns convolutions in a chain, and the squeeze-and-excitation behind one of them."""
    convs: list[Conv] = []
    squeeze: SqueezeExcite | None = None
    for item in items:
        if isinstance(item, ConvItem):
            if item.conv.activation.is_gate:
                raise NotCutError(item.where, "a sigmoid that ends no squeeze-and-excitation")
            convs.append(item.conv)
        elif isinstance(item, SqueezeItem):
            if squeeze is not None or not convs:
                raise NotCutError(item.where, "a block has one squeeze-and-excitation, behind one of its convolutions")
            squeeze = SqueezeExcite(len(convs) - 1, item.reduce, item.expand)
    return tuple(convs), squeeze


def _check_keys(blocks: Sequence[Block]) -> None:
    seen = set()
    for block in blocks:
        for conv in block.all_convs():
            if conv.key in seen:
                raise NotCutError(conv.key, "it runs twice, but a block's weights are its own")
            seen.add(conv.key)
