"""What the README shows must be there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import repnet_search
from repnet_search.cli.main import cli
from repnet_search.spec import Design, parse_spec, resolve

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_design_example_is_a_design() -> None:
    (example,) = blocks("yaml")
    design = parse_spec(Design, example, source="README.md")
    assert set(design.model_dump()) == set(Design.model_fields)
    assert len(resolve(design).modules) == 2


def test_the_library_example_uses_the_public_list() -> None:
    (example,) = blocks("python")
    names = set(re.findall(r"repnet_search\.(\w+)", example))
    assert names <= set(repnet_search.__all__)


@pytest.mark.parametrize("command", sorted(set(re.findall(r"repnet-search (\w+)", README))))
def test_the_commands_exist_with_their_options(command: str) -> None:
    assert command in cli.commands
    known = {
        option for parameter in cli.commands[command].params for option in [*parameter.opts, *parameter.secondary_opts]
    }
    for line in README.replace("\\\n", " ").splitlines():
        for call in re.findall(rf"repnet-search {command}([^#`]*)", line):
            assert set(re.findall(r"--[a-z-]+", call)) <= known
