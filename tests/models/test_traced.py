"""Backbones of the user's own: what is traced, what is refused and why, and what needs the file again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from repnet_search.errors import SpecError, WeightsError
from repnet_search.memory import estimate_memory
from repnet_search.models.traced import trace_backbone
from repnet_search.models.user_module import create_user_module
from repnet_search.models.weights import load_weights
from repnet_search.spec import BackboneSpec, Design, design_to_yaml, get_preset, load_design, resolve
from repnet_search.spec.table import get_table
from studies.contract_subjects import OWN_FILE

HEADER = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"
NET = """
class Unit(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return F.relu(x + self.norm(self.conv(x)))


def layers(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.ReLU(), nn.Conv2d(o, o, 1), nn.ReLU6())


def net():
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)
    return nn.Sequential(layers(3, 8), Unit(8), layers(8, 16), Unit(16), *head)
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(HEADER + NET)
    return "nets.py:net"


def body(tmp_path: Path, forward: str, layers: str = "self.c = nn.Conv2d(3, 8, 3, padding=1)") -> str:
    """Returns the name of a network with these layers and this forward."""
    text = (
        f"{HEADER}\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        {layers}\n\n"
        f"    def forward(self, x):\n        {forward}\n\n\ndef net():\n    return Net()\n"
    )
    path = tmp_path / "body.py"
    path.write_text(text)
    return f"{path}:net"


def refusal(name: str, cut: tuple[str, ...] = ()) -> str:
    with pytest.raises(SpecError) as error:
        trace_backbone(name, cut=cut)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_blocks_end_at_residual_sums_and_module_boundaries(net: str) -> None:
    table = get_table(trace_backbone(net))
    assert [[conv.key for conv in block.convs] for block in table.blocks] == [
        ["0.0", "0.2"],
        ["1.conv"],
        ["2.0", "2.2"],
        ["3.conv"],
    ]
    assert [block.residual for block in table.blocks] == [False, True, False, True]
    assert [block.stage for block in table.blocks] == [0, 1, 2, 2]
    assert table.paper_blocks == (0, 1, 3)


def test_cut_points_end_blocks(net: str) -> None:
    table = get_table(trace_backbone(net, cut=("0.1", "0", "1", "2", "3")))
    assert [[conv.key for conv in block.convs] for block in table.blocks][:2] == [["0.0"], ["0.2"]]
    assert refusal(net, ("0", "2")).startswith(
        "nets.py:net cannot be cut into blocks, for 1: a block is one residual unit or one chain of convolutions, but "
        "2.0 is in it too; cut behind 2.0."
    )
    assert refusal(net, ("6",)) == "A cut point must lie in front of the head, but '6' does not."
    assert refusal(net, ("1.conv",)).endswith("but '1.conv' ends inside the residual unit 1; cut behind that.")
    assert "must be a submodule, but 'unit' is none." in refusal(net, ("unit",))


def test_a_design_needs_the_file_no_more(net: str, tmp_path: Path) -> None:
    design = get_preset("paper", Design(backbone=trace_backbone(net), connectors=(), resolution=48))
    resolved = resolve(design)
    Path("design.yaml").write_text(design_to_yaml(resolved.design))
    Path("nets.py").unlink()
    again = resolve(load_design("design.yaml"))
    assert again.id == resolved.id
    assert again.table == resolved.table
    assert estimate_memory(again, classes=4) == estimate_memory(resolved, classes=4)
    with pytest.raises(SpecError, match=r"nets\.py cannot be read"):
        load_weights(again.design.backbone, path=None)


def test_the_modules_own_values_are_the_same_in_every_process(net: str) -> None:
    spec = trace_backbone(net)
    torch.manual_seed(7)
    first = load_weights(spec, path=None)
    torch.manual_seed(8)
    assert load_weights(spec, path=None).sha256 == first.sha256
    assert set(first.tensors) == {
        f"{key}.{part}" for key in ("0.0", "0.2", "1.conv", "2.0", "2.2", "3.conv") for part in ("weight", "bias")
    }
    Path("nets.py").write_text(HEADER + NET + "\n# changed\n")
    with pytest.raises(WeightsError, match=r"nets\.py has changed since the backbone was traced from it"):
        load_weights(spec, path=None)


def test_weights_have_the_modules_own_names(net: str) -> None:
    spec = trace_backbone(net)
    state = create_user_module(net).module.state_dict()
    save_file({key: value * 2 for key, value in state.items()}, "weights.safetensors")
    given = load_weights(spec, path=Path("weights.safetensors")).tensors
    own = load_weights(spec, path=None).tensors
    torch.testing.assert_close(given["0.0.weight"], 2 * own["0.0.weight"])
    del state["2.2.weight"]
    save_file(state, "weights.safetensors")
    with pytest.raises(WeightsError, match=r"do not fit nets\.py:net: 2\.2\.weight is missing"):
        load_weights(spec, path=Path("weights.safetensors"))


@pytest.mark.parametrize(
    ("name", "where", "why"),
    [
        ("shufflenet", "stage2.0", "the operation 'cat' in its forward"),
        ("densenet", "features.denseblock1.denselayer1", "the operation 'cat' in its forward"),
        ("squeezenet", "features.2", "a max pool of side 3 (3 with stride 2 and padding 1 is the one known)"),
    ],
)
def test_what_cannot_be_cut_is_named(name: str, where: str, why: str) -> None:
    message = refusal(f"{OWN_FILE}:{name}")
    assert f"cannot be cut into blocks, for {where}: {why} is nothing that a block can hold." in message


