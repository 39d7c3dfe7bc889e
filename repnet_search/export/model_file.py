"""A bundle's model.py: the design's forward pass, and beneath it the few functions that it calls.

The functions are copied from templates/runtime.py, which the tests run; only those that the design needs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from importlib import resources
from itertools import groupby

from repnet_search.export.model_lines import ForwardLines, Line, quote, write_forward
from repnet_search.models.input_range import InputRange
from repnet_search.models.quantisation import QuantParams
from repnet_search.models.repnet import RepNet
from repnet_search.spec.resolve import ResolvedDesign

_WIDTH = 120
_FROM_FUNCTIONAL = (
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "batch_norm",
    "conv2d",
    "group_norm",
    "hardsigmoid",
    "hardswish",
    "interpolate",
    "linear",
    "max_pool2d",
    "relu",
    "relu6",
    "silu",
)
_FROM_TORCH = ("Tensor", "cat", "nn", "sigmoid")
_LAST = ("read_tensors", "read_image", "read_labels", "print_labels")

_INT8_DOC = """
The backbone is int8, simulated with whole numbers in floats: exactly what a device computes (see conv8 and add8).
"""

_DOC = '''"""Rep-Net {design_id} on {backbone}: uint8 images (N, 3, {size}, {size}) -> logits (N, {classes}).

Written by repnet-search; needs torch and safetensors, and Pillow to read images.

    python model.py IMAGE...        prints the label of each image

    from model import load
    model = load()                  # the weights that lie beside this file
    logits = model(images)          # of labels.txt
{int8}
Shapes are those of one image, channels x height x width. frozen are the tensors of backbone.safetensors, norms folded
into the convolutions; trained are those of trained.safetensors. b is the backbone's feature, r the Rep-Net's stream, s
a module's output{codes}.
"""
'''

_CLASS = '''class Model(nn.Module):
    """uint8 images (N, 3, {size}, {size}) -> logits (N, {classes})."""

    def __init__(self, frozen: dict[str, Tensor], trained: dict[str, Tensor]) -> None:
        super().__init__()
        self.frozen, self.trained = frozen, trained

    def forward(self, images: Tensor) -> Tensor:
        frozen, trained = self.frozen, self.trained
        scale = torch.tensor(SCALE, device=images.device).view(1, 3, 1, 1)
        shift = torch.tensor(SHIFT, device=images.device).view(1, 3, 1, 1)
        x = images.float() * scale + shift
{body}
'''

_LOAD = '''def load(folder: Path = HERE, *, device: str = "cpu") -> Model:
    """Returns the model with the weights of a bundle."""
    frozen = read_tensors(folder / "backbone.safetensors", device)
    trained = read_tensors(folder / "trained.safetensors", device)
{steps}    return Model(frozen, trained)
'''
_STEPS = {
    "trained_biases": """    for key, name in TRAINED_BIASES.items():
        frozen[f"{key}.bias"] = trained[name]
""",
    "standardised": """    for name in STANDARDISED:
        trained[name] = standardise(trained[name])
""",
    "convs": """    for key, (source, output) in CONVS.items():
        prepare_conv8(frozen, key, GRIDS[source], GRIDS[output])
""",
}

_MAIN = """if __name__ == "__main__":
    print_labels(load(), read_labels(HERE), sys.argv[1:], resolution={size})
