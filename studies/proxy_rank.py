"""Whether the short training of a search ranks designs as a long one does: the default is chosen from this.

python -m studies.proxy_rank digits [--designs 60]
python -m studies.proxy_rank cifar --weights FILE.safetensors --input-range=-1,1 --data DIR [--designs 60]

trains designs of the default space that fit 256KB, as many from each stratum of memory, for long (from two seeds,
measured on the test images) and in each setting of the proxy, and writes studies/proxy_rank_TASK.json (a line per
design) and studies/proxy_rank_TASK.md. An interrupted recording goes on. Weights and images are not part of the
project; the record holds their sha256.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from repnet_search.data import Split
from repnet_search.models.repnet import RepNet
from repnet_search.search.canonical import CanonicalChoices
from repnet_search.search.confirm import LONGER
from repnet_search.search.feasible import Candidate, FeasibleSpace
from repnet_search.search.rungs import rung_epochs
from repnet_search.search.space import SearchSpace
from repnet_search.spec import BackboneSpec
from repnet_search.spec.bundled import load_space
from repnet_search.spec.files import save_text
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.spec.space import SpaceSpec
from repnet_search.spec.target import DeviceLimits
from repnet_search.spec.training import FeatureType, TrainingSpec
from repnet_search.training.evaluate import measure_test_accuracies
from repnet_search.training.features import layout_on, load_features
from repnet_search.training.proxy import Rungs, TrainingDivergedError, create_model, train_design
from repnet_search.training.task import Task, TaskOptions, load_task
from studies.proxy_rank_report import summarise
from studies.recording import (
    Line,
    add_recording_options,
    describe_task,
    load_lines,
    make_task_options,
    record_all,
    save_lines,
)

BUDGET_BYTES = 256 * 1024
STRATA = 6
DRAWN_PER_STRATUM = 2000
LONG_SEEDS = (1, 2)
"""Of the long training; the proxy's is 0, so that no start is shared."""

REDUCTION = 3
"""Of the rungs at which the default proxy is looked at."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A way to train: epochs, images that train and validate (None: all there are), how features are kept."""

    epochs: int
    images: int | None
    kind: FeatureType = FeatureType.FP32


@dataclass(frozen=True, slots=True)
class RankTask:
    """What is trained on: changes to the default space, the default training, its images and half as many."""

    training: TrainingSpec
    images: int | None
    fewer_images: int
    changes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def space(self) -> SpaceSpec:
        """The space that designs are drawn from."""
        return load_space("default").model_copy(update=self.changes)

    @property
    def settings(self) -> dict[str, Setting]:
        """The proxies; an int8 backbone's features are bytes in any case, so its cache has no other types."""
        epochs = self.training.epochs
        found = {
            "default": Setting(epochs, self.images),
            "half": Setting(round(epochs / 2), self.images),
            "third": Setting(round(epochs / 3), self.fewer_images),
        }
        if 32 in self.space.activation_bits:
            found |= {kind.value: Setting(epochs, self.images, kind) for kind in (FeatureType.FP16, FeatureType.UINT8)}
        return found

    @property
    def long(self) -> Setting:
        """The long training: that of a search's confirmation."""
        return Setting(LONGER * self.training.epochs, self.images)


TASKS = {
    "digits": RankTask(TrainingSpec(epochs=10, views=8), images=None, fewer_images=250),
    "cifar": RankTask(
        TrainingSpec(epochs=8, views=1),
        images=2000,
        fewer_images=1000,
        changes={"resolution": (96,), "activation_bits": (8,)},
    ),
}


@dataclass(frozen=True, slots=True)
class RankedDesign:
    """A design of the sample, its stratum of memory from 0, and its choices."""

    stratum: int
    choices: tuple[int, ...]
    candidate: Candidate


