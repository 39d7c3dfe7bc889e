"""Which design a command is about: a file, or a preset made of options; and for which target it is estimated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from repnet_search.cli.options import Command, schedule_option
from repnet_search.cli.own_backbone import cut_option

if TYPE_CHECKING:
    from repnet_search.graph import Schedule, Slopes
    from repnet_search.spec.design import Design
    from repnet_search.spec.resolve import ResolvedDesign

# As in spec/presets.py and spec/target.py, which cost too much to import for --help.
PRESETS = ("paper", "smallest")
SLOPES = ("exact", "8bit")


@dataclass(frozen=True, slots=True)
class DesignChoice:
    """What the options of `design_options` say."""

    file: Path | None
    preset: str | None
    backbone: str | None
    width_mult: float | None
    last_conv: bool | None
    resolution: int | None
    activation_bits: str | None

    def load(self) -> Design:
        """Returns the design of the file or the preset, as it is written.

        Raises:
            UsageError: both or neither is given, or an option of a preset beside a file.
            SpecError: the file is no design, or there is no such preset or backbone.
        """
        from repnet_search.errors import UsageError
        from repnet_search.spec.files import load_design

        if self.file is None:
            return self._create()
        if self.preset is not None:
            raise UsageError("A design is a file or a preset, but got both; leave DESIGN.yaml or --preset out.")
        given = [option for option, value in self._preset_options() if value is not None]
        if given:
            raise UsageError(f"{given[0]} is for a preset, but the design file says it itself; edit {self.file}.")
        return load_design(self.file)

    def resolve(self) -> ResolvedDesign:
        """Returns the design in its explicit form; raises as `load`, and where the design is no legal one."""
        from repnet_search.spec.resolve import resolve

        return resolve(self.load(), source=self.source)

    @property
    def source(self) -> str | None:
        """What errors about the design name: its file, None for a preset."""
        return str(self.file) if self.file is not None else None

    def _create(self) -> Design:
        from repnet_search.cli.options import make_backbone
        from repnet_search.errors import UsageError
        from repnet_search.spec.design import Design
        from repnet_search.spec.files import validate_spec
        from repnet_search.spec.presets import get_preset

        if self.preset is None:
            raise UsageError(f"Name a design file, or --preset {' or '.join(PRESETS)}.")
        backbone = make_backbone(self.backbone or "mobilenet_v2", self.width_mult, last_conv=self.last_conv is True)
        fields: dict[str, object] = {"connectors": [], "backbone": backbone}
        if self.resolution is not None:
            fields["resolution"] = self.resolution
        if self.activation_bits is not None:
            fields["activation_bits"] = int(self.activation_bits)
        return get_preset(self.preset, validate_spec(Design, fields, source="options"))

    def _preset_options(self) -> tuple[tuple[str, object], ...]:
        return (
            ("--backbone", self.backbone),
            ("--width-mult", self.width_mult),
            ("--last-conv", self.last_conv),
            ("--resolution", self.resolution),
            ("--activation-bits", self.activation_bits),
        )


def design_options(command: Command) -> Command:
    """Adds DESIGN.yaml, or --preset with what it is made for."""
    for option in (
        click.option("--activation-bits", type=click.Choice(["32", "8"]), help="Of the frozen backbone. Default: 32."),
        click.option("--resolution", type=click.IntRange(1, 2048), metavar="PX", help="Of the images. Default: 48."),
        click.option("--last-conv/--no-last-conv", default=None, help="Keep the backbone's last 1x1 convolution."),
        click.option(
            "--width-mult",
            type=click.FloatRange(0, 4, min_open=True),
            metavar="WIDTH",
            help="The backbone's width. Default: as 'backbones' lists it.",
        ),
        click.option(
            "--backbone",
            metavar="NAME",
            help="The preset's backbone: one of 'backbones', or your own as FILE.py:FUNCTION. Default: mobilenet_v2.",
        ),
        cut_option,
        click.option(
            "--preset", metavar="NAME", help=f"Instead of a file: {' or '.join(PRESETS)}, made with the next options."
        ),
        click.argument("design", type=click.Path(path_type=Path), metavar="[DESIGN.yaml]", required=False),
    ):
        command = option(command)
    return command


def target_options(command: Command) -> Command:
    """Adds --classes, --batch, --schedule and --hswish."""
    for option in (
        click.option(
            "--hswish",
            type=click.Choice(SLOPES),
            default=SLOPES[0],
            show_default=True,
            help="How the target keeps the slopes of h-swish and SiLU: their input in 4 bytes, or the slope in 1.",
        ),
        schedule_option,
        click.option(
            "--batch", type=click.IntRange(1, 4096), default=1, show_default=True, help="Images of a micro-batch."
        ),
        click.option(
            "--classes", type=click.IntRange(2, 100_000), default=10, show_default=True, help="Outputs of the head."
        ),
    ):
        command = option(command)
    return command


def make_slopes(name: str) -> Slopes:
    """Returns how slopes are kept, as --hswish names it."""
    from repnet_search.graph import Slopes

    return Slopes(name)


def make_schedule(name: str) -> Schedule:
    """Returns the schedule that an option names."""
    from repnet_search.graph import Schedule

    return Schedule(name)
