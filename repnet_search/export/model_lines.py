"""A design's forward pass as lines of Python, one operator each, with the shapes that it makes.

Read off the model itself, so that what is written is what was trained. In an int8 backbone b is real and q are its
codes; the grids that codes are on, and the convolutions between them, are collected on the way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import nn

from repnet_search.backbones import Activation, Block, Conv
from repnet_search.errors import SpecError
from repnet_search.models.module import OutputNorm, RepNetModule, StandardisedConv2d
from repnet_search.models.quantisation import QuantParams, common_shift
from repnet_search.models.quantised import QuantisedBackbone, QuantisedMerge
from repnet_search.models.quantised_block import QuantisedBlock, QuantisedConv
from repnet_search.models.repnet import RepNet
from repnet_search.spec.design import Exchange
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.spec.shapes import ModuleShape

_ACTIVATIONS = {
    Activation.RELU: "relu",
    Activation.RELU6: "relu6",
    Activation.HARD_SWISH: "hardswish",
    Activation.SILU: "silu",
    Activation.HARD_SIGMOID: "hardsigmoid",
    Activation.SIGMOID: "sigmoid",
}
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
_POOL = "adaptive_avg_pool2d({}, 1)"


class Line(NamedTuple):
    """A statement and what it makes; without a statement, a comment in front of a paragraph."""

    code: str
    note: str = ""


@dataclass
class ForwardLines:
    """The lines of a forward pass and the tables that they refer to.

    `grids`: of an int8 backbone, by tensor. `convs`: the grids that each of its convolutions reads and writes.
    `trained_biases`: the trained tensor of each backbone bias that trains. `standardised`: module weights that are
    standardised before they are used.
    """

    lines: list[Line] = field(default_factory=list)
    grids: dict[str, QuantParams] = field(default_factory=dict)
    convs: dict[str, tuple[str, str]] = field(default_factory=dict)
    trained_biases: dict[str, str] = field(default_factory=dict)
    standardised: list[str] = field(default_factory=list)


def write_forward(resolved: ResolvedDesign, model: RepNet) -> ForwardLines:
    """Returns what computes the logits of normalised images x (N, 3, H, W).

    Raises:
        SpecError: the modules have batch norms, which no training here gives statistics.
    """
    return _Writer(resolved, model).write()


class _Writer:
    """Walks a design once; `grid` is the name of the grid that q is on."""

    def __init__(self, resolved: ResolvedDesign, model: RepNet) -> None:
        self.resolved, self.model, self.table = resolved, model, resolved.table
        self.int8 = model.backbone if isinstance(model.backbone, QuantisedBackbone) else None
        self.sizes = resolved.table.output_sizes(resolved.design.resolution)
        self.result = ForwardLines()
        self.grid = "image"

    def write(self) -> ForwardLines:
        """Returns the whole pass."""
        self._image()
        modules = {shape.after_block: index for index, shape in enumerate(self.resolved.modules)}
        size = self.resolved.design.resolution
        for index, block in enumerate(self.table.blocks):
            self._heading(f"block {index}{': passes b on' if block.is_identity else ''}")
            module = modules.get(index)
            if module is not None and self.resolved.modules[module].reads_block_input:
                self._add(f"before = {self._real()}")
            self._block(block, index, size)
            size = self.sizes[index]
            if module is not None:
                self._connector(module, self.resolved.modules[module])
        self._head()
        return self.result

    def _add(self, code: str, *shape: int) -> None:
        self.result.lines.append(Line(code, " x ".join(map(str, shape))))

    def _heading(self, text: str) -> None:
        self.result.lines.append(Line("", text))

    def _use_grid(self, name: str, params: QuantParams) -> str:
        self.result.grids[name] = params
        return f'GRIDS["{name}"]'

    def _real(self) -> str:
        """Returns b as an expression of real values."""
        return "b" if self.int8 is None else f'real(q, GRIDS["{self.grid}"])'

    def _image(self) -> None:
        resolution, pool = self.resolved.design.resolution, self.resolved.design.image_pool
        grid = None if self.int8 is None else self._use_grid("image", self.int8.image)
        if self.resolved.modules:
            pooled = f"avg_pool2d(x, {pool})" if pool > 1 else "x"
            stream = pooled if grid is None else f"real(quantise({pooled}, {grid}), {grid})"
            self._add(f"r = {stream}", 3, resolution // pool, resolution // pool)
        self._add("b = x" if grid is None else f"q = quantise(x, {grid})", 3, resolution, resolution)

    def _block(self, block: Block, index: int, size: int) -> None:
        if block.is_identity:
            return
        feature = "b" if self.int8 is None else "q"
        source, source_grid = feature, self.grid
        if block.pools_first:
            self._add(f"y = {_POOL.format(feature)}", block.convs[0].in_channels, 1, 1)
            source, size = "y", 1
        chain_size = size
        for position, conv in enumerate(block.convs):
            squeezes = block.squeeze is not None and block.squeeze.after == position
            ends = position == len(block.convs) - 1 and not block.residual
            target = feature if ends and not squeezes else "y"
            chain_size = conv.output_size(chain_size)
            self._conv(conv, f"{index}.convs.{position}", f"{target} = ", source, chain_size)
            source = "y"
            if squeezes:
                self._squeeze(block, index, target=feature if ends else "y", size=chain_size)
        if block.residual:
            self._sum(block, index, feature, source_grid, chain_size)
        elif block.activation is not Activation.NONE:
            self._add(f"{feature} = {_ACTIVATIONS[block.activation]}({feature})")
        if block.max_pool:
            size = self.sizes[index]
            self._add(f"{feature} = max_pool2d({feature}, 3, stride=2, padding=1)", block.channels, size, size)

    def _conv(self, conv: Conv, place: str, target: str, source: str, size: int) -> None:
        """Adds a convolution with its activation; `place` is where the model has it, behind `backbone.blocks`."""
        call = f"(frozen, {quote(conv.key)}, {source}"
        options = f"{_option('stride', conv.stride)}{_option('groups', conv.groups)})"
        if self.model.get_parameter(f"backbone.blocks.{place}.bias").requires_grad:
            self.result.trained_biases[conv.key] = f"backbone.blocks.{place}.bias"
        if self.int8 is None:
            text = f"conv{call}{options}"
            if conv.activation is not Activation.NONE:
                text = f"{_ACTIVATIONS[conv.activation]}({text})"
        else:
            name = "b" + place.replace("convs.", "")
            grid = self._use_grid(name, self._grid_of(place))
            self.result.convs[conv.key] = (self.grid, name)
            self.grid = name
            text = f"conv8{call}, {grid}{options}"
        self._add(f"{target}{text}", conv.out_channels, size, size)

    def _grid_of(self, place: str) -> QuantParams:
        assert self.int8 is not None
        conv = self.int8.blocks.get_submodule(place)
        assert isinstance(conv, QuantisedConv)
        return conv.output

    def _squeeze(self, block: Block, index: int, *, target: str, size: int) -> None:
        assert block.squeeze is not None
        reduce, expand = block.squeeze.reduce, block.squeeze.expand
        self._add(f"g = {_POOL.format('y')}", reduce.in_channels, 1, 1)
        self._conv(reduce, f"{index}.squeeze.reduce", "g = ", "g", 1)
        self._conv(expand, f"{index}.squeeze.expand", "g = ", "g", 1)
        self._add(f"{target} = y * g", expand.out_channels, size, size)

    def _sum(self, block: Block, index: int, feature: str, source_grid: str, size: int) -> None:
        """Adds the residual sum; in int8 both summands come to one grid in one step."""
        chain_grid, shortcut = self.grid, feature
        if block.shortcut is not None:
            self.grid, shortcut = source_grid, "t"
            self._conv(block.shortcut, f"{index}.shortcut", "t = ", feature, size)
            source_grid = self.grid
        if self.int8 is None:
            text = f"{shortcut} + y"
            if block.activation is not Activation.NONE:
                text = f"{_ACTIVATIONS[block.activation]}({text})"
        else:
            text = self._int8_sum(index, shortcut, chain_grid, source_grid)
        self._add(f"{feature} = {text}", block.channels, size, size)

    def _int8_sum(self, index: int, shortcut: str, chain_grid: str, shortcut_grid: str) -> str:
        assert self.int8 is not None
        block = self.int8.blocks[index]
        assert isinstance(block, QuantisedBlock)
        assert block.sum is not None
        output, grids = block.sum.output, self.result.grids
        of_chain, of_shortcut = common_shift(
            grids[chain_grid].scale / output.scale, grids[shortcut_grid].scale / output.scale
        )
        self.grid = f"b{index}"
        grid = self._use_grid(self.grid, output)
        return (
            f"add8(y, {int(of_chain.mantissa)}, {shortcut}, {int(of_shortcut.mantissa)}, {int(of_chain.shift)}, {grid})"
        )

    def _connector(self, index: int, shape: ModuleShape) -> None:
        self._heading(f"connector {index + 1}, {shape.exchange.value}")
        map_shape = (shape.out_channels, shape.out_size, shape.out_size)
        if self.int8 is not None:
            self._add(f"b = {self._real()}", *map_shape)
        self._module(index, shape)
        if not shape.exchange.writes:
            self._add("r = s + b", *map_shape)
            return
        written = f'b + trained["gammas.{index}"].view(-1, 1, 1) * s'
        if self.int8 is None:
            self._add(f"b = {written}", *map_shape)
        else:
            merge = self.int8.merges[str(shape.after_block)]
            assert isinstance(merge, QuantisedMerge)
            self.grid = f"b{shape.after_block} merged"
            self._add(f"q = merge({written}, {self._use_grid(self.grid, merge.params)})", *map_shape)
        if index < len(self.resolved.modules) - 1 and not self.resolved.modules[index + 1].reads_block_input:
            self._add(f"r = {self._real() if shape.exchange is Exchange.BOTH else 's'}", *map_shape)

    def _module(self, index: int, shape: ModuleShape) -> None:
        """Adds what makes s of the stream or of the block's input."""
        source, size = ("before" if shape.reads_block_input else "r"), shape.pooled_size
        if shape.pool > 1:
            self._add(f"s = avg_pool2d({source}, {shape.pool})", shape.in_channels, size, size)
            source = "s"
        module = self.model.repnet[index]
        assert isinstance(module, RepNetModule)
        for text, channels in self._layers(index, module.layers):
            self._add(f"s = {text.format(source)}", channels, size, size)
            source = "s"
        if shape.resizes:
            self._add(f"s = resize(s, {shape.out_size})", shape.out_channels, shape.out_size, shape.out_size)

    def _layers(self, index: int, layers: Iterable[nn.Module]) -> Iterator[tuple[str, int]]:
        """Yields a module's layers as calls with a place for their input, and the channels they make."""
        channels, call = 0, ""
        for position, layer in enumerate(layers):
            if isinstance(layer, nn.ReLU):
                call = f"relu({call})"
                continue
            if call:
                yield call, channels
            channels = layer.out_channels if isinstance(layer, nn.Conv2d) else channels
            call = self._layer(index, layer, f"repnet.{index}.layers.{position}")
        yield call, channels

    def _layer(self, index: int, layer: nn.Module, key: str) -> str:
        if isinstance(layer, nn.Conv2d):
            if isinstance(layer, StandardisedConv2d):
                self.result.standardised.append(f"{key}.weight")
            return f'conv(trained, "{key}", {{}}{_option("groups", layer.groups)})'
        if isinstance(layer, nn.GroupNorm):
            return f'norm(trained, "{key}", {{}}, groups={layer.num_groups})'
        if isinstance(layer, OutputNorm):
            return f'output_norm(trained, "{key}", {{}}, groups={layer.groups})'
        raise SpecError(
            f"A bundle's modules have norm group, layer or none, but connectors[{index}] has {type(layer).__name__}; "
            "use norm 'group'."
        )

    def _head(self) -> None:
        self._heading("head: the means of b" + (" and of r" if self.resolved.head_reads_stream else ""))
        self._add(f"p = {_POOL.format(self._real())}.flatten(1)", self.table.feature_channels)
        if self.resolved.head_reads_stream:
            self._add(f"p = cat([p, {_POOL.format('r')}.flatten(1)], dim=1)", self.resolved.feature_channels)
        self.result.lines.append(Line('return linear(p, trained["head.weight"], trained["head.bias"])'))


def quote(text: str) -> str:
    r"""Returns a text as a Python literal, whatever is in it: a design, and so a key, may come from anywhere.

    >>> quote("features.0.0"), quote('a");b("')
    ('"features.0.0"', '\'a");b("\'')
    """
    return f'"{text}"' if _PLAIN.fullmatch(text) else repr(text)


def _option(name: str, value: int) -> str:
    return f", {name}={value}" if value != 1 else ""
