from __future__ import annotations

from pathlib import Path

import pytest

from repnet_search.errors import SpecError
from repnet_search.spec import Design, Exchange, design_to_yaml, load_design, parse_spec
from repnet_search.spec.space import SpaceSpec

EXAMPLE = """
format: 1
backbone: {name: mobilenet_v2, width_mult: 0.35, last_conv: false}
resolution: 48
activation_bits: 32
image_pool: 4
connectors:
  - {after_block: 6, exchange: both}
  - {after_block: 13, exchange: to_repnet, width: 0.5}
module: {depth: 1, width: 1.0, kernel: 3, groups: 2, pool: 2, norm: group, weight_standardisation: false}
module_input: stream
train_bias: false
recipe: {optimizer: sign_sgd, accumulate: 1, lr: 1e-3, head_lr_ratio: 1.0}
"""


def test_the_documented_example_is_read_with_its_overrides() -> None:
    design = parse_spec(Design, EXAMPLE, source="example")
    assert design.connectors[1].exchange is Exchange.TO_REPNET
    assert design.module_of(0).width == 1.0
    assert design.module_of(1).width == 0.5
    assert design.recipe.lr == 0.001


def test_connectors_alone_are_enough() -> None:
    assert parse_spec(Design, "connectors: []", source="text") == Design(connectors=())


def test_yaml_goes_out_and_comes_in_again(tmp_path: Path) -> None:
    design = parse_spec(Design, EXAMPLE, source="example")
    path = tmp_path / "design.yaml"
    path.write_text(design_to_yaml(design))
    assert load_design(path) == design


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("connectors: []\nresolutoin: 48", "resolutoin is not a field here. Did you mean 'resolution'?"),
        (
            "connectors: [{after_block: 6, widht: 1.0}]",
            "connectors[0].widht is not a field here. Did you mean 'width'?",
        ),
        ("resolution: 48", "connectors is missing and has no default."),
        ("connectors: []\nresolution: forty", "resolution must be a valid integer, but got 'forty'."),
        ("connectors: []\nresolution: '48'", "resolution must be a valid integer, but got '48'."),
        ("connectors: [{after_block: 1, exchange: bth}]", "connectors[0].exchange must be 'both', 'to_backbone' or"),
        ("connectors: []\nmodule: {width: -1.0}", "module.width must be greater than 0, but got -1.0."),
        (
            "connectors: []\nmodule: {groups: twice}",
            "module.groups must be a valid integer or 'depthwise', but got 'twice'.",
        ),
        ("connectors: []\nmodule: {kernel: 4}", "module.kernel must be an odd number, but got 4."),
        ("connectors: []\nrecipe: {lr: .nan}", "recipe.lr must be"),
        ("connectors: []\nconnectors: []", 'found duplicate key "connectors"'),
        ("connectors: [", "is not valid YAML"),
        ("- 1", "must be a mapping of fields, but is a list."),
        ("", "but is empty."),
        ("connectors: []\nformat: 2", "format must be 1, but got 2."),
    ],
)
def test_a_mistake_is_named_with_its_path(text: str, sentence: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_spec(Design, text, source="design.yaml")
    assert sentence in str(error.value)
    assert "design.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_of_the_other_kind_is_recognised() -> None:
    with pytest.raises(SpecError, match=r"^d\.yaml is a design, but a search space is wanted here; "):
        parse_spec(SpaceSpec, "backbone: {name: resnet18}\nconnectors: []\n", source="d.yaml")
    with pytest.raises(SpecError, match=r"^s\.yaml is a search space, but a design is wanted here; "):
        parse_spec(Design, "resolution: [48]\nreaders: [0]\n", source="s.yaml")


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nowhere\.yaml cannot be read: No such file"):
        load_design(tmp_path / "nowhere.yaml")


def test_yaml_cannot_make_python_objects() -> None:
    with pytest.raises(SpecError):
        parse_spec(Design, "connectors: !!python/object/apply:os.system ['true']", source="evil.yaml")
