"""A bundle's model.onnx: its model.py for inference, batches of any size; needs the extra `onnx`.

An int8 backbone stays simulated, in whole numbers that onnxruntime's float kernels hold exactly.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from repnet_search.errors import RepnetSearchError
from repnet_search.export.load import load_standalone
from repnet_search.models.quantisation import FLOAT32_LIMIT, HIGHEST, LOWEST, WEIGHT_LIMIT

ONNX_FILE = "model.onnx"
INPUT, OUTPUT = "images", "logits"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")

_PLACES = {1: 1, 16: 2, 4: 4}
"""Bases of the signed digits that int8 weights are split into, and how many there are; 1 is no split."""


def check_onnx_installed() -> None:
    """Makes sure that model.onnx can be written and run.

    Raises:
        RepnetSearchError: a package of the extra is missing.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise RepnetSearchError(
            f"--onnx needs {', '.join(PACKAGES)}, but {' and '.join(missing)} cannot be imported; "
            "pip install 'repnet-search[onnx]'."
        )


def save_onnx(folder: Path, *, resolution: int) -> None:
    """Writes model.onnx from the model.py of a folder: uint8 images (N, 3, resolution, resolution) → logits."""
    module = load_standalone(folder)
    model = module.load().eval()
    _split_sums(module)
    images = torch.zeros(2, 3, resolution, resolution, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch 2.13's exporter calls parts of torch that it has marked deprecated
        try:
            program = torch.onnx.export(
                model,
                (images,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = error.__cause__ or error
            raise RepnetSearchError(
                f"torch {torch.__version__} cannot export this design as ONNX ({str(reason).splitlines()[0]}); leave "
                "--onnx out, or use another version of torch."
            ) from error
    assert program is not None
    program.save(str(folder / ONNX_FILE))


def run_onnx(path: Path, images: Tensor) -> Tensor:
    """Returns the logits that onnxruntime computes on one core of uint8 images."""
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (logits,) = session.run([OUTPUT], {INPUT: images.numpy()})
    return torch.from_numpy(logits)


def _split_sums(module: ModuleType) -> None:
    """Lets an int8 model.py add up in float32: onnxruntime has no convolution in float64."""
    if hasattr(module, "whole_sums"):
        module.whole_sums = whole_sums  # type: ignore[attr-defined]  # the function that its conv8 calls


def whole_sums(q: Tensor, weight: Tensor, *, stride: int, groups: int) -> Tensor:
    """Returns exact sums of products, as float64, from convolutions in float32.

    Where there are too many products, the weights are split into signed digits to a base, each summed apart.

    Raises:
        RepnetSearchError: there are more products than any split takes, 32896.
    """
    weight = weight.float()
    base = _choose_base(weight[0].numel())
    total = torch.zeros((), dtype=torch.float64)
    for place in range(_PLACES[base]):
        is_last = place == _PLACES[base] - 1
        higher = torch.zeros_like(weight) if is_last else torch.round(weight / base)
        sums = conv2d(q, weight - base * higher, None, stride, weight.shape[-1] // 2, groups=groups)
        total = total + sums.double() * float(base**place)
        weight = higher
    return total


def _choose_base(products: int) -> int:
    """Returns the base whose digits' sums are exact and the fewest."""
    for base in _PLACES:
        largest = WEIGHT_LIMIT if base == 1 else base // 2
        if products * (HIGHEST - LOWEST) * largest < FLOAT32_LIMIT:
            return base
    raise RepnetSearchError(
        f"model.onnx of an int8 backbone holds sums of at most 32896 products, but a convolution here has {products}; "
        "leave --onnx out."
    )
