"""Several --weights: the width of the backbone is searched too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file

from repnet_search.cli.options import make_backbones
from repnet_search.models.vision import torchvision
from repnet_search.results.record import Outcome
from repnet_search.results.study import load_study
from repnet_search.spec import BackboneSpec
from repnet_search.spec.files import load_design
from tests.cli.conftest import Run
from tests.weights_files import save_random_weights

QUICK = ("--budget", "100KB", "--space", "tiny", "--resolution", "24", "--epochs", "1", "--views", "1")
SEARCH = ("run", *QUICK, "--workers", "1", "--trials", "2", "--confirm", "0", "--study", "mine")


@pytest.fixture
def files(workplace: Path) -> tuple[Path, Path]:
    """Returns weights of two widths; the narrow ones are as torchvision draws them, of which little can be learnt."""
    narrow = workplace / "narrow.safetensors"
    save_file(torchvision.models.mobilenet_v2(width_mult=0.35).state_dict(), narrow)
    return narrow, save_random_weights(workplace / "wide.safetensors", BackboneSpec(width_mult=0.5))


def test_two_widths_are_searched_and_the_winner_exported(cli: Run, workplace: Path, files: tuple[Path, Path]) -> None:
    narrow, wide = files
    done = cli(*SEARCH, "--weights", wide, "--weights", narrow)
    assert done.code == 0, done.err
    header = (
        "mobilenet_v2 ×0.35 without last conv, weights narrow.safetensors, input imagenet; mobilenet_v2 ×0.5 without"
    )
    assert header in done.out
    assert "width" in done.out.split("Pareto front")[1].splitlines()[1]
    view = load_study("mine")
    widths = {record.design.backbone.width_mult for record in view.records if record.outcome is Outcome.TRAINED}
    assert widths == {0.35, 0.5}
    best = workplace / "repnet-studies" / "mine" / "best.yaml"
    assert load_design(best).backbone.width_mult == 0.5
    assert "×0.5" in cli("best", "--study", "mine").out

    refused = cli("export", "--study", "mine", "--to", "out", "--weights", narrow)
    assert refused.code == 1
    assert "was trained on the weights wide.safetensors (sha256" in refused.err
    assert cli("export", "--study", "mine", "--to", "out", "--weights", wide).code == 0
    assert cli("export", "--study", "mine", "--to", "both", "--weights", narrow, "--weights", wide).code == 0
    bundles = [json.loads((workplace / name / "bundle.json").read_text()) for name in ("out", "both")]
    assert bundles[0]["backbone"] == bundles[1]["backbone"]
    assert bundles[0]["backbone"]["name"] == "wide.safetensors"
    evaluated = json.loads(cli("evaluate", "out", "--json").out)
    tested = next(iter(view.tested.values()))
    assert evaluated["accuracy"] == pytest.approx(tested)
    trained = cli("train", best, "--epochs", 1, "--views", 1, "--weights", narrow, "--weights", wide, "--json")
    assert trained.code == 0, trained.err

    other = save_random_weights(workplace / "other.safetensors", BackboneSpec(width_mult=0.5), seed=1)
    refused = cli("export", "--study", "mine", "--to", "new", "--weights", narrow, "--weights", other)
    assert "trained on the weights wide.safetensors (sha256" in refused.err
    assert "but these are others" in refused.err
    refused = cli(*SEARCH, "--weights", narrow, "--weights", other)
    assert "exists with another weights; choose another name" in refused.err
    assert cli(*SEARCH, "--weights", narrow, "--weights", wide).code == 0  # in any order it is the same study


def test_one_file_tells_its_width(workplace: Path, files: tuple[Path, Path]) -> None:
    assert [spec.width_mult for spec in make_backbones("mobilenet_v2", (), last_conv=False, weights=files[1:])] == [0.5]
    named = make_backbones("mobilenet_v2", (0.35,), last_conv=False, weights=files[1:])
    assert [spec.width_mult for spec in named] == [0.35]


def test_files_that_are_no_further_width_are_refused(
    complains: Callable[..., str], workplace: Path, files: tuple[Path, Path]
) -> None:
    narrow, wide = files
    message = complains(*SEARCH, "--weights", narrow, "--weights", narrow, code=1)
    assert "are both --width-mult 0.35; leave one of them out." in message
    save_file(torchvision.models.resnet18().state_dict(), workplace / "resnet.safetensors")
    message = complains(*SEARCH, "--weights", narrow, "--weights", "resnet.safetensors", code=1)
    assert "The weights resnet.safetensors fit mobilenet_v2 in none of the widths" in message
    assert message.endswith("They fit resnet18.")
    message = complains(
        *SEARCH, "--width-mult", 0.5, "--width-mult", 0.75, "--weights", wide, "--weights", wide, code=1
    )
    assert "are both --width-mult 0.5" in message
    message = complains(*SEARCH, "--backbone", "resnet18", "--weights", narrow, "--weights", wide, code=1)
    assert "resnet18 comes in one width alone, but got 2 --weights; give one." in message
    assert "No such file" in complains(*SEARCH, "--weights", narrow, "--weights", "nowhere", code=1)


def test_a_dead_file_is_named(complains: Callable[..., str], workplace: Path) -> None:
    dead = save_random_weights(workplace / "dead.safetensors", BackboneSpec(width_mult=0.5), gain=0.0)
    healthy = save_random_weights(workplace / "healthy.safetensors", BackboneSpec())
    message = complains(*SEARCH, "--weights", healthy, "--weights", dead, code=1)
    assert "With the weights dead.safetensors and --input-range imagenet, the last feature is the same" in message


def test_a_space_over_several_widths_is_profiled(cli: Run) -> None:
    arguments = ("profile", "--space", "tiny", "--budget", "100KB", "--samples", 1000, "--width-mult", 0.5)
    done = cli(*arguments, "--width-mult", 0.35)
    assert done.code == 0, done.err
    assert "mobilenet_v2_w035 or mobilenet_v2_w050" in done.out
    assert "width 0.35, " in done.out
    both, one = (json.loads(cli(*arguments, *more, "--json").out) for more in (("--width-mult", 0.35), ()))
    assert both["combinations"] == 2 * one["combinations"]
    assert "width_mult" in {driver["field"] for driver in both["drivers"]}
