"""`--check`: a sentence for whatever is wrong, and no code is run that this version would not write."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from repnet_search.errors import RepnetSearchError, SpecError
from repnet_search.export import check as check_module
from repnet_search.export.bundle import save_bundle
from repnet_search.export.check import check_bundle
from repnet_search.export.manifest import write_manifest
from repnet_search.export.onnx_file import PACKAGES, check_onnx_installed, run_onnx, whole_sums
from repnet_search.export.place import hold_place
from repnet_search.export.templates import runtime
from repnet_search.memory import estimate_memory
from repnet_search.models.weights import create_random_backbone
from repnet_search.spec import BackboneSpec, Connector, Design, resolve
from repnet_search.spec.traced import BlockLines, TracedSpec
from repnet_search.training.proxy import create_model
from repnet_search.training.task import Task

BLOCKS = (
    BlockLines(stage=0, convs=("a - 3>8 k3 s2 g1 relu6",)),
    BlockLines(
        stage=1,
        convs=("b - 8>16 k1 s1 g1 relu6", "c - 16>16 k3 s1 g16 relu6", "d - 16>8 k1 s1 g1 none"),
        residual=True,
    ),
)
BACKBONE = BackboneSpec(name="net.py:small", traced=TracedSpec(sha256="", blocks=BLOCKS), width_mult=1.0)
"""An inverted residual behind a stem: what exporters, and so their tests, take long for is every operator."""


def save(folder: Path, task: Task, *, onnx: bool = False) -> Path:
    """Writes a bundle of an int8 design whose parameters are random, as if it had been trained."""
    design = Design(backbone=BACKBONE, connectors=(Connector(after_block=1),), resolution=24, activation_bits=8)
    task = replace(task, weights={BACKBONE: create_random_backbone(BACKBONE, seed=0)}, calibrations={})
    resolved = resolve(design)
    model = create_model(resolved, task, seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.add_(torch.randn(value.shape, generator=generator) * 0.3)
    memory = estimate_memory(resolved, classes=task.classes)
    with hold_place(folder, force=False) as place:
        save_bundle(place, resolved, model, task, memory, accuracies={}, onnx=onnx)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, task: Task) -> Path:
    return save(tmp_path_factory.mktemp("check") / "out", task)


@pytest.fixture
def bundle(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "copy")


def failures(folder: Path) -> list[str]:
    return check_bundle(folder).failures


def test_a_bundle_is_whole_also_where_its_model_was_imported(bundle: Path) -> None:
    (bundle / "__pycache__").mkdir()
    check = check_bundle(bundle)
    assert (check.failures, check.notes, check.differences) == ([], [], {"model.py": 0.0})
    check.raise_failures(bundle)
    assert sorted(path.name for path in bundle.iterdir()) == sorted([*manifest(bundle), "manifest.json", "__pycache__"])


def manifest(folder: Path) -> list[str]:
    return list(json.loads((folder / "manifest.json").read_text())["files"])


def test_every_file_that_is_missing_or_changed_is_named(bundle: Path) -> None:
    for name in manifest(bundle):
        data = (bundle / name).read_bytes()
        (bundle / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert failures(bundle) == [f"{name} is not what was written (its sha256 is another); copy the bundle again."]
        (bundle / name).unlink()
        assert failures(bundle) == [f"{name} is missing; copy the bundle again."]
        (bundle / name).write_bytes(data)
    (bundle / "notes.txt").write_text("")
    (bundle / "labels.txt").unlink()
    check = check_bundle(bundle)
    assert check.failures[1] == "notes.txt is no file of this bundle; move it away."
    with pytest.raises(RepnetSearchError, match=r"copy is not whole: labels.txt is missing; .* There are 1 more\.$"):
        check.raise_failures(bundle)


def test_a_model_file_of_somebody_else_is_not_run(bundle: Path, tmp_path: Path) -> None:
    with (bundle / "model.py").open("a") as file:
        file.write(f"\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    write_manifest(bundle)
    (failure,) = failures(bundle)
    assert "model.py is not what repnet-search 0.1.0 writes for this design, so it was not run" in failure
    assert not (tmp_path / "ran").exists()


def test_other_weights_with_sums_of_their_own_are_seen(bundle: Path) -> None:
    trained = load_file(bundle / "trained.safetensors")
    save_file({name: value for name, value in trained.items() if name != "head.bias"}, bundle / "trained.safetensors")
    write_manifest(bundle)
    (failure,) = failures(bundle)
    assert "does not hold the parameters of its design.yaml" in failure


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"'repnet-search export' wrote, but .* has no manifest.json"):
        check_bundle(tmp_path)


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repnet_search.export.onnx_file.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(
        RepnetSearchError, match=r"but onnxscript cannot be imported; pip install 'repnet-search\[onnx\]'"
    ):
        check_onnx_installed()


@pytest.mark.parametrize("shape", [(8, 512, 1, 1), (4, 600, 1, 1), (8, 64, 3, 3), (2, 960, 3, 3)])
def test_sums_in_float32_are_those_of_integers(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, shape, generator=generator, dtype=torch.int8)
    weight[0], weight[1] = 127, -127  # the largest sums that there are
    q = torch.randint(-128, 128, (2, shape[1], 3, 3), generator=generator).float()
    q[0] = 255
    assert torch.equal(whole_sums(q, weight, stride=1, groups=1), runtime.whole_sums(q, weight, stride=1, groups=1))
    with pytest.raises(RepnetSearchError, match="sums of at most 32896 products, but a convolution here has 33000"):
        whole_sums(torch.zeros(1, 33000, 1, 1), torch.zeros(1, 33000, 1, 1), stride=1, groups=1)


def test_onnx_gives_the_same_at_any_batch_and_is_checked(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PACKAGES:
        pytest.importorskip(name)
    folder = save(tmp_path / "out", task, onnx=True)
    check = check_bundle(folder)
    assert not check.failures
    assert check.differences["model.py"] == 0
    assert check.differences["model.onnx"] < 0.1
    assert run_onnx(folder / "model.onnx", torch.zeros(17, 3, 24, 24, dtype=torch.uint8)).shape == (17, 10)
    with monkeypatch.context() as patch:
        patch.setattr(check_module, "find_spec", lambda _: None)
        assert check_bundle(folder).notes == ["model.onnx was not run; pip install 'repnet-search[onnx]'."]
        patch.undo()
    monkeypatch.setattr(check_module, "run_onnx", lambda path, images: run_onnx(path, images) + 0.01)
    (failure,) = failures(folder)
    assert "model.onnx gives other logits, off by 1.0e-02 where" in failure
    monkeypatch.undo()
    (folder / "model.onnx").write_bytes(b"x")
    write_manifest(folder)
    (failure,) = failures(folder)
    assert "model.onnx cannot be run (" in failure
