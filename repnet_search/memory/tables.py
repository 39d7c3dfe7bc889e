"""Exact memory of batches of designs: a design's live peak is the largest of its segments' peaks, gathered from tables.

For one backbone, resolution, bits, micro-batch, schedule and number of classes. A design alternates legs of blocks
(legs.py) and modules (families.py); at its end is the head, which takes a module's place. In front of a segment,
everything that the earlier ones keep is alive, forward and, the order being exactly reversed, backward:

    live peak = max over segments of (kept before it + its own peak)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from repnet_search.backbones import BlockTable
from repnet_search.errors import SpecError
from repnet_search.graph import Role, Schedule, Slopes
from repnet_search.graph.build import emit_image_pool
from repnet_search.graph.tape import Tape
from repnet_search.memory.batch import BatchMemory, DesignBatch, Integers, needs_whole_gradients
from repnet_search.memory.families import (
    COLUMNS,
    CONTEXTS,
    EXCHANGES,
    HEAD_EXCHANGE,
    ModuleKey,
    measure_heads,
    measure_modules,
    module_keys,
)
from repnet_search.memory.legs import Hold, Path, create_leg_table
from repnet_search.memory.liveness import align
from repnet_search.memory.parameters import recipe_bytes_per_parameter
from repnet_search.memory.segments import Target
from repnet_search.spec.design import Exchange, ModuleInput, Norm
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.spec.shapes import IMAGE_CHANNELS

CHUNK_DESIGNS = 4096
_BOTH = EXCHANGES.index(Exchange.BOTH)
_BATCH_NORM = tuple(Norm).index(Norm.BATCH)


class _Sums(NamedTuple):
    """What legs and their modules add, without what is kept in front of each: `before`, over all designs in a row."""

    peaks: tuple[Integers, Integers, Integers, Integers]
    adds: Integers
    before: Integers
    parameters: Integers
    norm_state: Integers


class MemoryTables:
    """The tables of a context; rows of modules that are asked for the first time are measured then."""

    def __init__(self, table: BlockTable, *, resolution: int, classes: int, target: Target) -> None:
        """Measures legs and heads, in some 10 ms."""
        self.table = table
        self.resolution = resolution
        self.classes = classes
        self.target = target
        self.sizes = table.output_sizes(resolution)
        self.legs = create_leg_table(table, resolution=resolution, target=target)
        self.keys: dict[ModuleKey, int] = {}
        self._columns: list[Integers] = [np.empty(0, dtype=np.int64) for _ in COLUMNS]
        self._rows = 0
        connectable = [number for number, block in enumerate(table.blocks) if not block.is_identity]
        self._heads = {block: self._append(self._measure_head(block)) for block in (None, *connectable)}
        self._image_bytes: dict[int, int] = {}

    def add_modules(self, keys: Sequence[ModuleKey]) -> None:
        """Measures the modules that have no row yet.

        Raises:
            SpecError: a batch norm at micro-batch 1.
        """
        missing = list(dict.fromkeys(key for key in keys if key not in self.keys))
        if self.target.batch == 1 and any(key[1] == _BATCH_NORM for key in missing):
            raise SpecError(
                "Norm 'batch' couples the images of a batch, but the micro-batch is 1; use norm 'group' or 'layer'."
            )
        if missing:
            self.append_modules(missing, measure_modules(missing, target=self.target))

    def append_modules(self, keys: Sequence[ModuleKey], rows: Integers) -> None:
        """Takes over modules that are measured already."""
        first = self._append(rows)
        self.keys.update((key, first + index) for index, key in enumerate(keys))

    def module_rows(self, keys: Sequence[ModuleKey]) -> Integers:
        """Returns the rows of some modules, an axis of `COLUMNS`, one of modules, one of contexts."""
        indices = [self.keys[key] for key in keys]
        return np.stack([column.reshape(-1, CONTEXTS)[indices] for column in self._columns])

    def head_row(self, stream_block: int | None) -> int:
        """Returns the row of the head that also reads the stream behind a block, or b alone."""
        return self._heads[stream_block]

    def image_bytes(self, image_pool: int) -> int:
        """Returns the bytes of r_0.

        Raises:
            SpecError: nothing is left of the image.
        """
        size = self._image_bytes.get(image_pool)
        if size is None:
            if self.resolution < image_pool:
                raise SpecError(
                    f"image_pool must leave at least one pixel, but {image_pool} does not at resolution "
                    f"{self.resolution}."
                )
            tape = Tape(batch=self.target.batch, backbone_bytes=self.target.backbone_bytes)
            image = tape.tensor("image", (IMAGE_CHANNELS, self.resolution, self.resolution), Role.IMAGE)
            pooled = emit_image_pool(tape, image, image_pool)
            size = self._image_bytes[image_pool] = align(tape.tensors[pooled].size_bytes)
        return size

    def batch_of(self, designs: Sequence[ResolvedDesign]) -> DesignBatch:
        """Returns designs as a batch for these tables.

        Raises:
            SpecError: a design is for another backbone, resolution or bits, or has a batch norm at micro-batch 1.
        """
        for resolved in designs:
            self._check(resolved)
        self.add_modules([key for resolved in designs for key in module_keys(resolved)])
        legs: list[tuple[int, int, int]] = []
        starts = []
        for resolved in designs:
            starts.append(len(legs))
            legs += self._list_legs(resolved)
        end, exchange, module = np.array(legs, dtype=np.int64).reshape(-1, 3).T.copy()
        flags = [
            (
                item.design.module_input is ModuleInput.BLOCK_INPUT,
                item.design.train_bias,
                needs_whole_gradients(item.design.recipe),
            )
            for item in designs
        ]
        block_input, train_bias, whole_gradients = np.array(flags, dtype=np.bool_).reshape(-1, 3).T.copy()
        image_bytes = [self.image_bytes(item.design.image_pool) if item.modules else 0 for item in designs]
        per_parameter = [recipe_bytes_per_parameter(item.design.recipe) for item in designs]
        return DesignBatch(
            starts=np.array(starts, dtype=np.int64),
            end=end,
            exchange=exchange,
            module=module,
            image_bytes=np.array(image_bytes, dtype=np.int64),
            block_input=block_input,
            train_bias=train_bias,
            whole_gradients=whole_gradients,
            bytes_per_parameter=np.array(per_parameter, dtype=np.int64),
        )

    def _list_legs(self, resolved: ResolvedDesign) -> list[tuple[int, int, int]]:
        """Returns the end, the exchange and the row of a design's legs."""
        legs = [
            (shape.after_block, EXCHANGES.index(shape.exchange), self.keys[key])
            for shape, key in zip(resolved.modules, module_keys(resolved), strict=True)
        ]
        head = self.head_row(resolved.modules[-1].after_block if resolved.head_reads_stream else None)
        return [*legs, (self.legs.blocks, HEAD_EXCHANGE, head)]

    def measure(self, batch: DesignBatch) -> BatchMemory:
        """Returns what the designs of a batch take."""
        pieces = [self._measure(chunk) for chunk in batch.chunks(CHUNK_DESIGNS)]
        live, kept, parameters, norm_state = (
            np.concatenate([piece[column] for piece in pieces]) if pieces else np.empty(0, dtype=np.int64)
            for column in range(4)
        )
        return BatchMemory(live, kept, parameters, norm_state, batch.bytes_per_parameter)

    def lower_bound(self, resolved: ResolvedDesign) -> int:
        """Returns a bound that a design's training memory cannot be below, as `estimate_lower_bound` has it.

        Raises:
            SpecError: as `batch_of`.
        """
        return int(self.measure(self.batch_of([resolved])).ram_bytes[0])

    def segment_peaks(self, batch: DesignBatch) -> Integers:
        """Returns the peaks that a design's peak is the largest of: an axis of four, and one of legs.

        Of a leg's blocks forward and backward, and of its module or head forward and backward, each with all that is
        alive then; below 0 where a leg has no such operator.
        """
        sums = self._sum_up(batch)
        return np.stack(sums.peaks) + sums.before - np.repeat(sums.before[batch.starts], batch.lengths)

    def _measure(self, batch: DesignBatch) -> tuple[Integers, Integers, Integers, Integers]:
        """Returns live peak, kept bytes, trainable parameters and norm state of each design."""
        starts = batch.starts
        sums = self._sum_up(batch)
        leg_forward, leg_backward, forward, backward = sums.peaks
        peak = np.maximum(np.maximum(leg_forward, leg_backward), np.maximum(forward, backward)) + sums.before
        return (
            np.maximum.reduceat(peak, starts) - sums.before.take(starts),
            np.add.reduceat(sums.adds, starts),
            np.add.reduceat(sums.parameters, starts) + batch.train_bias * self.table.bias_count,
            np.add.reduceat(sums.norm_state, starts),
        )

    def _sum_up(self, batch: DesignBatch) -> _Sums:
        """Gathers the segments of all legs, and sums up what they keep."""
        starts, legs = batch.starts, self.legs
        owner = np.repeat(np.arange(len(batch)), batch.lengths)
        leg, path = self._legs_of(batch, owner)
        leg_forward, leg_backward, leg_kept, leg_held = (
            column.take(leg) for column in (legs.forward_peak, legs.backward_peak, legs.kept, legs.held)
        )
        row = batch.module * CONTEXTS + _contexts(batch.exchange, path, batch.whole_gradients.take(owner))
        reading, forward, backward, kept, keeps, stream, stream_gradient, parameters, norm_state = (
            column.take(row) for column in self._columns
        )
        # What the leg in front hands on in a storage of its own, and, on the way back, the gradient of that.
        stream_in = _shifted(stream, starts, batch.image_bytes)
        gradient_in = _shifted(stream_gradient, starts, 0)
        source = leg_held + stream_in
        kept_source = source * keeps
        adds = leg_kept + kept + kept_source
        peaks = (
            stream_in + leg_forward,
            gradient_in + leg_backward,
            np.maximum(source + reading, forward) + leg_kept,
            kept_source + backward + leg_kept,
        )
        return _Sums(peaks, adds, np.cumsum(adds) - adds, parameters, norm_state)

    def _legs_of(self, batch: DesignBatch, owner: Integers) -> tuple[Integers, Integers]:
        """Returns the row of each leg's blocks, and its gradient path."""
        starts, end, blocks = batch.starts, batch.end, self.legs.blocks
        start = _shifted(end + 1, starts, 0)
        after_both = (_shifted(batch.exchange, starts, HEAD_EXCHANGE) == _BOTH) & (end < blocks)
        hold = after_both * np.where(batch.block_input, Hold.END, Hold.START).take(owner)
        writes = (batch.exchange != HEAD_EXCHANGE).astype(np.int64)
        written = np.cumsum(writes) - writes
        tracked = written > written.take(starts).take(owner)
        bias_path = batch.train_bias * np.where(batch.whole_gradients, Path.BIAS_WHOLE, Path.BIAS)
        path = np.maximum(bias_path.take(owner), tracked)
        leg = ((start * (blocks + 1) + end) * len(Hold) + hold) * len(Path) + path
        return leg, path

    def _append(self, rows: Integers) -> int:
        first = self._rows
        self._columns = [np.concatenate([old, new.ravel()]) for old, new in zip(self._columns, rows, strict=True)]
        self._rows += rows.shape[1]
        return first

    def _measure_head(self, stream_block: int | None) -> Integers:
        stream = None
        if stream_block is not None:
            stream = (self.table.blocks[stream_block].channels, self.sizes[stream_block])
        feature = (self.table.feature_channels, self.sizes[-1])
        return measure_heads(feature, stream=stream, classes=self.classes, target=self.target)

    def _check(self, resolved: ResolvedDesign) -> None:
        design = resolved.design
        given = (resolved.table.name, design.resolution, design.activation_bits)
        wanted = (self.table.name, self.resolution, self.target.activation_bits)
        if given != wanted:
            raise SpecError(
                f"These memory tables are for {wanted[0]} at {wanted[1]} px with {wanted[2]} bits, but a design is for "
                f"{given[0]} at {given[1]} px with {given[2]} bits; create tables for it."
            )


def create_tables(
    table: BlockTable,
    *,
    resolution: int,
    classes: int,
    activation_bits: int = 32,
    batch: int = 1,
    schedule: Schedule = Schedule.LAYER,
    slopes: Slopes = Slopes.EXACT,
) -> MemoryTables:
    """Returns the tables of a context, without modules as yet."""
    target = Target(batch, activation_bits, schedule, slopes)
    return MemoryTables(table, resolution=resolution, classes=classes, target=target)


def _contexts(exchange: Integers, path: Integers, whole: NDArray[np.bool_]) -> Integers:
    """Returns for each leg what `context` does for one."""
    contexts: Integers = (2 * exchange + (path > Path.NONE)) * 2 + whole
    return contexts


def _shifted(values: Integers, starts: Integers, first: Integers | int) -> Integers:
    """Returns of each leg the value of the one in front of it; `first` where a design begins."""
    shifted = np.empty_like(values)
    shifted[1:] = values[:-1]
    shifted[starts] = first
    return shifted
