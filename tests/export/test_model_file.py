"""model.py alone, without repnet_search, computes what was trained: all that a design can say, on all backbones."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

from repnet_search.data.decode import decode_image
from repnet_search.errors import SpecError
from repnet_search.export.model_file import create_model_file
from repnet_search.export.templates import runtime
from repnet_search.models.repnet import RepNet
from repnet_search.models.weights import create_random_weights
from repnet_search.spec import (
    BackboneSpec,
    Connector,
    Design,
    Exchange,
    ModuleInput,
    ModuleSpec,
    Norm,
    ResolvedDesign,
    resolve,
)
from repnet_search.spec.traced import BlockLines, TracedSpec
from studies.contract_subjects import create_own
from tests.designs import random_resolved, six_connectors
from tests.export.standalone import CLASSES, RANGE, Written, run_models, write_model

BOTH_BITS = (
    BackboneSpec(),
    BackboneSpec(name="proxylessnas_mobile"),
    BackboneSpec(name="resnet18"),
)
FLOAT = (BackboneSpec(name="mobilenet_v3_small", last_conv=True), BackboneSpec(name="mnasnet", last_conv=True))
ODD_BLOCKS = (
    BlockLines(stage=0, convs=("a\"'){}\\ - 3>8 k3 s2 g1 relu6",)),
    BlockLines(stage=1, convs=('");exit() - 8>16 k1 s1 g1 relu bias', "head - 16>8 k3 s1 g8 none"), residual=True),
)
ODD = BackboneSpec(name='"""{0}.py:x', width_mult=1.0, traced=TracedSpec(sha256="", blocks=ODD_BLOCKS))
"""Keys and a name that are code, or another part's."""

OWN = ("tiny", "plain")
"""By hand: SiLU, h-swish, squeeze-and-excitation with sigmoids, shortcuts with a convolution, single layers."""


def pinned() -> Iterator[Design]:
    """Yields designs that have each thing a random one may lack."""
    yield Design(connectors=())
    yield Design(connectors=(), train_bias=True)
    yield six_connectors().model_copy(update={"module_input": ModuleInput.BLOCK_INPUT, "train_bias": True})
    yield six_connectors(Exchange.TO_REPNET, norm=Norm.NONE, depth=2)
    yield six_connectors(Exchange.TO_BACKBONE, norm=Norm.LAYER, weight_standardisation=True)
    yield Design(
        connectors=(Connector(after_block=2, depth=0), Connector(after_block=9, exchange=Exchange.TO_REPNET)),
        module=ModuleSpec(pool=1, groups="depthwise"),
        image_pool=1,
    )


def sample() -> Iterator[ResolvedDesign]:
    random = Random(11)
    for design in pinned():
        for bits in (8, 32):
            yield resolve(design.model_copy(update={"activation_bits": bits, "resolution": 40}), clamp_groups=True)
    for bits in (8, 32):
        design = Design(backbone=ODD, connectors=(Connector(after_block=0),), train_bias=True, activation_bits=bits)
        yield resolve(design.model_copy(update={"resolution": 24}), clamp_groups=True)
    for spec in (*BOTH_BITS, *FLOAT, *(create_own(name)[0] for name in OWN)):
        for bits in (8, 32) if spec in BOTH_BITS else (32,):
            drawn = random_resolved(random, backbone=spec, resolutions=(32, 33))
            yield resolve(drawn.design.model_copy(update={"activation_bits": bits}))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Written]:
    folder = tmp_path_factory.mktemp("models")
    return [write_model(folder / str(number), design, seed=number) for number, design in zip(count(), sample())]


def test_the_models_give_the_same_logits_without_repnet_search(written: list[Written]) -> None:
    for item, found in zip(written, run_models(written), strict=True):
        largest = max(1.0, float(item.expected.abs().max()))
        torch.testing.assert_close(
            found / largest, item.expected / largest, rtol=0, atol=1e-6, msg=str(item.resolved.design)
        )
        assert item.expected.std(0).min() > 0  # logits that say something of their images


def test_the_sample_calls_every_function_and_each_file_holds_no_other(written: list[Written]) -> None:
    template = functions_of(Path(runtime.__file__).read_text())
    seen: set[str] = set()
    for item in written:
        text = (item.folder / "model.py").read_text()
        tree = ast.parse(text)
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        own = functions_of(text)
        assert own.keys() - {"load"} <= template.keys()
        assert all(own[name] == template[name] for name in own.keys() & template.keys())
        assert own.keys() - {"load"} <= names
        assert imported(tree) <= names | {"annotations"}
        assert "repnet_search" not in text
        seen |= own.keys()
    assert seen - {"load"} == template.keys()


def functions_of(text: str) -> dict[str, str]:
    return {node.name: ast.dump(node) for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}


def imported(tree: ast.Module) -> set[str]:
    nodes = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return {alias.name for node in nodes for alias in node.names}


def test_it_reads_as_the_network_is() -> None:
    resolved = resolve(Design(connectors=(Connector(after_block=3),), resolution=48))
    weights = create_random_weights(resolved.table, seed=0)
    text = create_model_file(resolved, RepNet(resolved, weights, classes=4), input_range=RANGE, classes=4)
    squeezed = re.sub(r"(?<=\)) +#", "  #", text)
    for part in (
        '"""Rep-Net ' + resolved.short_id + " on mobilenet_v2_w035: uint8 images (N, 3, 48, 48) -> logits (N, 4).",
        'y = relu6(conv(frozen, "features.2.conv.1.0", y, stride=2, groups=48))  # 48 x 12 x 12',
        "# connector 1, both\n",
        'b = b + trained["gammas.0"].view(-1, 1, 1) * s',
    ):
        assert part in squeezed
    assert "GRIDS" not in text
    assert len(text.splitlines()) < 300


def test_batch_norms_are_refused() -> None:
    resolved = resolve(Design(connectors=(Connector(after_block=3, norm=Norm.BATCH),)))
    model = RepNet(resolved, create_random_weights(resolved.table, seed=0), classes=CLASSES)
    with pytest.raises(SpecError, match=r"connectors\[0\] has BatchNorm2d; use norm 'group'"):
        create_model_file(resolved, model, input_range=RANGE, classes=CLASSES)


@pytest.mark.parametrize("name", ["wide.png", "grey.png", "clear.png", "palette.gif", "turned.jpg", "large.jpg"])
def test_images_are_read_as_in_training(name: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    mode, size = {"grey.png": ("L", (40, 31)), "clear.png": ("RGBA", (31, 40)), "large.jpg": ("RGB", (400, 300))}.get(
        name, ("RGB", (57, 40))
    )
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    image = Image.fromarray(random.integers(0, 256, (*size[::-1], *channels), dtype=np.uint8), mode)
    exif = image.getexif()
    if name == "turned.jpg":
        exif[0x0112] = 6
    (image.convert("P") if name == "palette.gif" else image).save(
        tmp_path / name, **({"exif": exif} if ".jpg" in name else {})
    )
    path = str(tmp_path / name)
    assert np.array_equal(runtime.read_image(path, 24).numpy(), decode_image(path, resolution=24))


def test_sixteen_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="16 bits per pixel"):
        runtime.read_image(str(tmp_path / "deep.png"), 4)
