"""The command that makes a study again, from what the study says of itself, and what it does not say."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator

from repnet_search.backbones import has_last_conv, has_widths
from repnet_search.data.digits import EmbeddedDigits
from repnet_search.data.known_sets import KNOWN_SETS
from repnet_search.models.weights import EMBEDDED_BACKBONE
from repnet_search.results.record import BASELINES, Origin
from repnet_search.results.study import StudyView
from repnet_search.spec.bundled import list_spaces, load_space
from repnet_search.spec.space import SpaceSpec
from repnet_search.spec.study import DataSpec, SearchSpec, StudySpec
from repnet_search.spec.training import FeatureType, Metric
from repnet_search.units import KIB

SPACE_FILE = "space.yaml"
"""What the command calls the file of a space that does not come with the package."""

_EMBEDDED_WEIGHTS = "letters (embedded)"
_EMBEDDED_RANGE = "-1,1"
_PRETRAINED = re.compile(r"-IMAGENET1K_V\d+\.safetensors$")
_DEFAULT_CONFIRMED = 3
_ROOT = "DATA_ROOT"

Words = Iterator[tuple[str, str | None]]
"""Options with their values; None of a flag."""


def create_command(view: StudyView) -> str:
    """Returns the command line that makes a study again in an empty folder."""
    settings = view.settings
    options = [
        *_target(settings),
        *_space(settings.space),
        *_training(settings),
        ("--trials", str(max(1, view.trained_count))),
        *_search(settings.search),
        *_confirmation(view),
        *_images(settings.data),
        *_backbone(settings),
        *_warm_start(view),
        ("--workers", str(_workers(view))),
        ("--study", view.name),
    ]
    return " ".join(["repnet-search run", *(_join(option, value) for option, value in options)])


def list_placeholders(view: StudyView) -> tuple[str, ...]:
    """Returns what the study does not say of its command, in sentences."""
    return tuple(_placeholders(view))


def needs_space_file(space: SpaceSpec) -> bool:
    """Returns whether no space of the package is this one, so that the command needs it as a file."""
    return any(value == SPACE_FILE for _, value in _space(space))


def _join(option: str, value: str | None) -> str:
    """Returns an option with its value; behind "=" where it could be taken for an option."""
    if value is None:
        return option
    return f"{option}{'=' if value.startswith('-') else ' '}{shlex.quote(value)}"


def _size(size_bytes: int) -> str:
    """Returns a size as an option takes it, to the byte.

    >>> _size(262144), _size(1000), _size(0)
    ('256KB', '1000', '0')
    """
    return f"{size_bytes // KIB}KB" if size_bytes and size_bytes % KIB == 0 else str(size_bytes)


def _target(settings: StudySpec) -> Words:
    if settings.board is not None:
        yield "--board", settings.board
        yield "--reserve", _size(settings.reserve_bytes)
    else:
        yield "--budget", _size(settings.budget_bytes)
        if settings.reserve_bytes:
            yield "--reserve", _size(settings.reserve_bytes)
    if settings.flash_bytes is not None:
        yield "--flash", _size(settings.flash_bytes)
    yield "--schedule", settings.schedule.value


def _space(space: SpaceSpec) -> Words:
    """Yields the bundled space that this one is, with its overrides; or a file."""
    names = sorted((path.stem for path in list_spaces()), key=lambda name: name != "default")
    bundled = {name: load_space(name) for name in names}
    for name, known in bundled.items():
        changes = _overrides(known, space)
        if changes is not None:
            yield "--space", name
            yield from changes
            return
    yield "--space", SPACE_FILE


def _overrides(known: SpaceSpec, space: SpaceSpec) -> list[tuple[str, str | None]] | None:
    """Returns the options that make a known space this one, None where none do."""
    alike = known.model_copy(update={"resolution": space.resolution, "activation_bits": space.activation_bits})
    if alike != space or (known.activation_bits != space.activation_bits and len(space.activation_bits) > 1):
        return None
    changes: list[tuple[str, str | None]] = []
    if known.resolution != space.resolution:
        if tuple(sorted(space.resolution)) != space.resolution:
            return None
        changes += [("--resolution", str(side)) for side in space.resolution]
    if known.activation_bits != space.activation_bits:
        changes.append(("--activation-bits", str(space.activation_bits[0])))
    return changes


def _training(settings: StudySpec) -> Words:
    training = settings.training
    yield "--epochs", str(training.epochs)
    yield "--views", str(training.views)
    yield "--seed", str(training.seed)
    if training.metric is not Metric.ACCURACY:
        yield "--metric", training.metric.value
    if training.feature_cache_type is not FeatureType.FP32:
        yield "--feature-cache-type", training.feature_cache_type.value


def _search(search: SearchSpec) -> Words:
    default = SearchSpec()
    if search.sampler is not default.sampler:
        yield "--sampler", search.sampler.value
    if search.pruned_per_design != default.pruned_per_design:
        yield "--show-cut", str(search.pruned_per_design)
    if search.reduction != default.reduction:
        yield "--reduction", str(search.reduction)


def _confirmation(view: StudyView) -> Words:
    """Yields what was to be confirmed; of a study that does not keep it, what fits the designs that were."""
    if view.sessions:
        last = view.sessions[-1]
        yield "--confirm", str(last.confirm)
        if last.confirm:
            yield "--confirm-seeds", str(last.confirm_seeds)
            yield "--confirm-epochs", str(last.confirm_epochs)
        return
    if not view.confirmed:
        yield "--confirm", "0"
        return
    compared = (*BASELINES, Origin.WIDEST)
    best = {item.design_id for item in view.records if item.origin not in compared} & view.confirmed.keys()
    designs = _DEFAULT_CONFIRMED if abs(len(best) - _DEFAULT_CONFIRMED) <= 1 else max(1, len(best))
    longest = max(view.confirmed.values(), key=lambda item: (len(item.runs), item.epochs))
    yield "--confirm", str(min(designs, 100))
    yield "--confirm-seeds", str(len(longest.runs))
    yield "--confirm-epochs", str(longest.epochs)


def _warm_start(view: StudyView) -> Words:
    names = (name for session in view.sessions for name in session.warm_start)
    yield from (("--warm-start", name) for name in dict.fromkeys(names))


def _workers(view: StudyView) -> int:
    """Returns the workers of the last run; one where the study does not keep them."""
    return view.sessions[-1].workers if view.sessions else 1


def _images(data: DataSpec) -> Words:
    if not _is_embedded(data):
        yield "--data", data.name
        if data.name in KNOWN_SETS:
            yield "--data-root", _ROOT
    if data.proxy_images is not None:
        yield "--proxy-images", str(data.proxy_images)


def _is_embedded(data: DataSpec) -> bool:
    source = EmbeddedDigits(proxy_images=data.proxy_images)
    return data.name == source.name and data.sha256 == source.sha256()


def _backbone(settings: StudySpec) -> Words:
    backbone, weights = settings.backbone, settings.weights
    is_embedded = backbone == EMBEDDED_BACKBONE and weights.name == _EMBEDDED_WEIGHTS and not settings.wider
    if is_embedded:
        if weights.input_range != _EMBEDDED_RANGE:
            yield "--input-range", weights.input_range
        return
    yield "--backbone", backbone.name
    if backbone.traced is None and has_widths(backbone.name):
        yield from (("--width-mult", f"{item.width_mult:g}") for item in settings.backbones)
    if backbone.traced is None and has_last_conv(backbone.name):
        yield "--last-conv" if backbone.last_conv else "--no-last-conv", None
    names = [item.name for item in settings.all_weights.values()]
    if all(_PRETRAINED.search(name) for name in names):
        yield "--pretrained", None
    elif not _is_made(settings) and weights.name != _EMBEDDED_WEIGHTS:
        yield from (("--weights", name) for name in names)
    yield "--input-range", weights.input_range


def _is_made(settings: StudySpec) -> bool:
    """Returns whether the weights are the values that the user's own module is made with."""
    return settings.backbone.traced is not None and settings.weights.name == f"as {settings.backbone.name} makes them"