"""


def create_model_file(resolved: ResolvedDesign, model: RepNet, *, input_range: InputRange, classes: int) -> str:
    """Returns the text of a design's model.py.

    Args:
        resolved: the design.
        model: of which structure and grids are read, not weights.
        input_range: what the backbone wants its image in.
        classes: outputs of the head.

    Raises:
        SpecError: as `write_forward`.
    """
    forward = write_forward(resolved, model)
    size = resolved.design.resolution
    is_int8 = bool(forward.grids)
    doc = _DOC.format(
        design_id=resolved.short_id,
        backbone=re.sub(r"[^\w./: -]", "_", resolved.table.name),  # a file's name may have quotes
        size=size,
        classes=classes,
        int8=_INT8_DOC if is_int8 else "",
        codes=", q centred int8 codes" if is_int8 else "",
    )
    constants = "\n".join(_constants(input_range, forward)) + "\n"
    body = _CLASS.format(size=size, classes=classes, body="\n".join(_paragraphs(forward.lines)))
    load = _LOAD.format(steps="".join(text for name, text in _STEPS.items() if getattr(forward, name)))
    main = _MAIN.format(size=size)
    used = _used_names(constants + body + load + main)
    functions = _copy_functions(used)
    used |= _used_names("\n".join(functions))
    parts = [f"{doc}\n{_imports(used)}\n{constants}", body, *functions, load, main]
    return "\n\n".join(parts)


def _imports(used: set[str]) -> str:
    functional = [name for name in _FROM_FUNCTIONAL if name in used]
    lines = [
        "from __future__ import annotations\n",
        "import sys",
        "from pathlib import Path",
        *(["from typing import NamedTuple"] if "NamedTuple" in used else []),
        "\nimport torch",
        "from safetensors.torch import load_file",
        f"from torch import {', '.join(name for name in _FROM_TORCH if name in used)}",
        f"from torch.nn.functional import {', '.join(functional)}",
    ]
    if len(lines[-1]) > _WIDTH:
        lines[-1] = "from torch.nn.functional import (\n" + "".join(f"    {name},\n" for name in functional) + ")"
    return "\n".join(lines) + "\n"


def _constants(input_range: InputRange, forward: ForwardLines) -> Iterator[str]:
    yield "HERE = Path(__file__).parent"
    yield "# A byte of the image means byte * scale + shift, by channel."
    yield f"SCALE = {input_range.scale!r}"
    yield f"SHIFT = {input_range.shift!r}"
    if forward.grids:
        yield from _grids(forward)
    if forward.trained_biases:
        yield "\n# Biases of the backbone that were trained: convolution, trained tensor."
        yield from _mapping("TRAINED_BIASES", forward.trained_biases)
    if forward.standardised:
        yield "\n# Weights that have mean 0 and variance 1 per output channel when they are used."
        yield "STANDARDISED = (\n" + "".join(f'    "{name}",\n' for name in forward.standardised) + ")"


def _grids(forward: ForwardLines) -> Iterator[str]:
    """Yields the grids as plain data, behind their class."""

    def text(params: QuantParams) -> str:
        return f"Grid({params.scale!r}, {params.zero_point})"

    yield "\n\n" + _sources()["Grid"].strip()
    yield "\n\n# bI.K, bI.shortcut: behind a convolution of block I; bI: its sum; merged: behind its connector."
    yield "GRIDS = {\n" + "".join(f'    "{name}": {text(params)},\n' for name, params in forward.grids.items()) + "}"
    yield "\n# The grids that each convolution reads and writes."
    rows = (f'    {quote(key)}: ("{source}", "{output}"),\n' for key, (source, output) in forward.convs.items())
    yield "CONVS = {\n" + "".join(rows) + "}"


def _mapping(name: str, values: dict[str, str]) -> Iterator[str]:
    yield f"{name} = {{\n" + "".join(f'    {quote(key)}: "{value}",\n' for key, value in values.items()) + "}"


def _paragraphs(lines: Iterable[Line]) -> Iterator[str]:
    """Yields lines of code with their notes in one column, and an empty line in front of each heading."""
    indent = " " * 8
    lines = list(lines)
    width = min(max(len(line.code) for line in lines if line.note), _WIDTH - 30)
    for is_heading, group in groupby(lines, key=lambda line: not line.code):
        for line in group:
            if is_heading:
                yield f"\n{indent}# {line.note}"
            elif line.note:
                yield f"{indent}{line.code:<{width}}  # {line.note}"
            else:
                yield indent + line.code


def _copy_functions(used: set[str]) -> list[str]:
    """Returns the functions of the template that names refer to, and those that they call, in its order."""
    sources = _sources()
    wanted = used & sources.keys()
    while True:
        more = set().union(*(_used_names(sources[name]) for name in wanted)) & sources.keys() - wanted
        if not more:
            break
        wanted |= more
    ordered = [name for name in sources if name in wanted and name != "Grid" and name not in _LAST]
    return [sources[name] for name in (*ordered, *_LAST)]


def _sources() -> dict[str, str]:
    """Returns the text of each function and class of the template."""
    text = (resources.files("repnet_search.export.templates") / "runtime.py").read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    return {
        node.name: "".join(lines[node.lineno - 1 : node.end_lineno])
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def _used_names(text: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
