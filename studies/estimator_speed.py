"""The speed of training-memory estimates: ours, and what PyTorch users have, on the same designs in one run.

python -m studies.estimator_speed [--designs 40]    writes estimator_speed.json and .md beside it

Designs drawn from the default space at 48 px, one thread, medians. What others count is no training memory: FLOPs,
activations of convolutions, or the bytes that autograd saves in one forward pass.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from repnet_search.graph import build_graph
from repnet_search.measure.kept import measure_kept_bytes
from repnet_search.memory import compute_liveness, count_kept_bytes, estimate_memory
from repnet_search.memory.batch import DesignBatch
from repnet_search.memory.tables import MemoryTables, create_tables
from repnet_search.models.repnet import RepNet
from repnet_search.models.weights import create_random_weights
from repnet_search.search.batch import SpaceMemory
from repnet_search.search.space import SearchSpace
from repnet_search.spec import BackboneSpec, ResolvedDesign
from repnet_search.spec.bundled import load_space
from repnet_search.spec.files import save_text

CLASSES = 10
BATCH_DESIGNS = 100_000
SAMPLES = 1_000_000
REPEATS = 7
RESOLUTION = 48


def seconds_of(action: Callable[[], object]) -> float:
    """Returns the wall time of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


class Subjects:
    """The designs, each with its model and a batch of one image."""

    def __init__(self, designs: int) -> None:
        spec = load_space("default").model_copy(update={"resolution": (RESOLUTION,)})
        self.space = SearchSpace(spec, BackboneSpec())
        self.choices = SpaceMemory(self.space, classes=CLASSES, keep=False).draw(designs, seed=0)
        memory = SpaceMemory(self.space, classes=CLASSES, keep=False)
        self.designs = [self.space.design(memory.params(row)) for row in self.choices]
        self.weights = create_random_weights(self.space.table, seed=0)
        self.models = [self.build(resolved) for resolved in self.designs]
        self.images = torch.randn(1, 3, RESOLUTION, RESOLUTION, generator=torch.Generator().manual_seed(0))
        self.labels = torch.zeros(1, dtype=torch.int64)
        self.tables = create_tables(self.space.table, resolution=RESOLUTION, classes=CLASSES)
        self.tables.batch_of(self.designs)

    def build(self, resolved: ResolvedDesign) -> RepNet:
        """Returns the model of a design."""
        return RepNet(resolved, self.weights, classes=CLASSES)

    def loss(self, model: RepNet) -> Tensor:
        """Returns the loss of one image."""
        return functional.cross_entropy(model(self.images), self.labels)


Estimator = Callable[[Subjects, int], object]


def _graph_and_liveness(subjects: Subjects, number: int) -> object:
    return compute_liveness(build_graph(subjects.designs[number], classes=CLASSES)).peak_bytes


def _graph_and_kept(subjects: Subjects, number: int) -> object:
    return count_kept_bytes(build_graph(subjects.designs[number], classes=CLASSES))


def _placed(subjects: Subjects, number: int) -> object:
    return estimate_memory(subjects.designs[number], classes=CLASSES).ram_bytes


def _tables(subjects: Subjects, number: int) -> object:
    return subjects.tables.lower_bound(subjects.designs[number])


def _build(subjects: Subjects, number: int) -> object:
    return subjects.build(subjects.designs[number])


def _hooks(subjects: Subjects, number: int) -> object:
    return measure_kept_bytes(subjects.models[number], subjects.images, subjects.labels)


def _fvcore_flops(subjects: Subjects, number: int) -> object:
    from fvcore.nn import FlopCountAnalysis

    return FlopCountAnalysis(subjects.models[number], subjects.images).unsupported_ops_warnings(False).total()


def _fvcore_activations(subjects: Subjects, number: int) -> object:
    from fvcore.nn import ActivationCountAnalysis

    return ActivationCountAnalysis(subjects.models[number], subjects.images).unsupported_ops_warnings(False).total()


def _torchinfo(subjects: Subjects, number: int) -> object:
    from torchinfo import summary

    return summary(subjects.models[number], input_data=subjects.images, verbose=0).total_output_bytes


def _flop_counter(subjects: Subjects, number: int) -> object:
    with FlopCounterMode(display=False) as counter:
        subjects.loss(subjects.models[number]).backward()
    return counter.get_total_flops()


def _mem_tracker(subjects: Subjects, number: int, *, all_train: bool) -> object:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    with FakeTensorMode():
        resolved = subjects.designs[number]
        model = RepNet(resolved, create_random_weights(resolved.table, seed=0), classes=CLASSES)
        if all_train:
            model.requires_grad_(True)
        images = torch.randn(1, 3, RESOLUTION, RESOLUTION)
        tracker = MemTracker()
        tracker.track_external(model)
        with tracker:
            functional.cross_entropy(model(images), torch.zeros(1, dtype=torch.int64)).backward()
    return tracker.get_tracker_snapshot("peak")


def _mem_tracker_as_it_is(subjects: Subjects, number: int) -> object:
    return _mem_tracker(subjects, number, all_train=False)


def _mem_tracker_all_train(subjects: Subjects, number: int) -> object:
    return _mem_tracker(subjects, number, all_train=True)


