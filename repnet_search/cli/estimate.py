"""`repnet-search estimate`: what a design needs, without training it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from repnet_search.cli.options import Size, json_option

if TYPE_CHECKING:
    from repnet_search.memory import MemoryEstimate
    from repnet_search.spec.resolve import ResolvedDesign


@click.command()
@click.argument("design", type=click.Path(path_type=Path), metavar="DESIGN.yaml")
@click.option("--classes", type=click.IntRange(2, 100_000), default=10, show_default=True, help="Outputs of the head.")
@click.option("--budget", type=Size(), help="Compare with a budget; exit code 3 where it is exceeded.")
@json_option
def estimate(*, design: Path, classes: int, budget: int | None, as_json: bool) -> None:
    """Show the training memory of a design, term by term (account arena, micro-batch 1)."""
    import json

    from repnet_search.errors import OverBudgetError
    from repnet_search.memory import estimate_memory
    from repnet_search.spec.files import load_design
    from repnet_search.spec.resolve import resolve
    from repnet_search.units import format_size

    resolved = resolve(load_design(design))
    memory = estimate_memory(resolved, classes=classes)
    if as_json:
        print(json.dumps(_as_json(resolved, memory), indent=2))
    else:
        print_estimate(resolved, memory, budget_bytes=budget)
    if budget is not None and memory.ram_bytes > budget:
        over = memory.ram_bytes - budget
        raise OverBudgetError(
            f"Design {resolved.short_id} needs {format_size(memory.ram_bytes)}, {format_size(over)} over the budget of "
            f"{format_size(budget)}; largest part: {memory.peak_place}."
        )


def print_estimate(resolved: ResolvedDesign, memory: MemoryEstimate, *, budget_bytes: int | None) -> None:
    """Prints a design's account."""
    from repnet_search.cli.render import create_console, describe_connectors, describe_recipe, memory_bars
    from repnet_search.units import format_size

    console = create_console()
    design = resolved.design
    console.print(
        f"Design {resolved.short_id} on {resolved.table.name}, {design.resolution} px, "
        f"{'int8' if design.activation_bits == 8 else 'fp32'} backbone; connectors after block: "
        f"{describe_connectors(design)}; recipe {describe_recipe(design)}",
        soft_wrap=True,
    )
    for line in memory_bars(memory.terms, budget_bytes=budget_bytes):
        console.print(line)
    facts = {
        "peak": f"{memory.peak_place}; largest buffer there {memory.largest_buffer}, "
        f"{format_size(memory.largest_buffer_bytes)}",
        "arena": f"forward peak {format_size(memory.forward_peak_bytes)}, backward peak "
        f"{format_size(memory.backward_peak_bytes)}, kept for backward {format_size(memory.kept_bytes)}",
        "parameters": f"{memory.trainable_parameters} trainable",
        "flash": f"{format_size(memory.flash_bytes)} of frozen weights and biases",
        "MACs": f"{memory.forward_macs / 1e6:.2f} M forward, {memory.macs / 1e6:.2f} M per training step",
    }
    for name, text in facts.items():
        console.print(f"  {name:<12}{text}", soft_wrap=True)


def _as_json(resolved: ResolvedDesign, memory: MemoryEstimate) -> dict[str, object]:
    import dataclasses

    account = dataclasses.asdict(memory) | {"ram_bytes": memory.ram_bytes, "terms": dict(memory.terms)}
    design = resolved.design.model_dump(mode="json", exclude_none=True)
    return {"design_id": resolved.id, "account": "arena", "schedule": "layer", "memory": account, "design": design}
