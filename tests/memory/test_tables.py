from __future__ import annotations

import itertools
import math
import statistics
import time
from collections import defaultdict
from random import Random

import numpy as np
import pytest

from repnet_search.backbones import get_block_table
from repnet_search.errors import SpecError
from repnet_search.graph import Schedule, TrainingGraph, build_graph
from repnet_search.memory import Liveness, compute_liveness, estimate_lower_bound
from repnet_search.memory.families import measure_modules, module_key
from repnet_search.memory.segments import Target
from repnet_search.memory.tables import CHUNK_DESIGNS, MemoryTables, create_tables
from repnet_search.spec import BackboneSpec, Connector, Design, Norm, Optimizer, Recipe, ResolvedDesign, resolve
from tests.designs import random_resolved, six_connectors

BACKBONES = (
    BackboneSpec(),
    BackboneSpec(name="mobilenet_v2", width_mult=1.0, last_conv=True),
    BackboneSpec(name="proxylessnas_mobile"),
    BackboneSpec(name="resnet18"),
    BackboneSpec(name="resnet50"),
    BackboneSpec(name="mobilenet_v3_small", last_conv=True),
)
CLASSES = 10


def tables_for(resolved: ResolvedDesign, *, batch: int = 1, schedule: Schedule = Schedule.LAYER) -> MemoryTables:
    design = resolved.design
    return create_tables(
        resolved.table,
        resolution=design.resolution,
        classes=CLASSES,
        activation_bits=design.activation_bits,
        batch=batch,
        schedule=schedule,
    )


def some_designs(random: Random, backbone: BackboneSpec, *, bits: int, batch: int, count: int) -> list[ResolvedDesign]:
    norms = tuple(Norm) if batch > 1 else (Norm.GROUP, Norm.LAYER, Norm.NONE)
    resolution = random.choice((23, 32, 48))
    return [
        resolve(drawn.design.model_copy(update={"activation_bits": bits}))
        for drawn in (
            random_resolved(random, norms=norms, resolutions=(resolution,), backbone=backbone) for _ in range(count)
        )
    ]


def differences(tables: MemoryTables, designs: list[ResolvedDesign]) -> list[str]:
    """Returns the designs of which the tables say something else than the op list, on the whole or of a segment."""
    batch = tables.batch_of(designs)
    measured = tables.measure(batch)
    peaks = np.split(tables.segment_peaks(batch), batch.starts[1:], axis=1)
    different = []
    for number, resolved in enumerate(designs):
        graph = build_graph(resolved, classes=CLASSES, batch=tables.target.batch, schedule=tables.target.schedule)
        liveness = compute_liveness(graph)
        wanted = (liveness.peak_bytes, liveness.kept_bytes, graph.parameter_count, graph.norm_state_elements)
        given = (
            measured.live_peak_bytes[number],
            measured.kept_bytes[number],
            measured.trainable_parameters[number],
            measured.norm_state_elements[number],
        )
        of_segments = [[max(peak, 0) for peak in column] for column in peaks[number].T.tolist()]
        if wanted != given or of_segments != segment_peaks(resolved, graph, liveness):
            different.append(f"{resolved.short_id}: op list {wanted}, tables {tuple(map(int, given))}")
    return different


def segment_peaks(resolved: ResolvedDesign, graph: TrainingGraph, liveness: Liveness) -> list[list[int]]:
    """Returns for each leg the peaks of its blocks and of its module, forward and backward; 0 for no operator."""
    at: dict[tuple[str, bool], int] = defaultdict(int)
    for number, (op, live) in enumerate(zip(graph.ops, liveness.live_bytes, strict=True)):
        key = (op.place, number < graph.forward_ops)
        at[key] = max(at[key], live)
    ends = [module.after_block for module in resolved.modules] + [len(resolved.table.blocks)]
    found = []
    begin = 0
    for number, end in enumerate(ends, start=1):
        blocks = [f"block {block}" for block in range(begin, end + 1)]
        module = f"module {number}" if number < len(ends) else "head"
        legs = [max((at[block, forward] for block in blocks), default=0) for forward in (True, False)]
        found.append([*legs, at[module, True], at[module, False]])
        begin = end + 1
    return found


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: f"{backbone.name} {backbone.width_mult}")
@pytest.mark.parametrize("schedule", Schedule)
def test_tables_equal_the_op_list_to_the_byte(backbone: BackboneSpec, schedule: Schedule) -> None:
    random = Random(f"{backbone} {schedule}")
    # h-swish and squeeze-and-excitation are in float32 alone.
    for bits, batch in itertools.product((32,) if "v3" in backbone.name else (32, 8), (1, 3)):
        designs = some_designs(random, backbone, bits=bits, batch=batch, count=8)
        tables = tables_for(designs[0], batch=batch, schedule=schedule)
        assert differences(tables, designs) == []


@pytest.mark.parametrize("batch", [2, 4])
def test_masks_of_odd_sizes_are_rounded_per_buffer(batch: int) -> None:
    random = Random(batch)
    designs = [
        resolve(random_resolved(random).design.model_copy(update={"resolution": 17, "activation_bits": 8}))
        for _ in range(20)
    ]
    assert differences(tables_for(designs[0], batch=batch), designs) == []


