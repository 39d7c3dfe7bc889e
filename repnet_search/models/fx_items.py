"""A traced network as items in a row: convolutions with norm and activation, residual units, pools.

Between two items a single value is alive, so a block may end there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from torch import fx, nn

from repnet_search.backbones import Activation, Conv
from repnet_search.models.fx_steps import WHOLE, NotCutError, Step, StepKind


@dataclass(frozen=True, slots=True)
class Item:
    """What lies between two single values: `end` is the node that gives the latter, `paths` the modules it touches."""

    end: fx.Node
    paths: frozenset[str]
    where: str


@dataclass(frozen=True, slots=True)
class ConvItem(Item):
    """A convolution with norm and activation, or a linear layer on a pooled map."""

    conv: Conv
    norm_eps: float | None


@dataclass(frozen=True, slots=True)
class SqueezeItem(Item):
    """A squeeze-and-excitation."""

    reduce: Conv
    expand: Conv


@dataclass(frozen=True, slots=True)
class ResidualItem(Item):
    """A sum of a branch and a shortcut, and its activation."""

    branch: tuple[Item, ...]
    shortcut: ConvItem | None
    activation: Activation = Activation.NONE


@dataclass(frozen=True, slots=True)
class PoolItem(Item):
    """A max pool, or with `is_global` the means of the map."""

    is_global: bool


@dataclass(slots=True)
class _Row:
    """Items so far, the node whose value is alive, and the sum or product where they ended."""

    value: fx.Node
    items: list[Item] = field(default_factory=list)
    end: Step | None = None


def list_items(steps: list[Step]) -> tuple[Item, ...]:
    """Returns a network's items, its last linear layer, which is the head's, left out.

    Raises:
        NotCutError: a value goes two ways that are no shortcut and no squeeze-and-excitation, or the head is none.
    """
    row = _Reader(steps).read()
    pooled = any(isinstance(item, PoolItem) and item.is_global for item in row.items)
    last = row.items[-1] if row.items else None
    if pooled and isinstance(last, ConvItem) and _is_linear(steps, last):
        row.items.pop()
    elif not pooled and not isinstance(last, ConvItem | ResidualItem | PoolItem):
        raise NotCutError(WHOLE, "it ends in nothing that the head could be taken from")
    if not any(isinstance(item, ConvItem | ResidualItem) for item in row.items):
        raise NotCutError(WHOLE, "it has no convolution")
    return tuple(row.items)


def _is_linear(steps: list[Step], item: ConvItem) -> bool:
    """Whether an item is a linear layer with nothing behind it."""
    step = next(
        step for step in steps if step.kind in (StepKind.CONV, StepKind.LINEAR) and step.node.target == item.conv.key
    )
    return step.kind is StepKind.LINEAR and item.conv.activation is Activation.NONE and not item.conv.norm_key


class _Reader:
    def __init__(self, steps: list[Step]) -> None:
        self.steps = {step.node: step for step in steps}
        self.input = next(step.node for step in steps if step.kind is StepKind.INPUT)

    def read(self) -> _Row:
        row = self._follow(self.input, self._users(self.input))
        if row.end is not None:
            raise NotCutError(row.end.where, f"a {row.end.kind.value} of two values that no one value leads to")
        return row

    def _users(self, node: fx.Node) -> list[Step]:
        """Returns the steps that read a value, numbers left out and what passes it on looked through."""
        users: list[Step] = []
        for user in node.users:
            step = self.steps[user]
            if step.kind is StepKind.SKIP:
                users += self._users(user)
            elif step.kind is not StepKind.NUMBER:
                users.append(step)
        return users

    def _source(self, node: fx.Node) -> fx.Node:
        """Returns the node that makes a value which may have been passed on."""
        step = self.steps[node]
        return self._source(step.sources[0]) if step.kind is StepKind.SKIP else node

    def _follow(self, value: fx.Node, users: list[Step]) -> _Row:
        """Returns the items from a value on, up to the output or to a sum or product that it is a part of."""
        row = _Row(value)
        while users:
            if len(users) == 1:
                step = users[0]
                if step.kind is StepKind.OUTPUT:
                    break
                if step.kind in (StepKind.ADD, StepKind.SCALE):
                    row.end = step
                    break
                self._take(row, step)
            elif len(users) == 2:
                self._take_fork(row, users)
            else:
                raise NotCutError(users[0].where, f"its input is read in {len(users)} places, but a block has two ways")
            users = self._users(row.value)
        return row

    def _take(self, row: _Row, step: Step) -> None:
        """Takes a step that reads one value."""
        paths = frozenset(step.paths)
        last = row.items[-1] if row.items else None
        if step.kind is StepKind.CONV:
            row.items.append(ConvItem(step.node, paths, step.where, _conv(step), None))
        elif step.kind is StepKind.LINEAR:
            self._check_pooled(row, step)
            row.items.append(ConvItem(step.node, paths, step.where, _linear(step), None))
        elif step.kind is StepKind.NORM:
            row.items[-1:] = [_with_norm(last, step)]
        elif step.kind is StepKind.ACTIVATION:
            row.items[-1:] = [_with_activation(last, step)]
        elif step.kind is StepKind.FLATTEN:
            self._check_pooled(row, step)
        else:
            row.items.append(PoolItem(step.node, paths, step.where, step.kind is StepKind.GLOBAL_POOL))
        row.value = step.node

    def _check_pooled(self, row: _Row, step: Step) -> None:
        if not any(isinstance(item, PoolItem) and item.is_global for item in row.items):
            raise NotCutError(
                step.where,
                f"a {step.kind.value} without global average pooling in front; a head here is global average pooling "
                "and linear layers",
            )

    def _take_fork(self, row: _Row, users: list[Step]) -> None:
        """Takes a residual unit, or a squeeze-and-excitation."""
        first, second = (self._way(row.value, step) for step in users)
        if first.end is None or first.end is not second.end:
            raise NotCutError(
                users[0].where,
                "its input goes two ways that do not meet in a sum; a shortcut and a squeeze-and-excitation are the "
                "forks that blocks have",
            )
        item = self._scaled(first, second) if first.end.kind is StepKind.SCALE else _residual(first, second)
        row.items.append(item)
        row.value = first.end.node

    def _way(self, value: fx.Node, step: Step) -> _Row:
        """Returns one of two ways from a value; a sum right behind it is a way without items."""
        return self._follow(value, [step])

    def _scaled(self, first: _Row, second: _Row) -> SqueezeItem:
        assert first.end is not None
        gate = first.items or second.items
        where = first.end.where
        match gate:
            case [PoolItem(is_global=True), ConvItem() as reduce, ConvItem() as expand] if not (
                first.items and second.items
            ):
                if expand.conv.activation.is_gate and not (reduce.conv.norm_key or expand.conv.norm_key):
                    paths = _all_paths(gate) | frozenset(first.end.paths)
                    return SqueezeItem(first.end.node, paths, where, reduce.conv, expand.conv)
        raise NotCutError(
            where,
            "a product that is no squeeze-and-excitation: global average pooling, a 1x1 convolution, its activation, "
            "a 1x1 convolution, a sigmoid or hard sigmoid",
        )


def _residual(first: _Row, second: _Row) -> ResidualItem:
    """Returns the unit; a way of one linear convolution beside a longer one is the shortcut."""
    assert first.end is not None
    shortcut, branch = sorted((first.items, second.items), key=len)
    where = first.end.where
    for item in (*shortcut, *branch):
        if isinstance(item, PoolItem | ResidualItem):
            raise NotCutError(item.where, "it lies inside a residual unit, whose ways are convolutions alone")
    by = shortcut[0] if shortcut else None
    plain = by is None or (isinstance(by, ConvItem) and by.conv.activation is Activation.NONE)
    if len(shortcut) > 1 or not plain or not branch:
        raise NotCutError(where, "its shortcut must be the input itself or one convolution without activation")
    paths = _all_paths([*branch, *shortcut]) | frozenset(first.end.paths)
    return ResidualItem(first.end.node, paths, where, tuple(branch), by if isinstance(by, ConvItem) else None)


def _all_paths(items: Iterable[Item]) -> frozenset[str]:
    return frozenset(path for item in items for path in item.paths)


def _with_norm(item: Item | None, step: Step) -> ConvItem:
    norm = step.module
    assert isinstance(norm, nn.BatchNorm2d | nn.BatchNorm1d)
    if not isinstance(item, ConvItem) or item.conv.norm_key or item.conv.activation is not Activation.NONE:
        raise NotCutError(step.where, "a norm that does not come right behind a convolution cannot be folded into one")
    if not (norm.affine and norm.track_running_stats):
        raise NotCutError(step.where, "a norm must have a scale, a shift and running statistics to be folded")
    conv = replace(item.conv, norm_key=str(step.node.target))
    return replace(item, end=step.node, paths=item.paths | frozenset(step.paths), conv=conv, norm_eps=norm.eps)


def _with_activation(item: Item | None, step: Step) -> Item:
    paths = frozenset(step.paths)
    if isinstance(item, ConvItem) and item.conv.activation is Activation.NONE:
        conv = replace(item.conv, activation=step.activation)
        return replace(item, end=step.node, paths=item.paths | paths, conv=conv)
    if isinstance(item, ResidualItem) and item.activation is Activation.NONE and not step.activation.is_gate:
        return replace(item, end=step.node, paths=item.paths | paths, activation=step.activation)
    raise NotCutError(step.where, "an activation that does not come right behind a convolution, its norm or a sum")


def _conv(step: Step) -> Conv:
    conv = step.module
    assert isinstance(conv, nn.Conv2d)
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    square = {len(set(value)) for value in (conv.kernel_size, conv.stride)} == {1}
    padding = conv.padding if isinstance(conv.padding, tuple) else (-1, -1)
    if not square or kernel % 2 == 0 or padding != (kernel // 2, kernel // 2):
        raise NotCutError(
            step.where, f"a convolution must be square, of odd side k and padded by k // 2, but is {conv}"
        )
    if conv.dilation != (1, 1) or conv.padding_mode != "zeros":
        raise NotCutError(step.where, f"a convolution must have no dilation and zeros around it, but is {conv}")
    return Conv(
        str(step.node.target),
        "",
        conv.in_channels,
        conv.out_channels,
        kernel,
        stride,
        conv.groups,
        Activation.NONE,
        conv.bias is not None,
    )


def _linear(step: Step) -> Conv:
    linear = step.module
    assert isinstance(linear, nn.Linear)
    bias = linear.bias is not None
    key = str(step.node.target)
    return Conv(key, "", linear.in_features, linear.out_features, 1, 1, 1, Activation.NONE, bias)


def all_convs(items: Iterable[Item]) -> Iterator[ConvItem]:
    """Yields every convolution with a norm of its own or none, shortcuts too; those of squeezes are left out."""
    for item in items:
        if isinstance(item, ConvItem):
            yield item
        elif isinstance(item, ResidualItem):
            yield from all_convs(item.branch)
            if item.shortcut is not None:
                yield item.shortcut
