"""The profile of a space against counting its designs one by one."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from repnet_search.cli.main import run_cli
from repnet_search.graph import Schedule
from repnet_search.memory import estimate_lower_bound
from repnet_search.report.profile_plot import _short, _ticks
from repnet_search.search.batch import SpaceMemory
from repnet_search.search.fitting import COUNTED_COMBINATIONS
from repnet_search.search.profile import SpaceProfile, profile_space
from repnet_search.search.space import SearchSpace
from repnet_search.spec import BackboneSpec
from repnet_search.spec.bundled import load_space
from repnet_search.spec.target import DeviceLimits

BUDGET_BYTES = 100 * 1024


def small_space() -> SearchSpace:
    """Returns a space that is counted in a moment."""
    spec = load_space("tiny")
    module = spec.module.model_copy(update={"depth": (0, 1), "width": (0.5,)})
    changes = {"connector_blocks": (6, 13), "resolution": (24, 32), "recipe": spec.recipe[:2], "module": module}
    return SearchSpace(spec.model_copy(update=changes), BackboneSpec())


def profile(space: SearchSpace, schedule: Schedule = Schedule.LAYER, samples: int = 20_000) -> SpaceProfile:
    memory = SpaceMemory(space, classes=10, schedule=schedule, keep=False)
    return profile_space(memory, limits=DeviceLimits(BUDGET_BYTES), samples=samples, seed=0)


@pytest.mark.parametrize("schedule", [Schedule.LAYER, Schedule.STREAMED])
def test_a_countable_space_is_counted_exactly(schedule: Schedule) -> None:
    space = small_space()
    names = list(space.distributions)
    sizes, with_connector = [], []
    for values in itertools.product(*(item.choices for item in space.distributions.values())):
        resolved = space.design(dict(zip(names, values, strict=True)))
        sizes.append(estimate_lower_bound(resolved, classes=10, schedule=schedule))
        if resolved.modules:
            with_connector.append(sizes[-1])
    result = profile(space, schedule)
    assert result.exact
    assert result.measured == result.combinations == len(sizes)
    assert result.fitting_share == sum(size <= BUDGET_BYTES for size in sizes) / len(sizes)
    assert (result.smallest.ram_bytes, result.largest.ram_bytes) == (min(sizes), max(sizes))
    assert result.tightest is not None
    assert result.tightest.ram_bytes == min(with_connector)
    assert sum(result.counts) == len(sizes)


def test_the_extremes_are_designs_that_take_what_is_said() -> None:
    space = SearchSpace(load_space("default"), BackboneSpec())
    assert space.combinations > COUNTED_COMBINATIONS
    result = profile(space)
    assert result.tightest is not None
    for extreme in (result.smallest, result.tightest, result.largest):
        assert estimate_lower_bound(space.design(extreme.params), classes=10) == extreme.ram_bytes
    assert space.design(result.tightest.params).modules
    assert not space.design(result.smallest.params).modules


def test_samples_agree_within_their_error() -> None:
    space = SearchSpace(load_space("paper"), BackboneSpec())
    counted = profile(space)
    memory = SpaceMemory(space, classes=10, keep=False)
    drawn = memory.sample(20_000, seed=3)
    share = float((drawn.ram_bytes <= BUDGET_BYTES * 2).mean())
    whole = profile_space(memory, limits=DeviceLimits(BUDGET_BYTES * 2), samples=1, seed=0)
    assert counted.exact
    assert abs(share - whole.fitting_share) < 5 * (share * (1 - share) / 20_000) ** 0.5


def test_a_field_that_decides_alone_explains_everything() -> None:
    space = small_space()
    spec = space.spec.model_copy(update={"connector_blocks": (), "recipe": space.spec.recipe[:1]})
    result = profile(SearchSpace(spec, BackboneSpec()))
    assert result.tightest is None
    assert result.drivers[0].field == "resolution"
    assert result.drivers[0].explained == pytest.approx(1.0)
    assert all(driver.explained == pytest.approx(0.0) for driver in result.drivers[1:])


def test_the_command_prints_and_gives_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["profile", "--space", "paper", "--budget", "256KB"]) == 0
    text = capsys.readouterr().out
    for part in ("6 912 of choices, all counted", "71.53 % within 256.0 KiB", "← budget", "What drives memory most"):
        assert part in text
    assert run_cli(["profile", "--space", "paper", "--budget", "256KB", "--schedule", "streamed", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schedule"] == "streamed"
    assert report["fitting_share"] > 0.7153


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("html", b"<")])
def test_the_histogram_is_drawn(suffix: str, start: bytes, tmp_path: Path) -> None:
    target = tmp_path / f"profile.{suffix}"
    assert run_cli(["profile", "--space", "paper", "--budget", "256KB", "--plot", str(target)]) == 0
    assert target.read_bytes().startswith(start)


def test_the_axis_names_round_sizes() -> None:
    profiled = profile(small_space())
    ticks = _ticks(replace(profiled, budget_bytes=256 * 1024, edges_bytes=(65_000, 1_100_000)))
    assert [_short(tick) for tick in ticks] == ["64", "128", "256", "512", "1,024"]
    assert len(_ticks(replace(profiled, budget_bytes=2**18, edges_bytes=(2**10, 2**30)))) <= 12


def test_no_bin_is_divided_by_the_budget() -> None:
    result = profile(small_space())
    below = sum(count for low, count in zip(result.edges_bytes, result.counts, strict=False) if low <= BUDGET_BYTES)
    assert below == round(result.fitting_share * result.measured)
    assert sum(result.counts) == result.measured


def test_options_override_the_space(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--resolution", "24", "--activation-bits", "8", "--flash", "400KB"]
    assert run_cli(["profile", "--space", "tiny", "--budget", "100KB", *options, "--json"]) == 0
    largest = json.loads(capsys.readouterr().out)["largest"]["params"]
    assert (largest["resolution"], largest["activation_bits"]) == (24, 8)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--budget", "256KB", "--space", "nowhere.yaml"], 1, "nowhere.yaml"),
        (["--space", "paper"], 2, "Say what the device has: --budget 256KB"),
        (["--budget", "0"], 2, "between 1 KB"),
        (["--budget", "1MB", "--space", "paper", "--plot", "picture.gif"], 2, "written as .html or .png"),
        (["--budget", "1MB", "--schedule", "fast"], 2, "'fast' is not one of"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["profile", *arguments]) == code
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.out == ""
