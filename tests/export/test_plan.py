"""The plan is the estimate's arena; its C header compiles and says the same."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from repnet_search.errors import RepnetSearchError
from repnet_search.export.plan import MemoryPlan, create_plan, plan_to_json
from repnet_search.export.plan_header import plan_to_c_header
from repnet_search.graph import Schedule
from repnet_search.memory import estimate_memory
from repnet_search.spec import Design, Norm, Optimizer, Recipe, ResolvedDesign, get_preset, resolve
from tests.designs import random_resolved, six_connectors

PROGRAM = """
#include <stdio.h>
#include <string.h>
#include "plan.h"

int main(void) {
    static unsigned char arena[REPNET_ARENA_BYTES];
    unsigned long end = 0, touched = 0, outside = 0;
    unsigned i, j;
    for (i = 0; i < REPNET_BUFFER_COUNT; i++) {
        unsigned long last = (unsigned long)repnet_buffers[i].offset_bytes + repnet_buffers[i].size_bytes;
        if (last > end) end = last;
        memset(REPNET_ADDRESS(arena, (enum repnet_buffer)i), 1, repnet_buffers[i].size_bytes);
    }
    for (i = 0; i < REPNET_OP_COUNT; i++) {
        const repnet_op_plan *op = &repnet_ops[i];
        for (j = 0; j < op->read_count + op->write_count; j++) {
            const repnet_buffer_plan *buffer = &repnet_buffers[repnet_op_buffers[op->first_read + j]];
            touched++;
            if (i < buffer->first_op || i > buffer->last_op) outside++;
        }
    }
    printf("%lu %u %u %lu %lu %s\\n", end, REPNET_ARENA_BYTES, REPNET_RAM_BYTES, touched, outside,
        repnet_buffers[REPNET_BUFFER_B2_0].name);
    return 0;
}
"""
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-pedantic"]


def normalised() -> ResolvedDesign:
    """Returns a design whose weight gradients repeat their names, with standardised weights and batch norms."""
    recipe = Recipe(optimizer=Optimizer.NORMALISED_SGD)
    return resolve(six_connectors(weight_standardisation=True, depth=2).model_copy(update={"recipe": recipe}))


@pytest.mark.parametrize("schedule", Schedule)
def test_the_plan_is_the_estimate_s_arena(schedule: Schedule) -> None:
    random = Random(8)
    for _ in range(8):
        resolved = random_resolved(random)
        plan = create_plan(resolved, classes=10, batch=2, schedule=schedule)
        assert plan.memory == estimate_memory(resolved, classes=10, batch=2, schedule=schedule)
        assert max(buffer.offset_bytes + buffer.size_bytes for buffer in plan.buffers) == plan.memory.arena_bytes
        assert len({buffer.name for buffer in plan.buffers}) == len(plan.buffers)


def test_every_operator_finds_its_buffers_alive_and_apart() -> None:
    plan = create_plan(normalised(), classes=10)
    for index, op in enumerate(plan.ops):
        touched = {*op.reads, *op.writes}
        spans = sorted(
            (plan.buffers[buffer].offset_bytes, plan.buffers[buffer].offset_bytes + plan.buffers[buffer].size_bytes)
            for buffer in touched
        )
        assert all(one[1] <= other[0] for one, other in pairwise(spans))
        assert all(plan.buffers[buffer].first_op <= index <= plan.buffers[buffer].last_op for buffer in touched)
    for index, buffer in enumerate(plan.buffers):
        users = [number for number, op in enumerate(plan.ops) if index in (*op.reads, *op.writes)]
        assert (users[0], users[-1]) == (buffer.first_op, buffer.last_op)


def test_the_json_says_it_all() -> None:
    plan = create_plan(normalised(), classes=10)
    value = json.loads(json.dumps(plan_to_json(plan)))
    assert "a plan, not a trainer" in value["notice"]
    assert (value["account"], value["schedule"], value["batch"]) == ("arena", "layer", 1)
    assert sum(value["terms"].values()) == value["ram_bytes"]
    assert value["terms"]["arena"] == value["arena_bytes"] == plan.memory.arena_bytes
    assert [op["pass"] for op in value["ops"]].index("backward") == value["forward_ops"]
    assert value["buffers"][0]["name"] == "image"
    assert value["ops"][0]["reads"] == [0]
    assert parse_again(value["design"]) == plan.resolved.id


def parse_again(design: dict[str, object]) -> str:
    return resolve(Design.model_validate(design)).id


def compile_and_run(folder: Path, plan: MemoryPlan, compiler: list[str]) -> list[str]:
    (folder / "plan.h").write_text(plan_to_c_header(plan))
    (folder / "plan.c").write_text(PROGRAM)
    command = [*compiler, *WARNINGS, "plan.c", "-o", "plan"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return subprocess.run([folder / "plan"], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this machine")
@pytest.mark.parametrize(
    "compiler",
    [
        ["gcc"],
        ["gcc", "-std=c99"],
        pytest.param(
            ["g++", "-x", "c++", "-std=c++11"],
            marks=pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on this machine"),
        ),
    ],
)
def test_the_header_compiles_and_says_the_same(compiler: list[str], tmp_path: Path) -> None:
    plan = create_plan(normalised(), classes=10)
    touched = sum(len(op.reads) + len(op.writes) for op in plan.ops)
    arena, ram = plan.memory.arena_bytes, plan.memory.ram_bytes
    expected = [arena, arena, ram, touched, 0, "b2.0"]
    assert compile_and_run(tmp_path, plan, compiler) == [str(value) for value in expected]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this machine")
def test_headers_of_many_designs_compile_alone(tmp_path: Path) -> None:
    random = Random(9)
    designs = [(random_resolved(random, norms=(Norm.GROUP, Norm.BATCH)), schedule) for schedule in Schedule]
    designs.append((resolve(get_preset("smallest", Design(connectors=(), activation_bits=8))), Schedule.STREAMED))
    for resolved, schedule in designs:
        plan = create_plan(resolved, classes=10, batch=2, schedule=schedule)
        (tmp_path / "plan.h").write_text(plan_to_c_header(plan))
        command = ["gcc", "-x", "c", "-std=c99", *WARNINGS, "-fsyntax-only", "plan.h"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this machine")
def test_a_wrong_header_does_not_compile(tmp_path: Path) -> None:
    text = plan_to_c_header(create_plan(normalised(), classes=10))
    wrong = re.sub(r"(#define REPNET_OFFSET_B2_0) \d+u", r"\1 2u", text)
    assert wrong != text
    (tmp_path / "plan.h").write_text(wrong)
    command = ["gcc", "-x", "c", "-std=c99", "-fsyntax-only", "plan.h"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "repnet_assert_b2_0" in done.stderr


def test_the_header_says_what_it_is_and_its_names_are_identifiers() -> None:
    text = plan_to_c_header(create_plan(normalised(), classes=10))
    comment = text[: text.index("*/")]
    assert "This is a plan, not a trainer" in comment
    for part in ("account   arena, schedule layer, micro-batch 1", "recipe    normalised_sgd", "mobilenet_v2_w035"):
        assert part in comment
    names = re.findall(r"#define (REPNET_(?:OFFSET|SIZE)_\w+)", text)
    assert len(names) == len(set(names))
    assert "REPNET_OFFSET_WEIGHT_GRADIENT_AT_MODULE_1_2" in names
    assert text.isascii()


def test_an_arena_beyond_32_bits_is_refused() -> None:
    resolved = resolve(Design(connectors=(), resolution=2048))
    plan = create_plan(resolved, classes=10, batch=64)
    with pytest.raises(RepnetSearchError, match="addresses its arena with 32 bits"):
        plan_to_c_header(plan)
