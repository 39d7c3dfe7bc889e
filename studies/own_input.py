"""The main job on a user's own backbone and images: winner, last layer alone and widest on the test images.

python -m studies.own_input --weights FILE.safetensors --input-range=-1,1 --data DIR
writes own_input.json and own_input.md beside this file. Weights and images are not part of the project; the record
holds their sha256.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from studies.embedded_default import NAMES, run_command

BUDGET = "1MB"


def summarise(report: dict[str, Any], seconds: float, command: str) -> str:
    """Returns the record as Markdown."""
    settings = report["settings"]
    lines = [
        "# A real backbone and real images, searched",
        "",
        f"    {command}",
        "",
        f"Weights {settings['weights']['name']} (sha256 `{settings['weights']['sha256'][:16]}…`), images "
        f"{settings['data']['name']} (sha256 of the training and validation images "
        f"`{settings['data']['sha256'][:16]}…`), {settings['data']['proxy_images']} of them for training and "
        f"validation; {report['counts']['trained']} trained designs, the last layer's variants included, in "
        f"{seconds:.0f} s on 2 cores. The test set is read "
        "once. Written by `python -m studies.own_input`.",
        "",
        "| | memory, KiB | validation % | test % | connectors |",
        "|---|--:|--:|--:|---|",
    ]
    for name in NAMES:
        item = report["compared"][name]
        connectors = ", ".join(f"{c['after_block']} {c['exchange']}" for c in item["design"]["connectors"]) or "none"
        lines.append(
            f"| {name} | {item['ram_bytes'] / 1024:.1f} | {100 * item['validation_accuracy']:.1f} | "
            f"{100 * item['test_accuracy']:.1f} | {connectors} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the search and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--input-range", required=True)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    shown = (
        f"--resolution 96 --proxy-images 2000 --views 1 --epochs 8 --trials 12 --input-range={arguments.input_range}"
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = ["--data", str(arguments.data.resolve()), "--weights", str(arguments.weights.resolve())]
        report, seconds = run_command("run", "--budget", BUDGET, *shown.split(), *paths, folder=Path(folder))
    here = Path(__file__).with_suffix(".json")
    here.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    command = f"repnet-search run --budget {BUDGET} --data DIR --weights {arguments.weights.name} {shown}"
    summary = summarise(report, seconds, command)
    here.with_suffix(".md").write_text(summary, encoding="utf-8")
    print(summary)


if __name__ == "__main__":
    main()
