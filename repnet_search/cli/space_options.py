"""Which space is searched, as options: a file or a name, and what overrides it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from repnet_search.cli.options import Command

if TYPE_CHECKING:
    from repnet_search.spec.space import SpaceSpec


def space_options(command: Command) -> Command:
    """Adds --space, --resolution and --activation-bits, which `load_chosen_space` takes."""
    for option in (
        click.option(
            "--activation-bits",
            type=click.Choice(["32", "8"]),
            help="Of the frozen backbone, instead of what the space says; 8 computes as a microcontroller does.",
        ),
        click.option(
            "--resolution",
            type=click.IntRange(8, 2048),
            multiple=True,
            metavar="PX",
            help="The image size to search at, instead of what the space says; several times for a choice between "
            "them.",
        ),
        click.option(
            "--space",
            default="default",
            show_default=True,
            metavar="FILE",
            help="The search space: a YAML file, or the name of one of 'spaces'.",
        ),
    ):
        command = option(command)
    return command


def load_chosen_space(space: str, resolution: tuple[int, ...], activation_bits: str | None) -> SpaceSpec:
    """Returns the search space; --resolution and --activation-bits override the file.

    Raises:
        SpecError: there is no such space, or the file is none.
    """
    from repnet_search.spec.bundled import load_space

    changes: dict[str, object] = {}
    if resolution:
        changes["resolution"] = tuple(sorted(set(resolution)))
    if activation_bits is not None:
        changes["activation_bits"] = (int(activation_bits),)
    return load_space(space).model_copy(update=changes)