def _placeholders(view: StudyView) -> Iterable[str]:
    settings = view.settings
    words = dict([*_images(settings.data), *_backbone(settings), *_space(settings.space)])
    files = [option for option in ("--data", "--weights") if option in words]
    if files:
        yield f"The study keeps names and hashes, not folders: put the path in at {' and '.join(files)}."
    if "--data" in words:
        yield "It does not keep whether files that cannot be read were left out: where some were, add --skip-broken."
    if _ROOT in words.values():
        yield (
            f"{_ROOT} stands for the folder that holds published data sets; --download fetches what is missing. Where "
            f"{settings.data.name} was a folder of your own, its path stands at --data, without --data-root."
        )
    if SPACE_FILE in words.values():
        yield f"{SPACE_FILE} is the search space below; it is none of those that come with the package."
    if settings.backbone.traced is not None:
        yield "The backbone is the user's own: where its blocks were chosen with --cut, the same --cut goes there."
    warm = sum(record.origin is Origin.WARM_START for record in view.records)
    if any(_warm_start(view)):
        yield "--warm-start names studies of the same storage: they must be there."
    elif warm:
        yield f"It began with {warm} winners of another study, whose name it does not keep: add --warm-start NAME."
    if view.confirmed and not view.sessions:
        yield "How many designs were to be confirmed is not kept: --confirm is what fits those that were."
