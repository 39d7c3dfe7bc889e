"""The part of a report that is about the winner: its drawing, its memory by terms and over a step, its file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from repnet_search.errors import RepnetSearchError
from repnet_search.export.plan import MemoryPlan, create_plan
from repnet_search.memory import MemoryExplanation, explain_memory
from repnet_search.report.design_drawing import DesignDrawing, create_drawing, drawing_rows
from repnet_search.report.figures_design import create_design_figure
from repnet_search.report.figures_memory import create_terms_figure
from repnet_search.report.figures_regions import create_regions_figure
from repnet_search.report.figures_step import create_memory_figure
from repnet_search.report.memory_plot import create_picture
from repnet_search.report.study_parts import Code, Paragraph, Part, Picture, Section, Table, draw_bar
from repnet_search.report.study_sections import describe_account, limit_text
from repnet_search.report.wording import describe_connectors, describe_recipe
from repnet_search.results.record import TrialRecord
from repnet_search.results.study import StudyView
from repnet_search.spec.files import design_to_yaml
from repnet_search.spec.resolve import resolve
from repnet_search.units import format_number, format_size


def winner_section(view: StudyView, winner: TrialRecord) -> Section:
    """Returns what the winner is and where its memory goes."""
    design = winner.design
    what = (
        f"Connectors after block: {describe_connectors(design)} (⇄ reads and writes the backbone's feature, → writes, "
        f"← reads). {format_number(winner.trainable_parameters)} trainable parameters, images of "
        f"{design.resolution} px, recipe {describe_recipe(design)}."
    )
    yaml = Code(design_to_yaml(design), "yaml")
    note = Paragraph("The design as a file, which train, estimate, verify and plan take:")
    parts = (Paragraph(what), _terms_picture(view, winner), *_step_parts(view, winner), note, yaml)
    return Section(f"The winner, {winner.short_id}", parts)


def _terms_picture(view: StudyView, winner: TrialRecord) -> Picture:
    limit = view.settings.available_bytes
    rows = [
        (name, format_size(size), f"{100 * size / limit:.1f} %", draw_bar(size / limit)) for name, size in winner.terms
    ]
    share = f"{100 * winner.ram_bytes / limit:.1f} %"
    rows.append(("training memory", format_size(winner.ram_bytes), share, draw_bar(winner.ram_bytes / limit)))
    headings = ("term", "memory", "of the budget", "")
    create = partial(
        create_terms_figure, {winner.short_id: winner.terms}, limit_bytes=limit, limit_text=limit_text(view)
    )
    flash = view.settings.flash_bytes
    with_flash = ""
    if flash is not None and winner.flash_bytes is not None:
        with_flash = f" Flash: {format_size(winner.flash_bytes)} of {format_size(flash)}."
    return Picture(
        create=create,
        title="Its training memory",
        key="",
        caption=f"Estimated: {describe_account(view)}.{with_flash}",
        alt="A bar of the terms of the winner's training memory against the budget.",
        numbers=Table(headings, tuple(rows), headings[1:3], strong=len(rows) - 1),
    )


def _step_parts(view: StudyView, winner: TrialRecord) -> Iterator[Part]:
    """Yields the pictures of the network and of one step; a sentence where this version cannot make them."""
    settings = view.settings
    try:
        resolved = resolve(winner.design)
        explained = explain_memory(resolved, classes=settings.data.classes, schedule=settings.schedule)
    except RepnetSearchError as error:
        yield Paragraph(f"This version cannot work out the design's step anew: {error}")
        return
    counted = explained.estimate.ram_bytes
    if counted != winner.ram_bytes:
        yield Paragraph(
            f"The pictures below are made anew by this version, which counts {format_size(counted)} in all; the study "
            f"has {format_size(winner.ram_bytes)}."
        )
    plan, problem = _create_plan(view, explained)
    yield _drawing_picture(create_drawing(explained, budget_bytes=settings.available_bytes))
    yield _timeline_picture(view, explained, plan)
    if plan is not None:
        yield _regions_picture(plan)
    if problem:
        yield Paragraph(f"This version finds no place for it on the board {settings.board}: {problem}")


def _create_plan(view: StudyView, explained: MemoryExplanation) -> tuple[MemoryPlan | None, str]:
    """Returns the placement into the regions of the study's board, None where it has none, and why not."""
    settings = view.settings
    if settings.board is None:
        return None, ""
    try:
        plan = create_plan(
            explained.resolved,
            classes=settings.data.classes,
            schedule=settings.schedule,
            limits=settings.limits,
        )
    except RepnetSearchError as error:
        return None, str(error)
    return (plan if plan.regions else None), ""


def _drawing_picture(drawing: DesignDrawing) -> Picture:
    rows = tuple(
        (
            str(row["place"]),
            str(row["kind"]),
            str(row["output"]),
            format_size(row["output (bytes)"]),
            _size(row["alive forward (bytes)"]),
            _size(row["alive backward (bytes)"]),
        )
        for row in drawing_rows(drawing)
    )
    headings = ("place", "what", "output", "its bytes", "alive forward", "alive backward")
    return Picture(
        create=lambda: create_design_figure(drawing),
        title="The network, and the bytes alive in one training step",
        key="Frozen blocks stand left, Rep-Net modules right; a box is as wide as the root of its output's bytes. "
        "Grey: parameters and their state.",
        caption="A step runs down the rows and, behind the loss, up again. All bytes are estimated.",
        alt="Blocks of the backbone and modules of the Rep-Net from the image down to the head, what connects them, "
        "and bars of the bytes alive at each in the forward and in the backward pass.",
        numbers=Table(headings, rows, headings[2:], title="Place by place"),
        is_wide=True,
    )


def _timeline_picture(view: StudyView, explained: MemoryExplanation, plan: MemoryPlan | None) -> Picture:
    picture = create_picture(explained, budget_bytes=view.settings.available_bytes)
    rows = (
        ("operators of a step", format_number(len(picture.operators))),
        ("of them forward", format_number(picture.forward_ops)),
        ("parameters and their state", format_size(picture.state_bytes)),
        ("most alive, with them", format_size(picture.peak_bytes)),
        ("where", picture.peak_place),
        ("arena as placed", format_size(picture.arena_bytes)),
        ("buffers", format_number(len(picture.blocks))),
    )
    return Picture(
        create=lambda: create_memory_figure(picture, plan=plan),
        title="One training step over time",
        key="Above, the bytes alive at each operator, by what they are for; below, every buffer in its place.",
        caption=f"The peak is at {explained.peak.place}. All bytes are estimated.",
        alt="The bytes alive at every operator of a training step by their role, and every buffer over time and "
        "address.",
        numbers=Table(("of the step", "value"), rows, ("value",)),
        is_wide=True,
    )


def _regions_picture(plan: MemoryPlan) -> Picture:
    rows = tuple(
        (
            region.name,
            format_size(region.size_bytes),
            format_size(region.buffer_bytes),
            format_size(region.state_bytes),
            format_size(region.size_bytes - region.used_bytes),
        )
        for region in plan.regions
    )
    headings = ("region", "size", "buffers", "parameters and state", "free")
    return Picture(
        create=lambda: create_regions_figure(plan),
        title="In the regions of the board",
        key="",
        caption="What the reserve leaves of each region, and what lies in it. Estimated.",
        alt="A bar per region of the board's RAM: buffers of the step, parameters and their state, what is free.",
        numbers=Table(headings, rows, headings[1:]),
    )


def _size(size_bytes: int | None) -> str:
    return "–" if size_bytes is None else format_size(size_bytes)