def create_feasible(task: RankTask) -> FeasibleSpace:
    """Returns a task's space under the budget."""
    return FeasibleSpace(SearchSpace(task.space, BackboneSpec()), limits=DeviceLimits(BUDGET_BYTES), classes=10)


def draw_designs(feasible: FeasibleSpace, designs: int) -> list[RankedDesign]:
    """Returns designs from strata of equal width in bytes, in turn; a larger sample begins with the smaller one."""
    least = feasible.smallest().memory.ram_bytes
    edges = np.linspace(least, feasible.limits.ram_bytes, STRATA + 1).astype(int).tolist()
    strata = [_draw_stratum(feasible, number, edges[number], edges[number + 1]) for number in range(STRATA)]
    in_turn = (design for turn in itertools.zip_longest(*strata) for design in turn if design is not None)
    return list(itertools.islice(in_turn, designs))


def _draw_stratum(feasible: FeasibleSpace, stratum: int, low: int, high: int) -> Iterator[RankedDesign]:
    """Yields designs whose memory is above `low` (for the first: at least) and at most `high`, each once."""
    memory = feasible.fitting.memory
    drawn = feasible.fitting.draw(DRAWN_PER_STRATUM, seed=(0, stratum), limit_bytes=high).sample
    rows = CanonicalChoices(feasible.space)(drawn.choices[drawn.ram_bytes >= low + (stratum > 0)])
    known = set()
    for row in rows:
        candidate = feasible.candidate(memory.params(row))
        if candidate.resolved.id not in known and candidate.memory.ram_bytes <= high:
            known.add(candidate.resolved.id)
            yield RankedDesign(stratum, tuple(row.tolist()), candidate)


class Recorder:
    """Trains designs of a task in one process."""

    def __init__(self, name: str, options: TaskOptions) -> None:
        self.rank_task = TASKS[name]
        self._options = options
        self._tasks: dict[int | None, Task] = {}

    def record(self, job: RankedDesign) -> Line:
        """Returns a design's line: what it reached in every way to train, and the CPU seconds of each."""
        resolved, rank_task = job.candidate.resolved, self.rank_task
        long = [self._train(resolved, rank_task.long, seed=seed) for seed in LONG_SEEDS]
        looks = {"default": rung_epochs(rank_task.training.epochs, reduction=REDUCTION)}
        proxies = {
            name: self._train(resolved, setting, seed=0, rungs=looks.get(name, ()))[1]
            for name, setting in rank_task.settings.items()
        }
        return {
            "id": resolved.id,
            "stratum": job.stratum,
            "choices": job.choices,
            "ram_bytes": job.candidate.memory.ram_bytes,
            "trainable_parameters": job.candidate.memory.trainable_parameters,
            "test": self._test([model for model, _ in long], resolved),
            "long": [line for _, line in long],
            "proxies": proxies,
        }

    def _train(
        self, resolved: ResolvedDesign, setting: Setting, *, seed: int, rungs: Collection[int] = ()
    ) -> tuple[RepNet | None, Line]:
        """Returns a trained model and how it did; what diverges has no model, and is worse than all others."""
        changes = {"epochs": setting.epochs, "seed": seed, "feature_cache_type": setting.kind}
        training, task = self.rank_task.training.model_copy(update=changes), self._task(setting.images)
        _keep_features(resolved, task, training)
        seen = dict.fromkeys(map(str, rungs), 0.0)  # as JSON has it

        def judge(epoch: int, accuracy: float) -> bool:
            seen[str(epoch)] = round(accuracy, 5)
            return True

        model, accuracy, started = None, 0.0, time.process_time()
        try:
            model, result = train_design(resolved, task, training, rungs=Rungs(rungs, judge))
            accuracy = result.validation_accuracy
        except TrainingDivergedError:
            pass
        line = {"validation": round(accuracy, 5), "cpu_seconds": round(time.process_time() - started, 3)}
        return model, line | ({"rungs": seen} if rungs else {})

    def _test(self, models: list[RepNet | None], resolved: ResolvedDesign) -> list[float]:
        """Returns the test accuracy of each of a design's models."""
        trained = [model for model in models if model is not None]
        task = self._task(self.rank_task.images)
        found = iter(measure_test_accuracies(trained, resolved.design, task) if trained else [])
        return [0.0 if model is None else round(next(found), 5) for model in models]

    def _task(self, images: int | None) -> Task:
        if images not in self._tasks:
            self._tasks[images] = load_task(replace(self._options, proxy_images=images), BackboneSpec())
        return self._tasks[images]


