"""The part of a plan's C header that is about the regions of a board's RAM; "" throughout for a plan without."""

from __future__ import annotations

import re
from collections.abc import Sequence

from repnet_search.export.plan import MemoryPlan

REGION_ADDRESS = """\
/* Where a buffer lies; regions is an array of the regions' addresses, in the order of enum repnet_region. */
#define REPNET_ADDRESS(regions, buffer) \\
    ((void *)((unsigned char *)(regions)[repnet_buffers[(buffer)].region] + repnet_buffers[(buffer)].offset_bytes))

/* A trainable parameter, its optimizer's state or its accumulated gradient; it outlives the step. */
typedef struct {
    const char *name;
    const char *term;
    enum repnet_region region;
    uint32_t offset_bytes;
    uint32_t size_bytes;
} repnet_state_plan;

"""


def region_definitions(plan: MemoryPlan) -> str:
    """Returns an enumeration of the regions, what may be used of each, and what is used for buffers and for good."""
    if not plan.regions:
        return ""
    members = ",\n".join(f"    REPNET_REGION_{_macro(region.name)}" for region in plan.regions)
    sizes = "".join(
        f"#define REPNET_REGION_{_macro(region.name)}_{name}_BYTES {size}u\n"
        for region in plan.regions
        for name, size in (
            ("AVAILABLE", region.size_bytes),
            ("BUFFER", region.buffer_bytes),
            ("STATE", region.state_bytes),
        )
    )
    counts = f"#define REPNET_REGION_COUNT {len(plan.regions)}u\n#define REPNET_STATE_COUNT {len(plan.state)}u\n"
    return f"{counts}{sizes}\nenum repnet_region {{\n{members}\n}};\n\n"


def region_of(plan: MemoryPlan, region: int | None) -> str:
    """Returns a buffer's region as the last initialiser of its row."""
    return "" if region is None else f", REPNET_REGION_{_macro(plan.regions[region].name)}"


def region_tables(plan: MemoryPlan) -> str:
    """Returns the table of what outlives the step."""
    if not plan.regions:
        return ""
    rows = ",\n".join(
        f'    {{"{item.name}", "{item.term}"{region_of(plan, item.region)}, {item.offset_bytes}u, {item.size_bytes}u}}'
        for item in plan.state
    )
    return f"REPNET_TABLE repnet_state_plan repnet_state[REPNET_STATE_COUNT] = {{\n{rows}\n}};\n\n"


def region_assertions(plan: MemoryPlan, names: Sequence[str]) -> str:
    """Checks that every buffer lies in front of what its region holds for good, aligned, and that both go into it.

    Args:
        plan: the plan.
        names: of its buffers, as parts of macros.
    """
    lines = []
    for name, buffer in zip(names, plan.buffers, strict=True):
        region = _macro(plan.regions[buffer.region or 0].name)
        lines.append(
            f"REPNET_STATIC_ASSERT({name.lower()}, REPNET_OFFSET_{name} + REPNET_SIZE_{name} <= "
            f"REPNET_REGION_{region}_BUFFER_BYTES &&\n    REPNET_OFFSET_{name} % REPNET_ALIGNMENT_BYTES == 0u);\n"
        )
    for region_name in (_macro(region.name) for region in plan.regions):
        prefix = f"REPNET_REGION_{region_name}"
        lines.append(
            f"REPNET_STATIC_ASSERT(region_{region_name.lower()}, {prefix}_BUFFER_BYTES + {prefix}_STATE_BYTES <= "
            f"{prefix}_AVAILABLE_BYTES);\n"
        )
    state = " + ".join(f"REPNET_REGION_{_macro(region.name)}_STATE_BYTES" for region in plan.regions)
    lines.append(f"REPNET_STATIC_ASSERT(state, {state} == REPNET_STATE_BYTES);\n")
    return "".join(lines) + "\n"


def _macro(name: str) -> str:
    return re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_").upper()
