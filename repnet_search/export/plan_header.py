"""A memory plan as a C header: C99 and C++11, without anything to link.

Every offset and size is a macro, so that a compiler can check them; tables of the same values are there to walk over. A
plan for a board has an enumeration of its regions, and offsets are those in them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from repnet_search.errors import RepnetSearchError
from repnet_search.export.plan import NOTICE, MemoryPlan, make_unique
from repnet_search.export.plan_regions import (
    REGION_ADDRESS,
    region_assertions,
    region_definitions,
    region_of,
    region_tables,
)
from repnet_search.graph import OpKind, Role
from repnet_search.memory.liveness import ALIGNMENT_BYTES

LARGEST_ARENA_BYTES = 2**32 - 1
_LINE = 110

_OPENING = """\
#include <stdint.h>

#if defined(__GNUC__)
#define REPNET_TABLE static const __attribute__((unused))
#else
#define REPNET_TABLE static const
#endif
#define REPNET_STATIC_ASSERT(name, condition) typedef char repnet_assert_##name[(condition) ? 1 : -1]

"""

_TYPES = """\
typedef struct {
    const char *name;
    enum repnet_role role;
    uint32_t offset_bytes;
    uint32_t size_bytes;
    uint32_t first_op; /* alive from this operator ... */
    uint32_t last_op;  /* ... to this one, both included */
@REGION@} repnet_buffer_plan;

/* reads and writes are runs of repnet_op_buffers; an operator may change a buffer in place and so have it in both */
typedef struct {
    const char *place;
    enum repnet_op_kind kind;
    uint32_t first_read;
    uint32_t read_count;
    uint32_t first_write;
    uint32_t write_count;
} repnet_op_plan;

"""

_ARENA_ADDRESS = """\
/* Where a buffer lies in an arena of REPNET_ARENA_BYTES, aligned to REPNET_ALIGNMENT_BYTES. */
#define REPNET_ADDRESS(arena, buffer) ((void *)((unsigned char *)(arena) + repnet_buffers[(buffer)].offset_bytes))