@pytest.mark.parametrize(
    ("forward", "layers", "why"),
    [
        (
            "return self.c(x), x",
            "self.c = nn.Conv2d(3, 8, 3, padding=1)",
            "must return one tensor, but returns a tuple; return the logits alone.",
        ),
        (
            "return {'a': self.c(x)}",
            "self.c = nn.Conv2d(3, 8, 3, padding=1)",
            "must return one tensor, but returns a dict",
        ),
        (
            "return self.l(torch.flatten(self.c(x), 1))",
            "self.c = nn.Conv2d(3, 8, 3, padding=1); self.l = nn.Linear(8, 2)",
            "a flattening without global average pooling in front",
        ),
        (
            "return self.c(x)",
            "self.c = nn.Conv2d(3, 8, 3)",
            "c: a convolution must be square, of odd side k and padded",
        ),
        ("return self.c(x)", "self.c = nn.Conv2d(3, 8, 3, padding=2, dilation=2)", "c: a convolution must be square"),
        ("return F.leaky_relu(self.c(x))", "self.c = nn.Conv2d(3, 8, 1)", "the operation 'leaky_relu' in its forward"),
        ("return self.c(F.relu(x))", "self.c = nn.Conv2d(3, 8, 1)", "an activation that does not come right behind"),
        ("return self.n(x)", "self.n = nn.BatchNorm2d(3)", "n: a norm that does not come right behind a convolution"),
        ("return self.c(x if x.sum() > 0 else -x)", "self.c = nn.Conv2d(3, 8, 1)", "such as an 'if', out of forward."),
        (
            "return self.c(x)",
            "self.c = nn.Conv2d(1, 8, 1)",
            "c: it reads images of 1 channel; images are RGB, 3 ch",
        ),
        ("return self.c(self.c(x))", "self.c = nn.Conv2d(3, 3, 1)", "c: it runs twice"),
        ("return x.mean((2, 3))", "pass", "it has no convolution"),
        (
            "y = self.c(x); return y * torch.sigmoid(y)",
            "self.c = nn.Conv2d(3, 8, 1)",
            "an activation that does not come right",
        ),
        (
            "y = self.c(x); return y + F.relu(y) + F.relu6(y)",
            "self.c = nn.Conv2d(3, 8, 1)",
            "its input is read in 3 places",
        ),
        ("return torch.sigmoid(self.c(x))", "self.c = nn.Conv2d(3, 8, 1)", "c: a sigmoid that ends no squeeze-and"),
    ],
)
def test_what_a_block_cannot_hold_is_said_in_one_sentence(tmp_path: Path, forward: str, layers: str, why: str) -> None:
    assert why in refusal(body(tmp_path, forward, layers))


def test_norms_must_agree_on_their_eps(tmp_path: Path) -> None:
    layers = (
        "self.s = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, eps=0.1))"
    )
    assert "s.3: its norm's eps is 0.1, but others' is 1e-05" in refusal(body(tmp_path, "return self.s(x)", layers))


def test_what_tracing_does_not_see_is_noticed(tmp_path: Path) -> None:
    # The convolution reads what ReLU has changed in place, and so does the sum.
    forward = "y = self.c(x); z = self.d(y); y.mul_(y); return z + y"
    layers = "self.c = nn.Conv2d(3, 8, 1); self.d = nn.Conv2d(8, 8, 1)"
    assert "cannot be cut into blocks" in refusal(body(tmp_path, forward, layers))
    forward = "y = self.c(x); return self.d(y) + torch.add(y, y)"
    assert "cannot be cut into blocks" in refusal(body(tmp_path, forward, layers))


@pytest.mark.parametrize(
    ("text", "function", "message"),
    [
        (
            "import nothing_like_this",
            "net",
            "raised ModuleNotFoundError: No module named 'nothing_like_this' when it was",
        ),
        ("def net(:", "net", "raised SyntaxError"),
        (
            "def net(): raise ValueError('no such width')",
            "net",
            "net() raised ValueError: no such width; run with --debug",
        ),
        ("def net(width): return width", "net", "net() raised TypeError"),
        ("def net(): return 5", "net", "net() must return an nn.Module, but returned 5."),
        ("def net(): return 5", "nett", "has no function 'nett'. Did you mean 'net'?"),
        ("def a(): pass\ndef b(): pass", "nosuch", "has no function 'nosuch'; it has a, b."),
        ("from math import pi", "nosuch", "has no function 'nosuch'; it has none."),
        ("raise SystemExit(3)", "net", "raised SystemExit"),
    ],
)
def test_what_the_users_file_does_wrong_is_said(tmp_path: Path, text: str, function: str, message: str) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(text)
    assert message in refusal(f"{path}:{function}")


def test_a_name_must_be_a_file_and_a_function(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refusal(f"{tmp_path}/none.py:net")
    assert "is path/to/file.py:function" in refusal("file.py:two words")
    with pytest.raises(SpecError, match="must be traced into the design, but this one is not; name it on the command"):
        resolve(Design(backbone=BackboneSpec(name="nets.py:net"), connectors=()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"convs": ["0.0 - 3>8 k3"]}, "A convolution of a traced backbone is 'KEY NORM-KEY IN>OUT"),
        ({"convs": ["0.0 - 4>8 k3 s1 g1 relu"]}, "reads 4 channels, but gets 3; trace the backbone again."),
        ({"residual": True}, "has a shortcut that does not fit"),
    ],
)
def test_an_edited_table_is_checked(change: dict[str, object], message: str) -> None:
    block = {"stage": 0, "convs": ["0.0 - 3>8 k3 s1 g1 relu"]} | change
    backbone = BackboneSpec.model_validate({"name": "a.py:b", "traced": {"sha256": "0", "blocks": [block]}})
    with pytest.raises(SpecError, match=message):
        resolve(Design(backbone=backbone, connectors=()))


def test_a_registry_backbones_design_is_as_short_as_before() -> None:
    assert "traced" not in design_to_yaml(Design(connectors=()))
