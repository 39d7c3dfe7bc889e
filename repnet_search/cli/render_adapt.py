"""How an adaptation looks as text and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from repnet_search.cli.next_commands import evaluate_command
from repnet_search.cli.render import create_console
from repnet_search.data import Split
from repnet_search.export.adapt import Adaptation, AdaptOptions, Decay
from repnet_search.export.adapt_subject import AdaptSubject
from repnet_search.export.evaluate import Evaluation
from repnet_search.report.wording import describe_recipe, format_percent
from repnet_search.units import format_count, format_size

MOST_CLASSES = 30

_DECAYS = {Decay.COSINE: "falling to 0", Decay.NONE: "constant at half of it"}


def print_adaptation(subject: AdaptSubject, adaptation: Adaptation, options: AdaptOptions, *, to: Path | None) -> None:
    """Prints what was learnt from, the way, the test images by class, and the bytes."""
    console = create_console()
    for line in _header(subject, adaptation, options):
        console.print(line, soft_wrap=True)
    console.print()
    console.print(_curve_table(adaptation, options))
    before, after = (format_percent(result.value(options.metric)) for result in (adaptation.before, adaptation.after))
    label = options.metric.label
    console.print(f"\n{adaptation.after.images} test images, {label}: {before} before, {after} after", style="bold")
    console.print(_class_table(adaptation))
    console.print()
    console.print(_bytes_table(adaptation))
    if to is not None:
        evaluate = evaluate_command(to, metric=options.metric)
        console.print(f"\nThe adapted bundle is in {to}; evaluate it with: {evaluate}", soft_wrap=True)


def _header(subject: AdaptSubject, adaptation: Adaptation, options: AdaptOptions) -> list[str]:
    design, source = subject.model.resolved.design, subject.task.source
    counts = ", ".join(f"{source.count(split)} {split.value}" for split in Split)
    bits = ", int8" if design.activation_bits == 8 else ""
    scale = f" × {options.rate_scale:g}" if options.rate_scale != 1 else ""
    passes = "each once" if options.stream else "pass after pass"
    lines = [
        f"design    {subject.model.resolved.short_id}: {design.resolution} px{bits}, {describe_recipe(design)}{scale}, "
        f"{_DECAYS[options.decay]}",
        f"data      {source.name}: {counts} images",
        f"learnt    {format_count(adaptation.images, 'image')} in {format_count(adaptation.updates, 'update')}, one at "
        f"a time, {passes}, seed {options.seed}; {1000 * adaptation.step_seconds:.0f} ms each in the reference kernels "
        "on this machine",
        f"so far    {format_percent(adaptation.right_before)} of them were right before they were learnt",
    ]
    if subject.ram_before_bytes is not None:
        now, before = subject.memory.ram_bytes, subject.ram_before_bytes
        changed = f"in place of {format_size(before)}" if now != before else "as before"
        lines.append(
            f"head      started anew with {format_count(len(subject.model.labels), 'output')}; the plan was made anew: "
            f"{format_size(now)} of training memory, {changed}"
        )
    return lines


def _curve_table(adaptation: Adaptation, options: AdaptOptions) -> Table:
    table = Table("images", title="While learning", title_justify="left", box=None)
    table.columns[0].justify = "right"
    for heading in ("right before learning", "loss", f"validation {options.metric.label}"):
        table.add_column(heading, justify="right")
    for point in adaptation.curve:
        loss = "–" if point.loss is None else f"{point.loss:.3f}"
        table.add_row(str(point.images), format_percent(point.right_before), loss, format_percent(point.validation))
    return table


def _class_table(adaptation: Adaptation) -> Table:
    """Returns the accuracy of each class that has test images; of very many those that changed most."""
    before, after = adaptation.before, adaptation.after
    rows = [
        (label, count, one, other)
        for label, count, one, other in zip(
            after.labels, after.class_counts, before.class_accuracies, after.class_accuracies, strict=True
        )
        if one is not None and other is not None
    ]
    title = None
    if len(rows) > MOST_CLASSES:
        title = f"{MOST_CLASSES} of {len(rows)} classes, which changed most; --json has all"
        rows = sorted(rows, key=lambda row: -abs(row[3] - row[2]))[:MOST_CLASSES]
    table = Table("class", title=title, title_justify="left", box=None)
    for heading in ("images", "before", "after"):
        table.add_column(heading, justify="right")
    for label, count, one, other in rows:
        table.add_row(label, str(count), format_percent(one), format_percent(other))
    return table


def _bytes_table(adaptation: Adaptation) -> Table:
    table = Table("bytes of a step", box=None)
    for heading in ("planned", "measured"):
        table.add_column(heading, justify="right")
    for name, size in adaptation.planned.items():
        table.add_row(name, str(size), str(adaptation.measured.get(name, 0)))
    return table


def adaptation_to_json(subject: AdaptSubject, adaptation: Adaptation, options: AdaptOptions) -> dict[str, Any]:
    """Returns all that is known of an adaptation."""
    recipe = subject.model.resolved.design.recipe
    return {
        "design_id": subject.model.resolved.id,
        "data": {"name": subject.task.source.name, "sha256": subject.task.source.sha256()},
        "labels": list(subject.model.labels),
        "new_head": subject.ram_before_bytes is not None,
        "stream": options.stream,
        "seed": options.seed,
        "recipe": recipe.model_dump(mode="json") | {"lr_scale": options.rate_scale, "decay": options.decay.value},
        "images": adaptation.images,
        "updates": adaptation.updates,
        "interrupted": adaptation.interruption is not None,
        "right_before": adaptation.right_before,
        "metric": options.metric.value,
        "curve": [
            {
                "images": point.images,
                "right_before": point.right_before,
                "loss": point.loss,
                "validation": point.validation,
            }
            for point in adaptation.curve
        ],
        "before": _evaluation_to_json(adaptation.before),
        "after": _evaluation_to_json(adaptation.after),
        "memory": {"planned": adaptation.planned, "measured": adaptation.measured},
        "step_seconds": adaptation.step_seconds,
    }


def _evaluation_to_json(result: Evaluation) -> dict[str, Any]:
    return {
        "images": result.images,
        "accuracy": result.accuracy,
        "balanced_accuracy": result.balanced_accuracy,
        "class_images": result.class_counts,
        "class_accuracies": result.class_accuracies,
    }
