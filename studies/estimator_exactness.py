"""The tables for batches of designs against the op list: random designs, to the byte.

python -m studies.estimator_exactness [--designs 10000] [--seed 0]    writes estimator_exactness.json and .md beside it

Designs are drawn over everything that a design file can say, for five backbones, fp32 and int8, micro-batches 1 to 4
and the three schedules; and over the bundled spaces, by the path that turns choices into a batch without building
designs. Compared are live peak, kept bytes, trainable parameters, norm state and the training memory of the recipe.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from repnet_search.backbones import BlockTable, get_block_table
from repnet_search.errors import SpecError
from repnet_search.graph import Schedule, build_graph
from repnet_search.memory import compute_liveness
from repnet_search.memory.estimate import estimate_graph
from repnet_search.memory.tables import create_tables
from repnet_search.search.batch import SpaceMemory
from repnet_search.search.space import SearchSpace
from repnet_search.spec import (
    BackboneSpec,
    Connector,
    Design,
    Exchange,
    ModuleInput,
    Norm,
    Optimizer,
    Recipe,
    ResolvedDesign,
    resolve,
)
from repnet_search.spec.bundled import list_spaces, load_space
from repnet_search.spec.files import save_text

BACKBONES = (
    BackboneSpec(),
    BackboneSpec(name="mobilenet_v2", width_mult=1.0, last_conv=True),
    BackboneSpec(name="proxylessnas_mobile"),
    BackboneSpec(name="resnet18"),
    BackboneSpec(name="resnet50"),
)
BITS = (32, 8)
BATCHES = (1, 2, 3, 4)
RESOLUTIONS = (17, 24, 32, 48, 50)
MOST_CONNECTORS = 8


def draw_design(random: Random, backbone: BackboneSpec, *, resolution: int, bits: int, batch: int) -> ResolvedDesign:
    """Returns a random legal design; half of them exchange at random, the others in one of the common ways."""
    table = get_block_table(backbone.name, width_mult=backbone.width_mult, last_conv=backbone.last_conv)
    while True:
        design = Design(
            backbone=backbone,
            resolution=resolution,
            activation_bits=8 if bits == 8 else 32,
            image_pool=random.choice((1, 2, 4, 8)),
            connectors=tuple(_draw_connectors(random, table, norms=tuple(Norm) if batch > 1 else _UNCOUPLED)),
            module_input=random.choice(list(ModuleInput)),
            train_bias=random.random() < 0.3,
            recipe=Recipe(optimizer=random.choice(list(Optimizer)), accumulate=random.choice((1, 8))),
        )
        try:
            return resolve(design, clamp_groups=True)
        except SpecError:
            continue


_UNCOUPLED = (Norm.GROUP, Norm.LAYER, Norm.NONE)


def _draw_connectors(random: Random, table: BlockTable, *, norms: tuple[Norm, ...]) -> Iterator[Connector]:
    possible = [index for index, block in enumerate(table.blocks) if not block.is_identity]
    blocks = sorted(random.sample(possible, random.randint(0, min(MOST_CONNECTORS, len(possible)))))
    readers = random.randint(0, len(blocks))
    way = random.choice(("random", "random", "readers first", *Exchange))
    for number, block in enumerate(blocks):
        if isinstance(way, Exchange):
            exchange = way
        elif way == "random":
            exchange = random.choice(list(Exchange))
        else:
            exchange = Exchange.TO_REPNET if number < readers else Exchange.BOTH
        yield Connector(
            after_block=block,
            exchange=exchange,
            depth=random.choice((0, 1, 2, 3)),
            width=random.choice((0.25, 0.5, 1.0, 2.0)),
            kernel=random.choice((1, 3, 5)),
            groups=random.choice((1, 2, 4, "depthwise")),
            pool=random.choice((1, 1, 2, 4)),
            norm=random.choice(norms),
            weight_standardisation=random.random() < 0.3,
        )


def account(resolved: ResolvedDesign, *, classes: int, batch: int, schedule: Schedule) -> tuple[int, ...]:
    """Returns what the op list says of a design."""
    graph = build_graph(resolved, classes=classes, batch=batch, schedule=schedule)
    liveness = compute_liveness(graph)
    memory = estimate_graph(resolved, graph, liveness, arena_bytes=liveness.peak_bytes)
    return (
        memory.live_peak_bytes,
        memory.kept_bytes,
        memory.trainable_parameters,
        graph.norm_state_elements,
        memory.ram_bytes,
    )


def compare_random(*, designs: int, seed: int) -> list[dict[str, Any]]:
    """Returns for each backbone how many designs were compared, and how many differed."""
    contexts = list(itertools.product(BITS, BATCHES, Schedule))
    each = -(-designs // (len(BACKBONES) * len(contexts)))
    records = []
    for backbone in BACKBONES:
        random = Random(f"{seed} {backbone}")
        table = get_block_table(backbone.name, width_mult=backbone.width_mult, last_conv=backbone.last_conv)
        different, peaks = 0, []
        for bits, batch, schedule in contexts:
            resolution, classes = random.choice(RESOLUTIONS), random.choice((2, 10, 100))
            drawn = [draw_design(random, backbone, resolution=resolution, bits=bits, batch=batch) for _ in range(each)]
            tables = create_tables(
                table, resolution=resolution, classes=classes, activation_bits=bits, batch=batch, schedule=schedule
            )
            found = tables.measure(tables.batch_of(drawn))
            given = np.stack(
                [
                    found.live_peak_bytes,
                    found.kept_bytes,
                    found.trainable_parameters,
                    found.norm_state_elements,
                    found.ram_bytes,
                ],
                axis=1,
            )
            wanted = np.array([account(item, classes=classes, batch=batch, schedule=schedule) for item in drawn])
            different += int((given != wanted).any(axis=1).sum())
            peaks += wanted[:, 0].tolist()
        records.append(
            {
                "designs of": f"{table.name}, {len(contexts)} contexts",
                "compared": len(peaks),
                "different": different,
                "smallest live peak, bytes": min(peaks),
                "largest live peak, bytes": max(peaks),
            }
        )
        print(records[-1], flush=True)
    return records


def compare_spaces(*, designs: int, seed: int) -> list[dict[str, Any]]:
    """Returns the same for draws from the bundled spaces, by choices."""
    records = []
    for path in list_spaces():
        space = SearchSpace(load_space(str(path)), BackboneSpec())
        memory = SpaceMemory(space, classes=10, keep=False)
        drawn = memory.sample(designs, seed=seed)
        peaks = []
        different = 0
        for number, row in enumerate(drawn.choices):
            wanted = account(space.design(memory.params(row)), classes=10, batch=1, schedule=Schedule.LAYER)
            different += wanted[-1] != drawn.ram_bytes[number] or wanted[1] != drawn.memory.kept_bytes[number]
            peaks.append(wanted[0])
        records.append(
            {
                "designs of": f"the space {path.stem}, by choices",
                "compared": designs,
                "different": int(different),
                "smallest live peak, bytes": min(peaks),
                "largest live peak, bytes": max(peaks),
            }
        )
        print(records[-1], flush=True)
    return records


def summarise(record: dict[str, Any]) -> str:
    """Returns the record as Markdown."""
    rows = record["compared"]
    total = sum(row["compared"] for row in rows)
    different = sum(row["different"] for row in rows)
    lines = [
        "# Tables against the op list",
        "",
        f"**{different} differences in {total} random designs**: live peak, kept bytes, trainable parameters, norm "
        "state and training memory (the lower bound that the placed arena reaches in nearly every design), each to the "
        f"byte. A context is one of fp32 or int8, micro-batch 1 to 4, and a schedule. Seed {record['seed']}, "
        f"{record['seconds']:.0f} s. Written by `python -m studies.estimator_exactness`.",
        "",
        "| designs of | compared | different | live peaks, KiB |",
        "|---|--:|--:|--:|",
    ]
    for row in rows:
        low, high = (row[f"{end} live peak, bytes"] / 1024 for end in ("smallest", "largest"))
        lines.append(f"| {row['designs of']} | {row['compared']} | {row['different']} | {low:.1f} to {high:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compares, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--designs", type=int, default=10000)
    parser.add_argument("--space-designs", type=int, default=1000, help="draws from each bundled space")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started = time.perf_counter()
    compared = compare_random(designs=arguments.designs, seed=arguments.seed)
    compared += compare_spaces(designs=arguments.space_designs, seed=arguments.seed)
    record = {"seed": arguments.seed, "seconds": round(time.perf_counter() - started, 1), "compared": compared}
    here = Path(__file__)
    save_text(here.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
    summary = summarise(record)
    save_text(here.with_suffix(".md"), summary)
    print(summary)


if __name__ == "__main__":
    main()
