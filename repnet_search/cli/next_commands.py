"""What may be done next, as commands that work when they are copied: with the options that this one was given."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path

import click
from click.core import ParameterSource

from repnet_search.results.front import pareto_front
from repnet_search.results.record import TrialRecord
from repnet_search.results.study import StudyView
from repnet_search.spec.training import Metric
from repnet_search.units import KIB

# --download is left out: what was to be fetched is there by now.
_IMAGES = ("data", "data_root", "skip_broken", "data_cache")
_WEIGHTS = ("weights", "pretrained", "input_range", "accelerator")


def next_commands(view: StudyView, winner: TrialRecord) -> list[str]:
    """Returns what may follow a search; a smaller budget is proposed where the study has an answer to it."""
    study, where = f"--study {shlex.quote(view.name)}", _given("storage")
    cheaper = [record for record in pareto_front(view.records) if record.ram_bytes < winner.ram_bytes]
    smaller = [f"best {study} --budget {-(-cheaper[-1].ram_bytes // KIB)}KB{where}"] if cheaper else []
    export = f"export {study} --to {_free_folder('out')}{where}{_given(*_IMAGES, 'proxy_images', *_WEIGHTS)}"
    return [*(f"repnet-search {command}" for command in (*smaller, export, f"dashboard{where}"))]


def evaluate_command(bundle: Path, *, metric: Metric) -> str:
    """Returns what measures a bundle on the images that it was trained with."""
    counted = f" --metric {metric.value}" if metric is not Metric.ACCURACY else ""
    return f"repnet-search evaluate {shlex.quote(str(bundle))}{_given(*_IMAGES)}{counted}"


def _free_folder(name: str) -> str:
    """Returns a name that no folder here has: name, name-2, name-3 and so on."""
    numbered = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    return next(free for free in numbered if not Path(free).exists())


def _given(*names: str) -> str:
    """Returns those of the running command's options that its user gave, as text; "" where there are none."""
    context = click.get_current_context(silent=True)
    if context is None:
        return ""
    options = {option.name: option for option in context.command.params}
    asked = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    given = [name for name in names if name in options and context.get_parameter_source(name) in asked]
    return "".join(_option_text(options[name], context.params.get(name)) for name in given)


def _option_text(option: click.Parameter, value: object) -> str:
    """Returns an option with its value, or each of its values."""
    if isinstance(option, click.Option) and option.is_flag:
        return f" {option.opts[0]}"
    values = value if isinstance(value, tuple) else (value,)
    # Behind "=", so that a value such as -1,1 is not taken for an option.
    return "".join(
        f" {option.opts[0]}{'=' if str(item).startswith('-') else ' '}{shlex.quote(str(item))}" for item in values
    )
