"""`--backbone FILE.py:FUNCTION`: a backbone of the user's own, and where `--cut` cuts it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from repnet_search.spec.design import BackboneSpec

_CUT = "repnet_search.cut"

Command = TypeVar("Command", bound=Callable[..., Any])


def cut_option(command: Command) -> Command:
    """Adds --cut, which `make_own_backbone` reads: no command handles it itself."""
    return click.option(
        "--cut",
        metavar="MODULES",
        expose_value=False,
        callback=_remember,
        help="With a backbone of your own: the submodules whose outputs end blocks, such as layer1.0,layer2.3. "
        "Default: every residual sum and module boundary.",
    )(command)


def _remember(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    ctx.meta[_CUT] = tuple(point.strip() for point in value.split(",") if point.strip()) if value else ()


def requested_cut() -> tuple[str, ...]:
    """Returns the cut points of the running command; () where there are none."""
    context = click.get_current_context(silent=True)
    cut: tuple[str, ...] = () if context is None else context.meta.get(_CUT, ())
    return cut


def make_own_backbone(name: str, width_mult: float | None, *, last_conv: bool) -> BackboneSpec:
    """Returns the backbone that the user's own file makes, traced; this runs the file.

    Raises:
        UsageError: an option that it does not have.
        SpecError: the file cannot be used, or its network cannot be cut into blocks.
    """
    from repnet_search.errors import UsageError
    from repnet_search.models.traced import trace_backbone

    if width_mult is not None or last_conv:
        raise UsageError(
            "--width-mult and --last-conv are for the backbones of 'backbones'; your own function makes what it says."
        )
    return trace_backbone(name, cut=requested_cut())
