"""Options that several commands share, and what they load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from repnet_search.cli.own_backbone import cut_option, make_own_backbone, requested_cut
from repnet_search.errors import UsageError
from repnet_search.units import parse_size

if TYPE_CHECKING:
    from repnet_search.spec.design import BackboneSpec

# As in spec/target.py, which costs too much to import for --help.
SCHEDULES = ("layer", "inplace", "streamed")
# As in spec/training.py, likewise.
METRICS = ("accuracy", "balanced_accuracy")
# As in spec/training.py, likewise.
FEATURE_TYPES = ("fp32", "fp16", "uint8")
# As in data/known_sets.py, likewise.
KNOWN_SETS = (
    "cifar10",
    "cifar100",
    "dtd",
    "fashion_mnist",
    "fgvc_aircraft",
    "flowers102",
    "food101",
    "gtsrb",
    "imagenette",
    "kmnist",
    "mnist",
    "oxford_iiit_pet",
    "stl10",
    "svhn",
)

_PRETRAINED = "repnet_search.pretrained"

Command = TypeVar("Command", bound=Callable[..., Any])


class Size(click.ParamType[int]):
    """A size in bytes, such as 256KB: at least 1 KB, which a forgotten unit is below; with `zero`, any, also 0."""

    name = "SIZE"

    def __init__(self, *, zero: bool = False) -> None:
        self.zero = zero

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Returns the bytes."""
        try:
            return value if isinstance(value, int) else parse_size(str(value), zero=self.zero)
        except UsageError as error:
            self.fail(str(error), param, ctx)


def data_options(command: Command) -> Command:
    """Adds --data, --data-root, --download, --proxy-images, --skip-broken and --data-cache."""
    proxy_images = click.option(
        "--proxy-images",
        type=click.IntRange(min=2),
        metavar="N",
        help="Use N images for training and validation together.",
    )
    return source_options(proxy_images(command))


def source_options(command: Command) -> Command:
    """Adds --data, --data-root, --download, --skip-broken and --data-cache."""
    for option in (
        click.option(
            "--data-cache",
            type=Size(zero=True),
            default="2GB",
            show_default=True,
            help="Keep decoded images on disk up to this size; 0 keeps none.",
        ),
        click.option("--skip-broken", is_flag=True, help="Leave out files that are no readable image, and count them."),
    ):
        command = option(command)
    return click.option(
        "--data",
        type=click.Path(path_type=Path),
        metavar="SOURCE",
        help="Images: a folder with a folder per class, perhaps below train/, val/ and test/; an .npz file with images "
        "and labels; or, with --data-root, cifar10 or another published data set. "
        "Default: the embedded handwritten digits.",
    )(known_set_options(command))


def known_set_options(command: Command) -> Command:
    """Adds --data-root and --download."""
    for option in (
        click.option("--download", is_flag=True, help="Fetch the data set into --data-root where it is missing there."),
        click.option(
            "--data-root",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help=f"The folder that holds published data sets as torchvision lays them out: {', '.join(KNOWN_SETS)}.",
        ),
    ):
        command = option(command)
    return command


def metric_option(command: Command) -> Command:
    """Adds --metric."""
    return click.option(
        "--metric",
        type=click.Choice(METRICS),
        default=METRICS[0],
        show_default=True,
        help="What counts: the share of images put into their class, or its mean over the classes, small ones as much "
        "as large ones.",
    )(command)


def feature_options(command: Command) -> Command:
    """Adds --feature-cache and --feature-cache-type."""
    for option in (
        click.option(
            "--feature-cache-type",
            type=click.Choice(FEATURE_TYPES),
            default=FEATURE_TYPES[0],
            show_default=True,
            help="How frozen features of an fp32 backbone are kept; the smaller two round them. Those of an int8 one "
            "take a byte each, exactly.",
        ),
        click.option(
            "--feature-cache",
            type=Size(zero=True),
            default="2GB",
            show_default=True,
            help="Keep what the frozen backbone makes of the images on disk up to this size; 0 keeps none there.",
        ),
    ):
        command = option(command)
    return command


