"""The main job on a user's own backbone and images, over independent searches.

python -m studies.own_input --weights FILE.safetensors --input-range=-1,1 --data DIR [--budget 256KB]
    [--activation-bits 8] [--seeds 3] [--to studies/own_input]

writes a JSON file and a Markdown file: test accuracy of the winner, the last layer alone and the widest fitting design.
Weights and images are not part of the project; the record holds their sha256.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from repnet_search.results.statistics import mean_and_interval
from repnet_search.spec.files import save_text
from studies.embedded_default import NAMES, run_command


def search(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Returns what one search found, in a folder of its own."""
    paths = ["--data", str(arguments.data.resolve()), "--weights", str(arguments.weights.resolve())]
    with tempfile.TemporaryDirectory() as folder:
        command = ["run", *_options(arguments), "--seed", str(seed), *paths]
        report, seconds = run_command(*command, folder=Path(folder))
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        **{key: report[key] for key in ("counts", "settings", "compared")},
    }


def _options(arguments: argparse.Namespace) -> list[str]:
    """Returns the options of `repnet-search run` that the record shows."""
    return [
        *("--budget", arguments.budget),
        *("--activation-bits", str(arguments.activation_bits)),
        *("--schedule", arguments.schedule),
        *("--resolution", str(arguments.resolution)),
        *("--proxy-images", str(arguments.proxy_images)),
        *("--views", "1", "--epochs", str(arguments.epochs)),
        *("--trials", str(arguments.trials)),
        *("--confirm", str(arguments.confirm), "--confirm-epochs", str(arguments.epochs)),
        f"--input-range={arguments.input_range}",
    ]


def summarise(searches: list[dict[str, Any]], command: str) -> str:
    """Returns the record as Markdown."""
    settings = searches[0]["settings"]
    lines = [
        "# A real backbone and real images, searched",
        "",
        f"    {command}",
        "",
        f"Weights {settings['weights']['name']} (sha256 `{settings['weights']['sha256'][:16]}…`), images "
        f"{settings['data']['name']} (sha256 of the training and validation images "
        f"`{settings['data']['sha256'][:16]}…`), {settings['data']['proxy_images']} of them for training and "
        f"validation; {len(searches)} independent searches on 2 cores, whose best designs are confirmed by three seeds "
        "each (as long as in the search: so few images are over-fitted soon). Validation is the search's accuracy, "
        "test the mean over those seeds; the test set is read once in each search. Written by "
        "`python -m studies.own_input`.",
        "",
        "| seed | seconds | | memory, KiB | validation % | test % | connectors |",
        "|--:|--:|---|--:|--:|--:|---|",
    ]
    for item in searches:
        lines += [_row(item, name) for name in NAMES]
    if len(searches) > 1:
        lines += ["", "| | test accuracy, mean ± half the 95 % interval |", "|---|--:|"]
        for name in NAMES:
            mean, half = mean_and_interval([100 * item["compared"][name]["test_accuracy"] for item in searches])
            lines.append(f"| {name} | {mean:.1f} ± {half:.1f} % |")
        mean, half = mean_and_interval([_gain(item) for item in searches])
        lines.append(f"| winner over last layer alone | {mean:+.1f} ± {half:.1f} points |")
    return "\n".join(lines) + "\n"


def _row(item: dict[str, Any], name: str) -> str:
    design = item["compared"][name]
    connectors = ", ".join(f"{c['after_block']} {c['exchange']}" for c in design["design"]["connectors"]) or "none"
    return (
        f"| {item['seed']} | {item['seconds']:.0f} | {name} | {design['ram_bytes'] / 1024:.1f} | "
        f"{100 * design['validation_accuracy']:.1f} | {100 * design['test_accuracy']:.1f} | {connectors} |"
    )


def _gain(item: dict[str, Any]) -> float:
    compared = item["compared"]
    return 100 * float(compared["winner"]["test_accuracy"] - compared["last layer alone"]["test_accuracy"])


def main() -> None:
    """Runs the searches and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--input-range", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--budget", default="256KB")
    parser.add_argument("--activation-bits", type=int, choices=(8, 32), default=8)
    parser.add_argument("--schedule", default="layer")
    parser.add_argument("--resolution", type=int, default=96)
    parser.add_argument("--proxy-images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--confirm", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--to", type=Path, default=Path(__file__).with_suffix(""), help="the record, without its suffix"
    )
    arguments = parser.parse_args()
    command = f"repnet-search run {' '.join(_options(arguments))} --data DIR --weights {arguments.weights.name}"
    searches = []
    for seed in range(arguments.seeds):
        searches.append(search(arguments, seed))
        print(f"seed {seed}: {searches[-1]['seconds']} s", flush=True)
        # Written each time: a search takes a quarter of an hour.
        record = json.dumps(searches, indent=1, ensure_ascii=False) + "\n"
        save_text(arguments.to.with_suffix(".json"), record)
        save_text(arguments.to.with_suffix(".md"), summarise(searches, command))
    print(summarise(searches, command))


if __name__ == "__main__":
    main()