def _keep_features(resolved: ResolvedDesign, task: Task, training: TrainingSpec) -> None:
    """Makes the frozen features that a training reads: all designs share them, so no single one is to pay for them."""
    model = create_model(resolved, task, seed=0).to(memory_format=layout_on(task.device))  # type: ignore[call-overload]
    for split in (Split.TRAIN, Split.VALIDATION):
        load_features(model, resolved, task, split, training)


def describe(name: str, options: TaskOptions) -> Line:
    """Returns what the record is of."""
    rank_task, task = TASKS[name], load_task(options, BackboneSpec())
    fewer = load_task(replace(options, proxy_images=rank_task.fewer_images), BackboneSpec())
    counts = {str(rank_task.images): task, str(rank_task.fewer_images): fewer}
    return {
        "task": name,
        "budget_bytes": BUDGET_BYTES,
        "space": rank_task.space.model_dump(mode="json"),
        "training": rank_task.training.model_dump(mode="json"),
        "long": {"epochs": rank_task.long.epochs, "seeds": LONG_SEEDS},
        "proxies": {
            key: {"epochs": setting.epochs, "images": str(setting.images), "features": setting.kind.value}
            for key, setting in rank_task.settings.items()
        },
        "images": {key: [item.source.count(split) for split in Split] for key, item in counts.items()},
        **describe_task(task, proxy_images=rank_task.images),
    }


def record(path: Path, about: Line, arguments: argparse.Namespace, options: TaskOptions) -> list[Line]:
    """Returns the lines of all designs, those that the record has not got yet trained and added to it."""
    lines = load_lines(path)
    known = {line["id"] for line in lines}
    sample = draw_designs(create_feasible(TASKS[arguments.task]), arguments.designs)
    jobs = [job for job in sample if job.candidate.resolved.id not in known]
    print(f"{len(sample) - len(jobs)} designs recorded, {len(jobs)} to go", flush=True)
    started = time.perf_counter()
    recorded = record_all(partial(Recorder, arguments.task, options), jobs, workers=arguments.workers)
    for done, line in enumerate(recorded, start=1):
        lines.append(line)
        save_lines(path, about, lines)  # a design takes a minute: none is lost to Ctrl-C
        left = (time.perf_counter() - started) / done * (len(jobs) - done)
        print(
            f"{done} of {len(jobs)}: {line['id'][:8]}, test {max(line['test']):.3f}; {left / 60:.0f} min left",
            flush=True,
        )
    return lines


def main() -> None:
    """Records a ranking, or goes on with one, and writes what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--designs", type=int, default=60)
    add_recording_options(parser)
    arguments = parser.parse_args()
    if arguments.task == "cifar" and not (arguments.weights and arguments.data):
        parser.error("the task cifar needs --weights FILE and --data DIR")
    options = make_task_options(arguments, proxy_images=TASKS[arguments.task].images)
    path = arguments.folder / f"proxy_rank_{arguments.task}.json"
    about = json.loads(json.dumps(describe(arguments.task, options)))
    if path.exists() and json.loads(path.read_text())["about"] != about:
        parser.error(f"{path} is a record of other weights, images or settings; move it away, or use another --folder")
    summary = summarise(about, record(path, about, arguments, options))
    save_text(path.with_suffix(".md"), summary)
    print(summary)


if __name__ == "__main__":
    main()