def weights_options(command: Command) -> Command:
    """Adds --weights, --pretrained, --input-range and --accelerator."""
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
            "--pretrained",
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_remember_pretrained,
            help="Instead of --weights: torchvision's own ImageNet weights, downloaded once.",
        ),
        click.option(
            "--weights",
            type=click.Path(path_type=Path),
            multiple=True,
            callback=_choose_weights,
            metavar="FILE",
            help="The backbone's weights as safetensors with the key names of its origin (torchvision, ProxylessNAS, "
            "your own module); their shapes tell the width. Several times for several widths: the width is then part "
            "of the design. Default: the embedded ones, or those that your own function makes.",
        ),
    ):
        command = option(command)
    return command


def _remember_pretrained(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta[_PRETRAINED] = value


def _choose_weights(ctx: click.Context, _: click.Parameter, value: tuple[Path, ...]) -> tuple[Path, ...]:
    """Returns the files of --weights, or with --pretrained what stands for torchvision's own weights."""
    if not ctx.meta[_PRETRAINED]:
        return value
    from repnet_search.models.weights import PRETRAINED

    if value:
        raise UsageError("Weights are --weights FILE or --pretrained, but got both; leave one out.")
    return (PRETRAINED,)


def backbone_options(command: Command) -> Command:
    """Adds --backbone, --width-mult, --last-conv and --cut."""
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
            multiple=True,
            metavar="WIDTH",
            help="The backbone's width; several times for a choice between them. Default: as 'backbones' lists it, "
            "0.35 for mobilenet_v2.",
        ),
        click.option(
            "--backbone",
            default="mobilenet_v2",
            show_default=True,
            metavar="NAME",
            help="The frozen backbone: one of 'backbones', or your own as FILE.py:FUNCTION, which is run.",
        ),
    ):
        command = option(command)
    return cut_option(command)


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


def make_backbones(
    name: str, widths: Sequence[float], *, last_conv: bool, weights: Sequence[Path] = ()
) -> tuple[BackboneSpec, ...]:
    """Returns the backbone in the widths that the options name, else in those that the weights files have.

    The narrowest comes first. A single file that has none of them is left to `load_weights`, which says what is wrong.
    Raises as `make_backbone` does, and:

    Raises:
        WeightsError: a file cannot be read; or one of several is no such backbone, or has the width of another one.
    """
    chosen = sorted(set(widths)) or (None,)
    named = tuple(make_backbone(name, width, last_conv=last_conv) for width in chosen)
    if len(weights) < 2 and (widths or not weights):
        return named
    from repnet_search.models.widths import find_width, find_widths, pair_widths

    if len(weights) == 1:
        return (find_width(weights[0], named[0]),)
    if not widths:
        return find_widths(weights, named[0])
    pair_widths(weights, named)
    return named


def make_backbone(name: str, width_mult: float | None, *, last_conv: bool) -> BackboneSpec:
    """Returns the backbone that the options name; None is its default width.

    Raises:
        SpecError: there is no such backbone, or no such width, or the user's own cannot be traced.
        UsageError: --cut for a backbone that is not the user's own, or a file without a function.
    """
    from repnet_search.backbones import is_own
    from repnet_search.spec.design import BackboneSpec
    from repnet_search.spec.files import validate_spec

    if is_own(name):
        return make_own_backbone(name, width_mult, last_conv=last_conv)
    if requested_cut():
        raise UsageError(f"--cut is for a backbone of your own, FILE.py:FUNCTION, but got {name}; leave it out.")
    if name.endswith(".py"):
        raise UsageError(f"A backbone of your own is FILE.py:FUNCTION, but got {name}; name its function too.")
    width = {} if width_mult is None else {"width_mult": width_mult}
    return validate_spec(BackboneSpec, {"name": name, **width, "last_conv": last_conv}, source="--backbone")
