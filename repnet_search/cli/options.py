"""Options that several commands share, and what they load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from repnet_search.errors import UsageError
from repnet_search.units import parse_size

if TYPE_CHECKING:
    from repnet_search.spec.design import BackboneSpec

# As in spec/target.py, which costs too much to import for --help.
SCHEDULES = ("layer", "inplace", "streamed")

Command = TypeVar("Command", bound=Callable[..., Any])


class Size(click.ParamType[int]):
    """A size in bytes, such as 256KB."""

    name = "SIZE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Returns the bytes."""
        try:
            return value if isinstance(value, int) else parse_size(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


def data_options(command: Command) -> Command:
    """Adds --data, --proxy-images and --skip-broken."""
    for option in (
        click.option("--skip-broken", is_flag=True, help="Leave out files that are no readable image, and count them."),
        click.option(
            "--proxy-images",
            type=click.IntRange(min=2),
            metavar="N",
            help="Use N images for training and validation together.",
        ),
        click.option(
            "--data",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Images in folders by class, with or without train/ and val/ or test/. "
            "Default: the embedded handwritten digits.",
        ),
    ):
        command = option(command)
    return command


def weights_options(command: Command) -> Command:
    """Adds --weights, --input-range and --accelerator."""
    for option in (
        click.option(
            "--accelerator",
            type=click.Choice(["auto", "cpu", "cuda"]),
            default="auto",
            show_default=True,
            help="What trains on this machine.",
        ),
        click.option(
            "--input-range",
            metavar="RANGE",
            help="What the backbone wants its image in: imagenet, or LOW,HIGH such as -1,1. "
            "Default: what the weights file says, else imagenet.",
        ),
        click.option(
            "--weights",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="The backbone's weights as safetensors with the key names of its origin (torchvision, ProxylessNAS). "
            "Default: the embedded ones.",
        ),
    ):
        command = option(command)
    return command


def backbone_options(command: Command) -> Command:
    """Adds --backbone, --width-mult and --last-conv."""
    for option in (
        click.option(
            "--last-conv/--no-last-conv",
            default=False,
            show_default=True,
            help="Keep the backbone's last 1x1 convolution.",
        ),
        click.option(
            "--width-mult",
            type=click.FloatRange(0, 4, min_open=True),
            metavar="WIDTH",
            help="The backbone's width. Default: as 'backbones' lists it, 0.35 for mobilenet_v2.",
        ),
        click.option(
            "--backbone",
            default="mobilenet_v2",
            show_default=True,
            metavar="NAME",
            help="The frozen backbone, one of 'backbones'.",
        ),
    ):
        command = option(command)
    return command


def storage_option(command: Command) -> Command:
    """Adds --storage."""
    return click.option(
        "--storage",
        metavar="URL",
        help="Where studies are kept: a journal file, or a URL such as sqlite:///studies.db. "
        "Default: repnet-studies/journal.log. Trained weights and best.yaml are in ./repnet-studies in any case.",
    )(command)


def schedule_option(command: Command) -> Command:
    """Adds --schedule."""
    return click.option(
        "--schedule",
        type=click.Choice(SCHEDULES),
        default=SCHEDULES[0],
        show_default=True,
        help="How the target runs the frozen backbone: operator by operator, depthwise convolutions in place, or whole "
        "blocks per hidden channel.",
    )(command)


def json_option(command: Command) -> Command:
    """Adds --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


def make_backbone(name: str, width_mult: float | None, *, last_conv: bool) -> BackboneSpec:
    """Returns the backbone that the options name; None is its default width.

    Raises:
        SpecError: there is no such backbone, or no such width.
    """
    from repnet_search.spec.design import BackboneSpec
    from repnet_search.spec.files import validate_spec

    width = {} if width_mult is None else {"width_mult": width_mult}
    return validate_spec(BackboneSpec, {"name": name, **width, "last_conv": last_conv}, source="backbone")
