"""A bundle's model.py, alone in a process without repnet_search, against the model that was exported.

python -m studies.model_file_proof [--designs 4]     writes model_file_proof.md beside this file

Every backbone of the registry and own ones, random designs over all that a design file can say, in fp32 and, where the
backbone has no part that int8 lacks, in int8; weights are random in all parts. Both get the same uint8 images.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from rich.progress import track

from repnet_search.backbones import default_width_mult, has_last_conv, is_own, list_backbones
from repnet_search.errors import SpecError
from repnet_search.spec import BackboneSpec, ResolvedDesign, resolve
from repnet_search.spec.files import save_text
from studies.contract_subjects import OWN, create_own
from tests.designs import random_resolved
from tests.export.standalone import run_models, write_model

RESOLUTIONS = (32, 33, 48)
TOLERANCE = 1e-6
"""Of the largest logit, or of 1 where that is smaller."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of one backbone in one precision: how many designs, and how far off the worst of them is."""

    backbone: str
    bits: int
    designs: int
    equal: int
    worst: float


def list_specs() -> Iterator[BackboneSpec]:
    """Yields every backbone of the registry as it is usually taken, and own ones."""
    for name in list_backbones():
        yield BackboneSpec(name=name, width_mult=default_width_mult(name), last_conv=has_last_conv(name))
    for name in OWN:
        yield create_own(name)[0]


def draw_designs(spec: BackboneSpec, *, bits: int, count: int, random: Random) -> list[ResolvedDesign]:
    """Returns random designs on a backbone."""
    drawn = [random_resolved(random, backbone=spec, resolutions=RESOLUTIONS) for _ in range(count)]
    return [resolve(one.design.model_copy(update={"activation_bits": bits})) for one in drawn]


def check(designs: list[ResolvedDesign], *, name: str, bits: int, seed: int) -> Found:
    """Returns how the files of these designs compare."""
    with tempfile.TemporaryDirectory() as folder:
        written = [
            write_model(Path(folder) / str(number), design, seed=seed + number) for number, design in enumerate(designs)
        ]
        logits = run_models(written)
    pairs = [(item.expected, found) for item, found in zip(written, logits, strict=True)]
    worst = max(
        float((found - expected).abs().max()) / max(1.0, float(expected.abs().max())) for expected, found in pairs
    )
    equal = sum(torch.equal(expected, found) for expected, found in pairs)
    return Found(name, bits, len(pairs), equal, worst)


def main() -> None:
    """Checks every backbone, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--designs", type=int, default=4, help="of each backbone and precision")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    random = Random(arguments.seed)
    found: list[Found] = []
    refused: list[str] = []
    for spec in track(list(list_specs()), description="backbones"):
        name = f"own: {spec.name.rsplit(':', 1)[-1]}" if is_own(spec.name) else spec.name
        for bits in (32, 8):
            designs = draw_designs(spec, bits=bits, count=arguments.designs, random=random)
            try:
                found.append(check(designs, name=name, bits=bits, seed=arguments.seed))
            except SpecError:  # some parts of backbones are not there in int8
                if bits == 32:
                    raise
                refused.append(name)
    lines = _report(found, refused, designs=arguments.designs, seed=arguments.seed)
    print("\n".join(lines))
    save_text(arguments.to, "\n".join(lines) + "\n")
    if any(item.worst > TOLERANCE for item in found):
        raise SystemExit("A model.py is off.")


def _report(found: list[Found], refused: list[str], *, designs: int, seed: int) -> list[str]:
    backbones, models = len({item.backbone for item in found}), sum(item.designs for item in found)
    lines = [
        "# model.py against the model that was exported",
        "",
        f"`python -m studies.model_file_proof --designs {designs} --seed {seed}`: {models} models over {backbones}",
        f"backbones; {sum(item.equal for item in found)} give the same bits. Differences are shares of the largest",
        f"logit (or of 1, if that is smaller), {TOLERANCE:g} of which is allowed.",
        "",
        "| backbone | activations | models | bit for bit | largest difference |",
        "|---|---|--:|--:|--:|",
    ]
    for item in found:
        kind = "int8" if item.bits == 8 else "fp32"
        lines.append(f"| {item.backbone} | {kind} | {item.designs} | {item.equal} | {item.worst:.1e} |")
    return [*lines, "", f"Refused in int8, as everywhere in the project: {', '.join(refused)}."]


if __name__ == "__main__":
    main()
