"""Whether a bundle is whole: its files, and that every model in it gives the same logits on a fixed batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from repnet_search.errors import RepnetSearchError
from repnet_search.export.load import MODEL_FILE, BundleModel, load_model, load_standalone
from repnet_search.export.manifest import list_damage, read_manifest, written_by
from repnet_search.export.model_file import create_model_file
from repnet_search.export.onnx_file import ONNX_FILE, run_onnx

BATCH_SIZES = (1, 3, 8)
"""Models are run on the first images of one batch, since the batch of model.onnx is dynamic."""

MODEL_TOLERANCE = 1e-6
"""Of the largest logit, at least 1: the same operators of the same torch, so 0 on one machine."""

ONNX_TOLERANCE = 1e-4
"""Of the largest logit, at least 1: other kernels, another order of summation in float32.

Where a connector writes to an int8 backbone, a sum on the edge between two codes may then fall to the other code, and
the logits of that image are off by a step of the grid: of 40 images and 4 random designs, 0 to 3 each, by up to 3
hundredths, none with another label. There the median image is compared.
"""

_SEED = 0


@dataclass
class BundleCheck:
    """What is wrong with a bundle, a sentence each; what was not looked at; the largest difference of each model."""

    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    differences: dict[str, float] = field(default_factory=dict)

    def raise_failures(self, folder: Path) -> None:
        """Raises what was found.

        Raises:
            RepnetSearchError: the first failure; it counts the others.
        """
        if self.failures:
            more = f" There are {len(self.failures) - 1} more." if len(self.failures) > 1 else ""
            raise RepnetSearchError(f"The bundle {folder} is not whole: {self.failures[0]}{more}")


def check_bundle(folder: Path) -> BundleCheck:
    """Returns the check of a bundle; its models are run only where all files are what was written.

    model.py is code, and a bundle may come from anywhere: it is run only where this version writes the very same text
    for the design.

    Raises:
        SpecError: the folder is no bundle, or of another format.
    """
    check = BundleCheck(failures=list(list_damage(folder)))
    if check.failures:
        return check
    try:
        model = load_model(folder)
    except RepnetSearchError as error:
        check.failures.append(str(error))
        return check
    expected = _run(model, model.resolution)
    foreign = _describe_foreign(folder, model)
    if foreign is None:
        found = _run(load_standalone(folder).load(), model.resolution)
        _compare(check, MODEL_FILE, found, expected, tolerance=MODEL_TOLERANCE)
    else:
        check.failures.append(foreign)
    if (folder / ONNX_FILE).exists():
        _check_onnx(check, folder / ONNX_FILE, model, expected)
    return check


def _check_onnx(check: BundleCheck, path: Path, model: BundleModel, expected: Tensor) -> None:
    if find_spec("onnxruntime") is None:
        check.notes.append(f"{ONNX_FILE} was not run; pip install 'repnet-search[onnx]'.")
        return
    try:
        found = _run(lambda images: run_onnx(path, images), model.resolution)
    except Exception as error:  # onnxruntime raises kinds of its own that have Exception alone in common
        check.failures.append(f"{ONNX_FILE} cannot be run ({str(error).splitlines()[0]}); export it again.")
        return
    writes = any(shape.exchange.writes for shape in model.resolved.modules)
    by_median = writes and model.resolved.design.activation_bits == 8
    _compare(check, ONNX_FILE, found, expected, tolerance=ONNX_TOLERANCE, by_median=by_median)


def _run(model: Callable[[Tensor], Tensor], resolution: int) -> Tensor:
    """Returns a model's logits of the fixed batch, uint8 noise, in all batch sizes one behind another."""
    generator = torch.Generator().manual_seed(_SEED)
    size = (BATCH_SIZES[-1], 3, resolution, resolution)
    images = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
    with torch.inference_mode():
        return torch.cat([model(images[:batch]) for batch in BATCH_SIZES])


def _describe_foreign(folder: Path, model: BundleModel) -> str | None:
    """Returns why a bundle's model.py is not run, None where it is what this version writes."""
    own = create_model_file(model.resolved, model.repnet, input_range=model.input_range, classes=len(model.labels))
    if (folder / MODEL_FILE).read_bytes() == own.encode():
        return None
    return (
        f"{MODEL_FILE} is not what {written_by()} writes for this design, so it was not run; read it before you do, or "
        f"check it with {read_manifest(folder).get('written_by')}, which the bundle says it is from."
    )


def _compare(
    check: BundleCheck, name: str, found: Tensor, expected: Tensor, *, tolerance: float, by_median: bool = False
) -> None:
    """Adds the largest difference, and a failure where the compared one is beyond the tolerance."""
    if found.shape != expected.shape:
        shapes = f"{tuple(found.shape)}, not {tuple(expected.shape)}"
        check.failures.append(f"{name} gives logits of shape {shapes}; export it again.")
        return
    by_image = (found - expected).abs().amax(dim=1)
    check.differences[name] = float(by_image.max())
    difference = float(by_image.median() if by_median else by_image.max())
    limit = tolerance * max(1.0, float(expected.abs().max()))
    if not difference <= limit:
        check.failures.append(
            f"{name} gives other logits, off by {difference:.1e} where {limit:.1e} is allowed; export it again."
        )
