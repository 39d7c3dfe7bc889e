"""The memory of a space by the hundred thousand: samples and enumerations of its designs, without building any.

memory = SpaceMemory(space, classes=10)
drawn = memory.sample(1_000_000, seed=0)
share = (drawn.ram_bytes <= budget_bytes).mean()
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from repnet_search.graph import Schedule
from repnet_search.machine import cache_folder
from repnet_search.memory.batch import BatchMemory, DesignBatch, Integers, needs_whole_gradients
from repnet_search.memory.families import EXCHANGES, HEAD_EXCHANGE
from repnet_search.memory.options import ModuleChoices, ModuleIndex
from repnet_search.memory.parameters import recipe_bytes_per_parameter
from repnet_search.memory.table_cache import load_module_index
from repnet_search.memory.tables import MemoryTables, create_tables
from repnet_search.search.space import Params, SearchSpace
from repnet_search.spec.design import BackboneSpec, Exchange, ModuleSpec
from repnet_search.spec.table import get_table

CHUNK_DESIGNS = 4096
_BOTH = EXCHANGES.index(Exchange.BOTH)
_TO_BACKBONE = EXCHANGES.index(Exchange.TO_BACKBONE)
_PER_HALF = ("depth", "width")
_ONCE = ("kernel", "groups", "pool", "norm", "weight_standardisation")

Choices = NDArray[np.int16]
"""A row per design, a column per parameter in the order of `SpaceMemory.names`: the place among its choices."""


@dataclass(frozen=True, slots=True)
class SpaceSample:
    """Designs of a space as choices, and what each takes."""

    choices: Choices
    memory: BatchMemory

    def __len__(self) -> int:
        """Returns the number of designs."""
        return len(self.choices)

    @property
    def ram_bytes(self) -> Integers:
        """The lower bound of each design's training memory, as `estimate_lower_bound` has it."""
        return self.memory.ram_bytes

    def select(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> SpaceSample:
        """Returns some of the designs, by a mask or by their places."""
        fields = (getattr(self.memory, name)[which] for name in BatchMemory.__dataclass_fields__)
        return SpaceSample(self.choices[which], BatchMemory(*fields))

    @staticmethod
    def join(samples: Sequence[SpaceSample]) -> SpaceSample:
        """Returns one sample of all, in their order."""
        fields = (
            np.concatenate([getattr(sample.memory, name) for sample in samples])
            for name in BatchMemory.__dataclass_fields__
        )
        return SpaceSample(np.concatenate([sample.choices for sample in samples]), BatchMemory(*fields))


class SpaceMemory:
    """Measures the designs of a space in batches; tables are made when a width and a resolution first need them."""

    def __init__(
        self,
        space: SearchSpace,
        *,
        classes: int,
        batch: int = 1,
        schedule: Schedule = Schedule.LAYER,
        folder: Path | None = None,
        keep: bool = True,
    ) -> None:
        """Prepares the choices.

        Args:
            space: the space.
            classes: outputs of the head.
            batch: images of a micro-batch.
            schedule: how the target runs the frozen backbone.
            folder: where tables are kept; None is the default place.
            keep: whether tables are kept at all.
        """
        self.space = space
        self.classes = classes
        self.batch = batch
        self.schedule = schedule
        self.names = tuple(space.distributions)
        self.counts = np.array([len(item.choices) for item in space.distributions.values()])
        self._folder = (folder or cache_folder()) if keep else None
        self._contexts: dict[tuple[BackboneSpec, int, int], SpaceContext] = {}

    def draw(self, designs: int, *, seed: int | np.random.Generator) -> Choices:
        """Returns choices drawn uniformly, as `SearchSpace.sample` draws them."""
        generator = np.random.default_rng(seed)
        return generator.integers(self.counts, size=(designs, len(self.names)), dtype=np.int16)

    def sample(self, designs: int, *, seed: int) -> SpaceSample:
        """Returns designs drawn uniformly, with their memory."""
        return self.measure(self.draw(designs, seed=seed))

    def enumerate_all(self, *, chunk: int = 1 << 17) -> Iterator[SpaceSample]:
        """Yields every combination of choices once; several may mean the same design."""
        for begin in range(0, self.space.combinations, chunk):
            numbers = np.arange(begin, min(begin + chunk, self.space.combinations))
            choices = np.stack(np.unravel_index(numbers, tuple(self.counts)), axis=1)
            yield self.measure(choices.astype(np.int16))

    def column(self, choices: Choices, name: str) -> Choices:
        """Returns the places that a parameter has in a batch of choices (a view)."""
        return choices[:, self.names.index(name)]

    def width(self, choices: Choices) -> Choices:
        """Returns the backbone of each of a batch of choices, by its place among the space's."""
        if "width_mult" in self.names:
            return self.column(choices, "width_mult")
        return np.zeros(len(choices), dtype=np.int16)

    def place(self, name: str, value: object) -> int:
        """Returns the place of a value among a parameter's choices.

        Raises:
            ValueError: it is none of them.
        """
        return self.space.distributions[name].choices.index(value)

    def choices(self, params: Mapping[str, object]) -> Choices:
        """Returns a set of parameter values as one row of choices; a parameter that is missing has its first."""
        return np.array([self.place(name, params[name]) if name in params else 0 for name in self.names], np.int16)

    def params(self, choices: Choices) -> Params:
        """Returns the parameter values of one design, as `SearchSpace.design` takes them."""
        distributions = self.space.distributions.values()
        return {
            name: item.choices[int(choice)]
            for name, item, choice in zip(self.names, distributions, choices, strict=True)
        }

    def measure(self, choices: Choices) -> SpaceSample:
        """Returns the memory of designs.

        Raises:
            SpecError: a batch norm at micro-batch 1, or an image that is pooled away.
        """
        found = np.empty((5, len(choices)), dtype=np.int64)
        spec = self.space.spec
        parts = (self.width(choices), self.column(choices, "resolution"), self.column(choices, "activation_bits"))
        counts = (len(self.space.backbones), len(spec.resolution), len(spec.activation_bits))
        contexts = np.ravel_multi_index(parts, counts)
        kinds = itertools.product(self.space.backbones, spec.resolution, spec.activation_bits)
        for number, (backbone, resolution, bits) in enumerate(kinds):
            members = np.flatnonzero(contexts == number)
            for begin in range(0, len(members), CHUNK_DESIGNS):
                piece = members[begin : begin + CHUNK_DESIGNS]
                memory = self.context(backbone, resolution, bits).measure(choices[piece])
                found[:, piece] = [getattr(memory, name) for name in BatchMemory.__dataclass_fields__]
        return SpaceSample(choices, BatchMemory(*found))

    def context(self, backbone: BackboneSpec, resolution: int, bits: int) -> SpaceContext:
        """Returns the space at one width, resolution and number of bits, with its tables; the first use makes them."""
        context = self._contexts.get((backbone, resolution, bits))
        if context is None:
            tables = create_tables(
                get_table(backbone),
                resolution=resolution,
                classes=self.classes,
                activation_bits=bits,
                batch=self.batch,
                schedule=self.schedule,
            )
            index = load_module_index(tables, _module_choices(self.space), folder=self._folder)
            context = self._contexts[backbone, resolution, bits] = SpaceContext(self.space, self.names, tables, index)
        return context


class _Legs(NamedTuple):
    """The legs of a batch as `DesignBatch` has them, and the design that each belongs to."""

    starts: Integers
    owner: Integers
    end: Integers
    block_input: NDArray[np.bool_]


class SpaceContext:
    """A space at one width, one resolution and one number of bits: from choices to a batch."""

    def __init__(self, space: SearchSpace, names: tuple[str, ...], tables: MemoryTables, index: ModuleIndex) -> None:
        spec = space.spec
        self.names = names
        self.tables = tables
        self.index = index
        self.blocks = len(space.table.blocks)
        self.stages = {f"stage_{number}": np.array([-1, *blocks]) for number, blocks in space.stages.items()}
        self.features = np.append(index.features, 0)
        self.late = np.arange(self.blocks + 1) >= self.blocks / 2
        self.readers = np.array([self.blocks if readers == "all" else readers for readers in spec.readers])
        self.block_input = np.array([mode == "block_input" for mode in spec.write])
        self.exchange = np.array([_TO_BACKBONE if mode == "to_backbone" else _BOTH for mode in spec.write])
        self.image_bytes = np.array([tables.image_bytes(pool) for pool in spec.image_pool])
        self.train_bias = np.array(spec.train_bias)
        self.whole_gradients = np.array([needs_whole_gradients(recipe) for recipe in spec.recipe])
        self.recipe_bytes = np.array([recipe_bytes_per_parameter(recipe) for recipe in spec.recipe])
        # The head row behind a last connector that only reads, by its block; at the end the head on b alone.
        heads = (0 if block.is_identity else tables.head_row(number) for number, block in enumerate(space.table.blocks))
        self.heads = np.array([*heads, tables.head_row(None)])
        self.field_counts = {name: len(getattr(spec.module, name)) for name in (*_PER_HALF, *_ONCE)}

    def measure(self, choices: Choices) -> BatchMemory:
        """Returns the memory of designs, all of this width, this resolution and these bits."""
        return self.tables.measure(self.batch_of(choices))

    def batch_of(self, choices: Choices) -> DesignBatch:
        """Returns designs as a batch for the tables."""
        columns = dict(zip(self.names, choices.T.astype(np.int64), strict=True))
        stages = [blocks[columns[name]] for name, blocks in self.stages.items()]
        placed = np.stack([*stages, np.full(len(choices), self.blocks)], axis=1)
        present = placed >= 0
        position = np.flatnonzero(present)
        lengths = np.count_nonzero(present, axis=1)
        legs = _Legs(
            starts=np.cumsum(lengths) - lengths,
            owner=position // placed.shape[1],
            end=placed.ravel()[position],
            block_input=self.block_input[columns["write"]],
        )
        exchange = self._exchanges(columns, legs)
        return DesignBatch(
            starts=legs.starts,
            end=legs.end,
            exchange=exchange,
            module=self._modules(columns, legs, exchange),
            image_bytes=np.where(lengths > 1, self.image_bytes[columns["image_pool"]], 0),
            block_input=legs.block_input,
            train_bias=self.train_bias[columns["train_bias"]],
            whole_gradients=self.whole_gradients[columns["recipe"]],
            bytes_per_parameter=self.recipe_bytes[columns["recipe"]],
        )

    def _exchanges(self, columns: dict[str, Integers], legs: _Legs) -> Integers:
        """Returns what each connector does; the last one has nobody to keep its own output for, so it does both."""
        readers = np.where(legs.block_input, 0, self.readers[columns["readers"]])
        rank = np.arange(len(legs.end)) - legs.starts[legs.owner]
        exchange = self.exchange[columns["write"]][legs.owner]
        at_head = legs.end == self.blocks
        exchange[:-1][at_head[1:]] = _BOTH
        exchange[(rank < readers[legs.owner]) | at_head] = HEAD_EXCHANGE
        return exchange

    def _modules(self, columns: dict[str, Integers], legs: _Legs, exchange: Integers) -> Integers:
        """Returns the row of each module, and of each head."""
        starts, owner, end, block_input = legs
        early, late = (self._option(columns, half) for half in ("early", "late"))
        option = np.where(self.late[end], late[owner], early[owner])
        # A stream comes from the block of the connector in front, a block's input from the block in front.
        previous = np.zeros_like(end)
        previous[1:] = end[:-1]
        source = self.index.pools + self.features[np.where(block_input[owner], end - 1, previous)]
        source[starts] = columns["image_pool"]
        _, features, options = self.index.rows.shape
        rows: Integers = self.index.rows.ravel()[(source * features + self.features[end]) * options + option]
        heads = np.append(starts[1:], len(end)) - 1
        reads_stream = (heads > starts) & (exchange[heads - 1] == HEAD_EXCHANGE)
        rows[heads] = self.heads[np.where(reads_stream, previous[heads], self.blocks)]
        return rows

    def _option(self, columns: dict[str, Integers], half: str) -> Integers:
        """Returns the place of each design's module fields in `_module_choices`."""
        option = np.zeros(len(columns["recipe"]), dtype=np.int64)
        for name, count in self.field_counts.items():
            option = option * count + columns[f"{half}_{name}" if name in _PER_HALF else name]
        return option


def _module_choices(space: SearchSpace) -> ModuleChoices:
    """Returns all modules that a space may ask for."""
    spec = space.spec
    fields = (*_PER_HALF, *_ONCE)
    combinations = itertools.product(*(getattr(spec.module, field) for field in fields))
    return ModuleChoices(
        modules=tuple(ModuleSpec.model_validate(dict(zip(fields, values, strict=True))) for values in combinations),
        image_pools=spec.image_pool,
        blocks=tuple(sorted(block for blocks in space.stages.values() for block in blocks)),
        stream=any(mode != "block_input" for mode in spec.write),
        block_input="block_input" in spec.write,
    )