def test_the_last_layer_alone_by_hand() -> None:
    resolved = resolve(Design(connectors=()))
    tables = tables_for(resolved)
    measured = tables.measure(tables.batch_of([resolved]))
    # 48 px fp32: block 2's depthwise convolution reads 48 channels at 24x24 and writes them at 12x12
    assert measured.live_peak_bytes.tolist() == [4 * 48 * (24**2 + 12**2)]
    assert measured.kept_bytes.tolist() == [4 * (112 + 10)]
    assert measured.trainable_parameters.tolist() == [112 * 10 + 10]
    assert measured.ram_bytes.tolist() == [4 * 48 * (24**2 + 12**2) + 4 * 1130]


def test_a_reading_connector_adds_its_stream_and_what_it_keeps_by_hand() -> None:
    # After the last block (112 channels at 2x2) on the image pooled to 12x12, no pooling, one linear layer, no norm.
    connector = Connector.model_validate(
        {"after_block": 17, "exchange": "to_repnet", "depth": 0, "pool": 1, "norm": "none"}
    )
    resolved = resolve(Design(connectors=(connector,)))
    tables = tables_for(resolved)
    measured = tables.measure(tables.batch_of([resolved]))
    image = 4 * 3 * 12 * 12
    # r_0 is alive beside the peak of the last layer alone; its convolution keeps it
    assert measured.live_peak_bytes.tolist() == [4 * 48 * (24**2 + 12**2) + image]
    assert measured.kept_bytes.tolist() == [image + 4 * (2 * 112 + 10)]
    assert measured.trainable_parameters.tolist() == [(3 * 112 + 112) + (2 * 112 * 10 + 10)]


def test_what_a_recipe_needs_is_counted() -> None:
    base = six_connectors()
    recipes = [Recipe(optimizer=optimizer, accumulate=accumulate) for optimizer in Optimizer for accumulate in (1, 16)]
    designs = [
        resolve(base.model_copy(update={"recipe": recipe, "train_bias": train_bias}))
        for recipe in recipes
        for train_bias in (False, True)
    ]
    tables = tables_for(designs[0])
    assert tables.measure(tables.batch_of(designs)).ram_bytes.tolist() == [
        estimate_lower_bound(resolved, classes=CLASSES) for resolved in designs
    ]


def test_designs_do_not_influence_each_other_across_chunks() -> None:
    random = Random(4)
    designs = some_designs(random, BACKBONES[0], bits=32, batch=1, count=30)
    tables = tables_for(designs[0])
    once = tables.measure(tables.batch_of(designs)).ram_bytes
    repeats = math.ceil(1.5 * CHUNK_DESIGNS / len(designs))
    many = tables.measure(tables.batch_of(designs * repeats)).ram_bytes
    assert np.array_equal(many, np.tile(once, repeats))
    assert once.tolist() == [tables.lower_bound(resolved) for resolved in designs]


def test_a_family_of_modules_is_what_each_of_them_is_alone() -> None:
    random = Random(5)
    drawn = some_designs(random, BACKBONES[0], bits=8, batch=2, count=40)
    keys = [module_key(shape, first=number == 0) for item in drawn for number, shape in enumerate(item.modules)]
    keys = list(dict.fromkeys(keys))
    target = Target(2, 8, Schedule.LAYER)
    together = measure_modules(keys, target=target)
    for number, key in enumerate(keys[:20]):
        assert np.array_equal(together[:, number], measure_modules([key], target=target)[:, 0])


def test_no_designs_are_measured_at_once() -> None:
    tables = tables_for(resolve(Design(connectors=())))
    assert tables.measure(tables.batch_of([])).ram_bytes.tolist() == []


def test_one_design_takes_less_than_0_3_ms() -> None:
    designs = some_designs(Random(6), BACKBONES[0], bits=32, batch=1, count=60)
    tables = tables_for(designs[0])
    tables.batch_of(designs)
    seconds = []
    for resolved in designs:
        started = time.thread_time()
        tables.lower_bound(resolved)
        seconds.append(time.thread_time() - started)
    assert statistics.median(seconds) < 0.0003


def test_a_batch_norm_needs_a_batch() -> None:
    connector = Connector(after_block=3, norm=Norm.BATCH)
    resolved = resolve(Design(connectors=(connector,)))
    with pytest.raises(SpecError, match="Norm 'batch' couples the images of a batch, but the micro-batch is 1"):
        tables_for(resolved).batch_of([resolved])
    assert differences(tables_for(resolved, batch=2), [resolved]) == []


def test_designs_of_another_context_are_refused() -> None:
    tables = create_tables(get_block_table("resnet18", width_mult=1.0, last_conv=False), resolution=32, classes=2)
    with pytest.raises(SpecError, match="are for resnet18 at 32 px with 32 bits, but a design is for mobilenet_v2"):
        tables.batch_of([resolve(Design(connectors=()))])