ESTIMATORS: tuple[tuple[str, str, Estimator], ...] = (
    ("tables, one design", "training memory, exact live sum", _tables),
    ("op list, kept bytes", "bytes that stock PyTorch keeps", _graph_and_kept),
    ("op list, live peak", "training memory, exact live sum", _graph_and_liveness),
    ("op list, placed arena", "training memory as placed", _placed),
    ("building the module", "nothing yet", _build),
    ("a forward pass under saved_tensors_hooks", "bytes that stock PyTorch keeps", _hooks),
    ("torchinfo", "outputs of modules, forward", _torchinfo),
    ("torch FlopCounterMode, forward and backward", "FLOPs", _flop_counter),
    ("fvcore FLOPs", "FLOPs", _fvcore_flops),
    ("fvcore activations", "outputs of convolutions and linears", _fvcore_activations),
    ("FakeTensor + MemTracker", "live bytes of stock PyTorch", _mem_tracker_as_it_is),
    ("FakeTensor + MemTracker, every parameter trainable", "live bytes of another training", _mem_tracker_all_train),
)


def time_estimators(subjects: Subjects) -> list[dict[str, Any]]:
    """Returns the median time of each estimator over the designs, or why it does not run."""
    records: list[dict[str, Any]] = []
    for name, counts, estimator in ESTIMATORS:
        record: dict[str, Any] = {"name": name, "counts": counts}
        try:
            estimator(subjects, 0)
            times = [
                seconds_of(lambda: estimator(subjects, number))  # noqa: B023 - called at once
                for number in range(len(subjects.designs))
            ]
            record["milliseconds"] = 1000 * statistics.median(times)
        except Exception as error:
            record["fails"] = f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
        records.append(record)
        print(record, flush=True)
    return records


def time_batches(subjects: Subjects) -> dict[str, float]:
    """Returns the time per design of batches, and of the whole way from a seed to bytes; what building takes."""
    with tempfile.TemporaryDirectory() as name:
        memory = SpaceMemory(subjects.space, classes=CLASSES, folder=Path(name))
        built = seconds_of(lambda: memory.sample(1, seed=0))
        again = SpaceMemory(subjects.space, classes=CLASSES, folder=Path(name))
        read = seconds_of(lambda: again.sample(1, seed=0))
        drawn = memory.draw(BATCH_DESIGNS, seed=1)
        choices = min(seconds_of(lambda: memory.measure(drawn)) for _ in range(REPEATS))
        sampled = seconds_of(lambda: memory.sample(SAMPLES, seed=2))
        tables, batch = _batch(subjects, memory, drawn)
        measured = min(seconds_of(lambda: tables.measure(batch)) for _ in range(REPEATS))
    return {
        "build_seconds": built,
        "read_seconds": read,
        "batch_milliseconds": 1000 * measured / BATCH_DESIGNS,
        "batch_designs_per_second": BATCH_DESIGNS / measured,
        "choices_milliseconds": 1000 * choices / BATCH_DESIGNS,
        "choices_designs_per_second": BATCH_DESIGNS / choices,
        "million_samples_seconds": sampled,
    }


def _batch(subjects: Subjects, memory: SpaceMemory, drawn: np.ndarray[Any, Any]) -> tuple[MemoryTables, DesignBatch]:
    """Returns the tables and the batch of designs that were drawn."""
    context = memory.context(subjects.space.backbones[0], RESOLUTION, subjects.space.spec.activation_bits[0])
    return context.tables, context.batch_of(drawn)


def summarise(record: dict[str, Any]) -> str:
    """Returns the record as Markdown."""
    batches = record["batches"]
    lines = [
        "# The speed of estimates",
        "",
        f"{record['designs']} designs drawn from the default space (MobileNetV2-0.35, {RESOLUTION} px, batch 1), one "
        f"thread, medians, all in one run with PyTorch {record['torch']}, NumPy {record['numpy']}. The last column is "
        "against a design in a batch. Written by `python -m studies.estimator_speed`.",
        "",
        "| estimator | what it counts | ms per design | times the batch's |",
        "|---|---|--:|--:|",
    ]
    for row in _rows(record):
        time_cell = f"{row['milliseconds']:.5f}" if row["milliseconds"] < 0.01 else f"{row['milliseconds']:.3f}"
        ratio = row["milliseconds"] / batches["batch_milliseconds"]
        lines.append(f"| {row['name']} | {row['counts']} | {time_cell} | {ratio:,.0f} |")
    lines += [""]
    for row in record["estimators"]:
        if "fails" in row:
            lines.append(f"- {row['name']} does not run here: `{row['fails']}`.")
    lines += [
        f"- Tables of the whole space at one resolution: built in {batches['build_seconds']:.2f} s, read from disk in "
        f"{batches['read_seconds']:.2f} s.",
        f"- {BATCH_DESIGNS:,} designs at once: {batches['batch_designs_per_second']:,.0f} designs per second; from "
        f"choices, batch included, {batches['choices_designs_per_second']:,.0f}.",
        f"- {SAMPLES:,} samples of the space, drawn and measured: {batches['million_samples_seconds']:.2f} s.",
    ]
    return "\n".join(lines) + "\n"


def _rows(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    batches = record["batches"]
    exact = "training memory, exact live sum"
    yield {
        "name": f"**tables, {BATCH_DESIGNS:,} at once**",
        "counts": exact,
        "milliseconds": batches["batch_milliseconds"],
    }
    yield {"name": "tables, from choices", "counts": exact, "milliseconds": batches["choices_milliseconds"]}
    yield from (row for row in record["estimators"] if "milliseconds" in row)


def main() -> None:
    """Measures, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--designs", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # fvcore and the tracker use deprecated parts of torch
    subjects = Subjects(arguments.designs)
    record = {
        "designs": arguments.designs,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "batches": time_batches(subjects),
        "estimators": time_estimators(subjects),
    }
    here = Path(__file__)
    save_text(here.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
    summary = summarise(record)
    save_text(here.with_suffix(".md"), summary)
    print(summary)


if __name__ == "__main__":
    main()
