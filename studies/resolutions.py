"""Pixels or connectors: searches in which the resolution is part of the design, at several budgets and schedules.

python -m studies.resolutions --weights FILE.safetensors --input-range=-1,1 --data DIR [--to studies/resolutions]

In int8; a search per budget and schedule, each reading the test set once. Writes a JSON file and a Markdown file.
Weights and images are not part of the project; the record holds their sha256.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from repnet_search.spec.files import save_text
from studies.embedded_default import run_command

BUDGETS = ("128KB", "192KB", "256KB")
SCHEDULES = ("layer", "streamed")
RESOLUTIONS = (48, 64, 80, 96, 112, 128)


def search(arguments: argparse.Namespace, budget: str, schedule: str) -> dict[str, Any]:
    """Returns what one search found, in a folder of its own."""
    paths = ["--data", str(arguments.data.resolve()), "--weights", str(arguments.weights.resolve())]
    with tempfile.TemporaryDirectory() as name:
        options = ["--budget", budget, "--schedule", schedule, *_options(arguments)]
        report, seconds = run_command("run", *options, *paths, folder=Path(name))
    kept = {key: report[key] for key in ("counts", "settings", "space", "front", "compared")}
    return {"budget": budget, "schedule": schedule, "seconds": round(seconds, 1), **kept}


def _options(arguments: argparse.Namespace) -> list[str]:
    return [
        *("--activation-bits", "8"),
        *(part for resolution in RESOLUTIONS for part in ("--resolution", str(resolution))),
        *("--proxy-images", str(arguments.proxy_images), "--views", "1", "--epochs", str(arguments.epochs)),
        *("--trials", str(arguments.trials), "--seed", str(arguments.seed)),
        *("--confirm", "3", "--confirm-seeds", "2", "--confirm-epochs", str(arguments.epochs)),
        f"--input-range={arguments.input_range}",
    ]


def summarise(searches: list[dict[str, Any]], arguments: argparse.Namespace) -> str:
    """Returns the record as Markdown."""
    settings = searches[0]["settings"]
    lines = [
        "# Pixels or connectors",
        "",
        f"    repnet-search run --budget BUDGET --schedule SCHEDULE {' '.join(_options(arguments))} --data DIR "
        f"--weights {arguments.weights.name}",
        "",
        f"Weights {settings['weights']['name']} (sha256 `{settings['weights']['sha256'][:16]}…`), images "
        f"{settings['data']['name']} (sha256 of the training and validation images "
        f"`{settings['data']['sha256'][:16]}…`), {settings['data']['proxy_images']} of them for training and "
        "validation, int8; one search per row, whose best designs are confirmed by two seeds. Test accuracies are "
        "means over these; the test set is read once in each search. Written by `python -m studies.resolutions`.",
        "",
        "| budget | schedule | space that fits | winner | memory, KiB | test % | last layer alone | test % | gain |",
        "|---|---|--:|---|--:|--:|---|--:|--:|",
        *(_row(item) for item in searches),
        "",
        "Validation accuracy in percent of the best design at each resolution on the front of each search:",
        "",
        f"| budget | schedule | {' | '.join(f'{resolution} px' for resolution in RESOLUTIONS)} |",
        f"|---|---|{'--:|' * len(RESOLUTIONS)}",
        *(_front_row(item) for item in searches),
    ]
    return "\n".join(lines) + "\n"


def _row(item: dict[str, Any]) -> str:
    winner, last = item["compared"]["winner"], item["compared"]["last layer alone"]
    tests = [100 * design["test_accuracy"] for design in (winner, last)]
    return (
        f"| {item['budget']} | {item['schedule']} | {100 * item['space']['fitting_share']:.2f} % | "
        f"{winner['design']['resolution']} px, {_connectors(winner)} | {winner['ram_bytes'] / 1024:.1f} | "
        f"{tests[0]:.1f} | {last['design']['resolution']} px | {tests[1]:.1f} | {tests[0] - tests[1]:+.1f} |"
    )


def _connectors(design: dict[str, Any]) -> str:
    listed = design["design"]["connectors"]
    return ", ".join(f"{item['after_block']} {item['exchange']}" for item in listed) or "none"


def _front_row(item: dict[str, Any]) -> str:
    cells = []
    for resolution in RESOLUTIONS:
        found = [d["validation_accuracy"] for d in item["front"] if d["design"]["resolution"] == resolution]
        cells.append(f"{100 * max(found):.1f}" if found else "–")
    return f"| {item['budget']} | {item['schedule']} | {' | '.join(cells)} |"


def main() -> None:
    """Runs the searches and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--input-range", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--proxy-images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--to", type=Path, default=Path(__file__).with_suffix(""), help="the record, without its suffix"
    )
    arguments = parser.parse_args()
    searches = []
    for schedule in SCHEDULES:
        for budget in BUDGETS:
            searches.append(search(arguments, budget, schedule))
            print(f"{budget}, {schedule}: {searches[-1]['seconds']} s", flush=True)
            save_text(arguments.to.with_suffix(".json"), json.dumps(searches, indent=1, ensure_ascii=False) + "\n")
    summary = summarise(searches, arguments)
    save_text(arguments.to.with_suffix(".md"), summary)
    print(summary)


if __name__ == "__main__":
    main()
