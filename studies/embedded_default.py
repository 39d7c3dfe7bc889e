"""The main job on the embedded default, over independent searches: test accuracy of winner, last layer and widest.

python -m studies.embedded_default --seeds 3        writes embedded_default.json and .md beside this file
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from repnet_search.results.statistics import mean_and_interval

BUDGET = "256KB"
SMALLER_BUDGET = "128KB"
NAMES = ("winner", "last layer alone", "widest fitting")


def run_command(*arguments: str, folder: Path) -> tuple[dict[str, Any], float]:
    """Returns a command's JSON and its wall seconds."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "repnet_search", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout), time.perf_counter() - started


def search(seed: int, options: list[str]) -> dict[str, Any]:
    """Returns what one search found, in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report, seconds = run_command("run", "--budget", BUDGET, "--seed", str(seed), *options, folder=folder)
        smaller, _ = run_command("best", "--study", report["study"], "--budget", SMALLER_BUDGET, folder=folder)
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "counts": report["counts"],
        "settings": report["settings"],
        "compared": report["compared"],
        f"best under {SMALLER_BUDGET}": smaller["design"],
    }


def summarise(searches: list[dict[str, Any]]) -> str:
    """Returns the record as Markdown."""
    settings = searches[0]["settings"]
    lines = [
        "# The embedded default, searched",
        "",
        f"`repnet-search run --budget {BUDGET}` on {settings['data']['name']} with weights "
        f"{settings['weights']['name']} (sha256 `{settings['weights']['sha256'][:16]}…`), {len(searches)} independent "
        "searches. The last layer alone may choose among the same recipes and resolutions, with the same epochs; every "
        "choice is made on validation images. Test accuracies are means over the three seeds of the confirmation, "
        "which trains twice as long, each seed on its own 100 of the 500 images that train and validate; the 1297 test "
        "images are read once. Seconds are wall time, whatever else ran meanwhile. Written by `python -m "
        "studies.embedded_default`.",
        "",
        "| seed | seconds | trained, with the last layer's variants | winner, test % | last layer alone, test % | "
        f"widest fitting, test % | winner, KiB | best under {SMALLER_BUDGET}, validation % |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for item in searches:
        tests = " | ".join(f"{100 * item['compared'][name]['test_accuracy']:.1f}" for name in NAMES)
        smaller = item[f"best under {SMALLER_BUDGET}"]
        lines.append(
            f"| {item['seed']} | {item['seconds']:.0f} | {item['counts']['trained']} | {tests} | "
            f"{item['compared']['winner']['ram_bytes'] / 1024:.1f} | {100 * smaller['validation_accuracy']:.1f} "
            f"({smaller['ram_bytes'] / 1024:.1f} KiB) |"
        )
    lines += ["", "| | test accuracy, mean ± half the 95 % interval |", "|---|--:|"]
    for name in NAMES:
        mean, half = mean_and_interval([100 * item["compared"][name]["test_accuracy"] for item in searches])
        lines.append(f"| {name} | {mean:.1f} ± {half:.1f} % |")
    gains = [
        100 * (item["compared"]["winner"]["test_accuracy"] - item["compared"]["last layer alone"]["test_accuracy"])
        for item in searches
    ]
    mean, half = mean_and_interval(gains)
    lines.append(f"| winner over last layer alone | {mean:+.1f} ± {half:.1f} points |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the searches and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--option", action="append", default=[], help="passed on to `repnet-search run`")
    arguments = parser.parse_args()
    searches = []
    for seed in range(arguments.seeds):
        searches.append(search(seed, arguments.option))
        print(f"seed {seed}: {searches[-1]['seconds']} s", flush=True)
    here = Path(__file__).with_suffix(".json")
    record = {"python": platform.python_version(), "searches": searches}
    here.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    summary = summarise(searches)
    here.with_suffix(".md").write_text(summary, encoding="utf-8")
    print(summary)


if __name__ == "__main__":
    main()
