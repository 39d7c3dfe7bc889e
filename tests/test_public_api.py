from __future__ import annotations

import subprocess
import sys

import repnet_search


def test_all_is_sorted_and_complete() -> None:
    assert repnet_search.__all__ == sorted(repnet_search.__all__)
    for name in repnet_search.__all__:
        assert getattr(repnet_search, name) is not None


def test_importing_the_package_and_the_command_line_stays_cheap() -> None:
    code = (
        "import sys, repnet_search, repnet_search.cli.main;"
        "print([name for name in ('torch', 'optuna', 'streamlit', 'pydantic', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_estimate_needs_no_torch() -> None:
    code = (
        "import sys; from repnet_search import Design, estimate_memory, resolve;"
        "print(estimate_memory(resolve(Design(connectors=())), classes=10).ram_bytes, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == "False"