"""


def plan_to_c_header(plan: MemoryPlan) -> str:
    """Returns a plan as the text of a C header.

    Raises:
        RepnetSearchError: the arena is larger than 32 bits address.
    """
    if plan.memory.arena_bytes > LARGEST_ARENA_BYTES:
        raise RepnetSearchError(
            f"A C header addresses its arena with 32 bits, but this plan needs {plan.memory.arena_bytes} bytes; use a "
            "smaller micro-batch or resolution."
        )
    names = _identifiers([buffer.name for buffer in plan.buffers])
    guard = f"REPNET_PLAN_{plan.resolved.short_id.upper()}_H"
    parts = (
        _comment(plan),
        f"#ifndef {guard}\n#define {guard}\n\n",
        _OPENING,
        _sizes(plan),
        _buffer_macros(plan, names),
        region_definitions(plan),
        _enum("repnet_buffer", [f"REPNET_BUFFER_{name}" for name in names]),
        _enum("repnet_role", [f"REPNET_ROLE_{_macro(role)}" for role in Role]),
        _enum("repnet_op_kind", [f"REPNET_OP_{_macro(kind)}" for kind in OpKind]),
        _TYPES.replace("@REGION@", "    enum repnet_region region;\n" if plan.regions else ""),
        REGION_ADDRESS if plan.regions else _ARENA_ADDRESS,
        _buffer_table(plan, names),
        region_tables(plan),
        _op_tables(plan, names),
        _assertions(plan, names),
        f"#endif /* {guard} */\n",
    )
    return "".join(parts)


def _comment(plan: MemoryPlan) -> str:
    design, memory = plan.resolved.design, plan.memory
    bits = "int8" if design.activation_bits == 8 else "fp32"
    where = "the regions of RAM" if plan.regions else "one arena"
    beside = (
        "Parameters, optimizer state and such lie in the regions too: repnet_state."
        if plan.regions
        else "Beside the arena a device needs REPNET_STATE_BYTES for parameters, optimizer state and such."
    )
    return (
        f"/* Memory plan of one training step, written by repnet-search.\n *\n * {NOTICE}\n"
        f" * It says where every buffer of the step lies in {where}, and which operator touches which, in order.\n"
        f" *\n * design    {plan.resolved.id}\n"
        f" * backbone  {plan.resolved.table.name}, {design.resolution} px, {bits}, {plan.classes} classes\n"
        f" * account   arena, schedule {memory.schedule.value}, micro-batch {memory.batch}\n"
        f" * recipe    {design.recipe.optimizer.value}, accumulate {design.recipe.accumulate}\n"
        f" *\n * {beside}\n"
        " */\n"
    )


def _sizes(plan: MemoryPlan) -> str:
    memory = plan.memory
    values = {
        "ARENA_BYTES": memory.arena_bytes,
        "STATE_BYTES": memory.ram_bytes - memory.arena_bytes,
        "RAM_BYTES": memory.ram_bytes,
        "ALIGNMENT_BYTES": ALIGNMENT_BYTES,
        "BATCH": memory.batch,
        "CLASSES": plan.classes,
        "BUFFER_COUNT": len(plan.buffers),
        "OP_COUNT": len(plan.ops),
        "FORWARD_OP_COUNT": plan.forward_ops,
    }
    if plan.regions:  # there is no arena in one piece
        del values["ARENA_BYTES"], values["RAM_BYTES"]
    return "".join(f"#define REPNET_{name} {value}u\n" for name, value in values.items()) + "\n"


def _buffer_macros(plan: MemoryPlan, names: Sequence[str]) -> str:
    lines = (
        f"#define REPNET_OFFSET_{name} {buffer.offset_bytes}u\n#define REPNET_SIZE_{name} {buffer.size_bytes}u\n"
        for name, buffer in zip(names, plan.buffers, strict=True)
    )
    return "".join(lines) + "\n"


def _enum(name: str, members: Sequence[str]) -> str:
    """Returns an enumeration from 0 on; without a comma behind the last, which C90 and C++98 refuse."""
    return f"enum {name} {{\n" + ",\n".join(f"    {member}" for member in members) + "\n};\n\n"


def _buffer_table(plan: MemoryPlan, names: Sequence[str]) -> str:
    rows = (
        f'    {{"{buffer.name}", REPNET_ROLE_{_macro(buffer.role)}, REPNET_OFFSET_{name}, REPNET_SIZE_{name}, '
        f"{buffer.first_op}u, {buffer.last_op}u{region_of(plan, buffer.region)}}}"
        for name, buffer in zip(names, plan.buffers, strict=True)
    )
    return "REPNET_TABLE repnet_buffer_plan repnet_buffers[REPNET_BUFFER_COUNT] = {\n" + ",\n".join(rows) + "\n};\n\n"


def _op_tables(plan: MemoryPlan, names: Sequence[str]) -> str:
    touched: list[int] = []
    rows = []
    for op in plan.ops:
        reads, writes = len(touched), len(touched) + len(op.reads)
        touched += (*op.reads, *op.writes)
        rows.append(
            f'    {{"{op.place}", REPNET_OP_{_macro(op.kind)}, {reads}u, {len(op.reads)}u, {writes}u, '
            f"{len(op.writes)}u}}"
        )
    members = [f"REPNET_BUFFER_{names[index]}" for index in touched]
    return (
        f"REPNET_TABLE enum repnet_buffer repnet_op_buffers[{len(touched)}] = {{\n{_wrap(members)}\n}};\n\n"
        "/* The first REPNET_FORWARD_OP_COUNT operators are the forward pass. */\n"
        "REPNET_TABLE repnet_op_plan repnet_ops[REPNET_OP_COUNT] = {\n" + ",\n".join(rows) + "\n};\n\n"
    )


def _assertions(plan: MemoryPlan, names: Sequence[str]) -> str:
    """Checks that every buffer lies in the arena, aligned, and that one of them ends where the arena does."""
    if plan.regions:
        return region_assertions(plan, names)
    lines = [
        f"REPNET_STATIC_ASSERT({name.lower()}, REPNET_OFFSET_{name} + REPNET_SIZE_{name} <= REPNET_ARENA_BYTES &&\n"
        f"    REPNET_OFFSET_{name} % REPNET_ALIGNMENT_BYTES == 0u);\n"
        for name in names
    ]
    top = max(range(len(names)), key=lambda index: plan.buffers[index].offset_bytes + plan.buffers[index].size_bytes)
    lines += [
        f"REPNET_STATIC_ASSERT(arena_end, REPNET_OFFSET_{names[top]} + REPNET_SIZE_{names[top]} == "
        "REPNET_ARENA_BYTES);\n",
        "REPNET_STATIC_ASSERT(ram, REPNET_ARENA_BYTES + REPNET_STATE_BYTES == REPNET_RAM_BYTES);\n",
    ]
    return "".join(lines) + "\n"


def _identifiers(names: Sequence[str]) -> list[str]:
    """Returns names as unique parts of C macros.

    >>> _identifiers(["b2.0 mask", "b2_0 mask", "m1.conv1"])
    ['B2_0_MASK', 'B2_0_MASK_2', 'M1_CONV1']
    """
    return make_unique([_macro(name) for name in names], separator="_")


def _macro(name: str) -> str:
    return re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_").upper()


def _wrap(members: Sequence[str]) -> str:
    """Returns a list of initialisers in lines of at most `_LINE` characters."""
    lines: list[str] = []
    for member in members:
        if lines and len(lines[-1]) + len(member) + 2 <= _LINE:
            lines[-1] += f", {member}"
        else:
            lines.append(f"    {member}")
    return ",\n".join(lines)
