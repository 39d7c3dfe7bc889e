"""Bad input to `estimate` and `plan`: one sentence with the rule, the value and the way out, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Complains = Callable[..., str]
COMMANDS = (("estimate",), ("plan", "--json", "plan.json"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "connectors: [{after_block: 19}]",
            "connectors[0].after_block must be a block of mobilenet_v2_w035 (0..17), but got 19.",
        ),
        (
            "backbone: {name: resnet18}\nconnectors: [{after_block: 12}]",
            "connectors[0].after_block must be a block of resnet18 (0..8), but got 12.",
        ),
        (
            "connectors: [{after_block: 6}, {after_block: 6}]",
            "connectors[1].after_block is 6 and repeats block 6; list each block once, earliest first.",
        ),
        (
            "connectors: [{after_block: 6}, {after_block: 3}]",
            "connectors[1].after_block is 3 and comes after block 6; list each block once, earliest first.",
        ),
        (
            "connectors: [{after_block: 6}, {after_block: 10, groups: 3}]",
            "must divide its 16 input and 16 mid channels, but got 3; use a divisor of 16 or 'depthwise'.",
        ),
        (
            "connectors: [{after_block: 6, norm: batch}]",
            "norm 'batch', which couples the images of a batch, but recipes train at micro-batch 1; use norm 'group'",
        ),
        (
            "connectors: [{after_block: 6, exchange: to_repnet}, {after_block: 10}]\nmodule_input: block_input",
            "change it, or use module_input: stream.",
        ),
        ("backbone: {name: mobilenet}\nconnectors: []", "must be one of mnasnet, "),
        ("activation_bits: 16\nconnectors: []", "activation_bits must be 8 or 32, but got 16."),
        ("connectors: [{after_block: 6, exchnage: both}]", "Did you mean 'exchange'?"),
        ("resolution: 2\nconnectors: [{after_block: 6}]", "image_pool must leave at least one pixel"),
        ("recipe: {optimizer: adma}\nconnectors: []", "recipe.optimizer must be"),
        ("connectors: [", "is not valid YAML"),
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_design_that_is_none(
    command: tuple[str, ...], text: str, sentence: str, workplace: Path, complains: Complains
) -> None:
    (workplace / "design.yaml").write_text(text)
    said = complains(*command, "design.yaml", code=1)
    assert sentence in said
    assert "design.yaml" in said or "norm: batch" in text  # which a design may say, but no step of it be counted


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--preset", "papre"), 1, "A preset must be one of paper, smallest, but got 'papre'. Did you mean 'paper'?"),
        ((), 2, "Name a design file, or --preset paper or smallest."),
        (("design.yaml", "--preset", "paper"), 2, "A design is a file or a preset, but got both"),
        (("design.yaml", "--resolution", "64"), 2, "--resolution is for a preset, but the design file says it itself"),
        (("design.yaml", "--no-last-conv"), 2, "--last-conv is for a preset"),
        (("nowhere.yaml",), 1, "nowhere.yaml cannot be read: No such file or directory."),
        (("--preset", "paper", "--batch", "0"), 2, "0 is not in the range 1<=x<=4096"),
        (("--preset", "paper", "--classes", "1"), 2, "1 is not in the range"),
        (("--preset", "paper", "--schedule", "fast"), 2, "'fast' is not one of 'layer', 'inplace', 'streamed'"),
        (("--preset", "paper", "--activation-bits", "16"), 2, "'16' is not one of '32', '8'"),
        (("--preset", "paper", "--backbone", "resnet"), 1, "The backbone must be one of"),
        (("--preset", "paper", "--backbone", "resnet18", "--width-mult", "0.5"), 1, "leave --width-mult out"),
        (("--preset", "paper", "--backbone", "resnet18", "--last-conv"), 1, "has no last 1x1 convolution to keep"),
        (("--preset", "paper", "--resolution", "1"), 1, "image_pool must leave at least one pixel"),
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_options_that_name_no_design(
    command: tuple[str, ...],
    options: tuple[str, ...],
    code: int,
    sentence: str,
    workplace: Path,
    complains: Complains,
) -> None:
    (workplace / "design.yaml").write_text("connectors: []")
    assert sentence in complains(*command, *options, code=code)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--plot", "memory.svg"), 2, "A plot is written as .html or .png, but got 'memory.svg'."),
        (("--plot", "memory"), 2, "A plot is written as .html or .png, but got 'memory'."),
        (("--plot", "folder"), 2, "is a directory"),
        (("--plot", "notes.txt/memory.html"), 1, "notes.txt"),
        (("--nearest", "nearest.yaml"), 2, "--nearest looks for a design under a budget, but got none"),
        (("--budget", "64KB", "--nearest", "notes.txt/nearest.yaml"), 1, "notes.txt"),
        (("--by", "layer"), 2, "'layer' is not 'block'"),
        (("--budget", "256XB"), 2, "'256XB'"),
        (("--budget", "256"), 2, "got '256', which is in bytes; write the unit, such as 256KB."),
    ],
)
def test_estimates_that_cannot_be_written(
    arguments: tuple[str, ...], code: int, sentence: str, workplace: Path, complains: Complains
) -> None:
    (workplace / "folder").mkdir()
    (workplace / "notes.txt").write_text("in the way")
    assert sentence in complains("estimate", "--preset", "paper", *arguments, code=code)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ((), 2, "A plan is written to files, but none is named; give --json FILE, --c-header FILE, or both."),
        (("--c-header", "folder"), 2, "is a directory"),
        (("--c-header", "notes.txt/plan.h"), 1, "notes.txt"),
        (("--json", "notes.txt/plan.json"), 1, "notes.txt"),
        (("--c-header", "plan.h", "--batch", "4096", "--resolution", "1024"), 1, "addresses its arena with 32 bits"),
    ],
)
def test_plans_that_cannot_be_written(
    arguments: tuple[str, ...], code: int, sentence: str, workplace: Path, complains: Complains
) -> None:
    (workplace / "folder").mkdir()
    (workplace / "notes.txt").write_text("in the way")
    assert sentence in complains("plan", "--preset", "paper", *arguments, code=code)
