"""`repnet-search best`: any budget, answered from a study that is there."""

from __future__ import annotations

import click

from repnet_search.cli.options import Size, json_option, storage_option


@click.command()
@click.option("--study", required=True, metavar="NAME", help="The study to ask.")
@click.option("--budget", type=Size(), help="The budget to answer. Default: the study's own.")
@click.option("--flash", type=Size(), help="The flash to answer. Default: the study's own, where it has one.")
@storage_option
@json_option
def best(*, study: str, budget: int | None, flash: int | None, storage: str | None, as_json: bool) -> None:
    """Show the best trained design of a study under a budget, without training anything."""
    import json

    from repnet_search.cli.render import create_console, flash_line, format_percent, front_table, memory_bars
    from repnet_search.errors import OverBudgetError
    from repnet_search.results.front import best_under, fits_within, pareto_front
    from repnet_search.results.study import dump_record, load_study
    from repnet_search.spec.files import design_to_yaml
    from repnet_search.units import format_size

    view = load_study(study, storage=storage)
    limit = budget if budget is not None else view.settings.available_bytes
    flash_limit = flash if flash is not None else view.settings.flash_bytes
    winner = best_under(view.records, budget_bytes=limit, flash_bytes=flash_limit)
    if winner is None:
        front = pareto_front(view.records)
        least = f"its least needs {format_size(front[0].ram_bytes)}" if front else "it has trained none yet"
        with_flash = f" with {format_size(flash_limit)} of flash" if flash_limit is not None else ""
        raise OverBudgetError(f"No trained design of study {study!r} fits {format_size(limit)}{with_flash}: {least}.")
    if as_json:
        answer = {"budget_bytes": limit, "flash_bytes": flash_limit, "design": dump_record(winner)}
        print(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    metric = view.settings.training.metric
    console = create_console()
    console.print(
        f"Best of study {view.name} under {format_size(limit)}: design {winner.short_id}, "
        f"{format_percent(winner.validation_accuracy)} {metric.of('on validation')}",
        soft_wrap=True,
    )
    for line in memory_bars(winner.terms, budget_bytes=limit):
        console.print(line)
    for line in flash_line(winner.flash_bytes, limit_bytes=flash_limit):
        console.print(line)
    console.print()
    fitting = [record for record in view.records if fits_within(record, budget_bytes=limit, flash_bytes=flash_limit)]
    console.print(front_table(pareto_front(fitting), winner=winner, metric=metric))
    console.print()
    console.print(design_to_yaml(winner.design), end="", soft_wrap=True)
