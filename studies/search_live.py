"""One live search per task of studies/search_quality.py, to confirm what the replay says.

python -m studies.search_live digits
python -m studies.search_live cifar --weights FILE.safetensors --input-range=-1,1 --data DIR

runs `repnet-search run` on the task's space with one worker, and compares what it trained, when it was as good as a
random search with plain training is at its end, and each accuracy with the table's. Writes studies/search_live_TASK.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np

from repnet_search.cli.main import run_cli
from repnet_search.results.record import Outcome, TrialRecord
from repnet_search.results.study import StudyView, load_study
from repnet_search.spec.files import dump_yaml, save_text
from studies.recording import add_recording_options
from studies.replay import Table, load_table, random_with_plain_training, time_to
from studies.search_table import TASKS

SEEDS = 20
"""Of the random search that is matched, as in studies/search_quality.py."""


def search_live(name: str, arguments: argparse.Namespace) -> StudyView:
    """Returns the study of a search in an empty folder."""
    task = TASKS[name]
    options = ["--budget", str(task.budget_bytes), "--epochs", str(task.training.epochs)]
    options += ["--views", str(task.training.views), "--workers", "1", "--confirm", "0", "--study", "live"]
    if arguments.weights is not None:
        options += ["--weights", str(arguments.weights.resolve()), f"--input-range={arguments.input_range}"]
    if arguments.data is not None:
        options += ["--data", str(arguments.data.resolve()), "--proxy-images", str(task.proxy_images)]
    started_in = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        save_text(Path("space.yaml"), dump_yaml(task.space.model_dump(mode="json")))
        code = run_cli(["run", "--space", "space.yaml", *options])
        if code:
            raise SystemExit(code)
        view = load_study("live")
        os.chdir(started_in)
    return view


def summarise(table: Table, view: StudyView) -> str:
    """Returns the comparison as Markdown."""
    plain = [random_with_plain_training(table, seed=seed) for seed in range(SEEDS)]
    horizon, matched = np.median([curve[-1] for curve in plain], axis=0)
    trained = [record for record in view.records if record.outcome is Outcome.TRAINED]
    seconds = np.cumsum([record.elapsed_seconds for record in trained])
    accuracies = [record.validation_accuracy or 0.0 for record in trained]
    curve = list(zip(map(float, seconds), map(float, np.maximum.accumulate(accuracies)), strict=True))
    off = [abs(accuracy - _recorded(table, record)) for accuracy, record in zip(accuracies, trained, strict=True)]
    share = time_to(curve, float(matched)) / horizon
    when = f"after {share:.2f} of its time" if np.isfinite(share) else "never"
    lines = [
        f"# The replay confirmed live: {table.name}",
        "",
        f"`repnet-search run` on the task's space, one worker, {len(trained)} trainings, the last layer alone among "
        f"them, {seconds[-1]:.0f} s. Written by `python -m studies.search_live {table.name}`.",
        "",
        f"- The best has {100 * max(accuracies):.1f} %, the best of all {len(table.designs)} designs "
        f"{100 * table.best:.1f} %.",
        f"- A random search with plain training has {100 * matched:.1f} % after 24 designs and {horizon:.0f} s, the "
        f"medians of {SEEDS} seeds; this search has as much {when}.",
        f"- {sum(item < 1e-4 for item in off)} of {len(off)} trainings have the accuracy that the table has; the "
        f"largest difference is {100 * max(off):.1f} points.",
    ]
    return "\n".join(lines) + "\n"


def _recorded(table: Table, record: TrialRecord) -> float:
    return float(table.designs[record.design_id]["curve"][-1])


def main() -> None:
    """Searches, prints the comparison and writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    add_recording_options(parser)
    arguments = parser.parse_args()
    table = load_table(Path(__file__).parent.resolve() / f"search_table_{arguments.task}.json")
    text = summarise(table, search_live(arguments.task, arguments))
    print(text, end="")
    save_text(arguments.folder.resolve() / f"search_live_{arguments.task}.md", text)


if __name__ == "__main__":
    main()
