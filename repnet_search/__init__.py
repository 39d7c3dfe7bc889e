"""repnet-search: the Rep-Net side network that adapts a frozen backbone best within a training-memory budget.

Importing the package is cheap: what needs torch or optuna is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repnet_search.boards import Board, get_board, list_boards
    from repnet_search.errors import RepnetSearchError
    from repnet_search.export.bundle import load_model
    from repnet_search.export.plan import MemoryPlan, create_plan
    from repnet_search.graph import Schedule
    from repnet_search.memory import (
        Fit,
        FlashEstimate,
        MemoryEstimate,
        MemoryExplanation,
        NearestDesign,
        check_fit,
        compare_accounts,
        estimate_memory,
        estimate_step_seconds,
        explain_memory,
        find_nearest,
    )
    from repnet_search.report.memory_plot import save_memory_plot
    from repnet_search.results.front import best_under, pareto_front
    from repnet_search.results.record import Origin, Outcome, TrialRecord
    from repnet_search.results.storage import open_storage
    from repnet_search.results.study import StudyView, list_studies, load_study
    from repnet_search.spec.design import Design
    from repnet_search.spec.files import design_to_yaml, load_design
    from repnet_search.spec.presets import get_preset
    from repnet_search.spec.resolve import ResolvedDesign, resolve
    from repnet_search.spec.target import DeviceLimits
    from repnet_search.units import format_size, parse_size

__version__ = "0.1.0"

__all__ = [
    "Board",
    "Design",
    "DeviceLimits",
    "Fit",
    "FlashEstimate",
    "MemoryEstimate",
    "MemoryExplanation",
    "MemoryPlan",
    "NearestDesign",
    "Origin",
    "Outcome",
    "RepnetSearchError",
    "ResolvedDesign",
    "Schedule",
    "StudyView",
    "TrialRecord",
    "best_under",
    "check_fit",
    "compare_accounts",
    "create_plan",
    "design_to_yaml",
    "estimate_memory",
    "estimate_step_seconds",
    "explain_memory",
    "find_nearest",
    "format_size",
    "get_board",
    "get_preset",
    "list_boards",
    "list_studies",
    "load_design",
    "load_model",
    "load_study",
    "open_storage",
    "pareto_front",
    "parse_size",
    "resolve",
    "save_memory_plot",
]

_HOME = {
    "Board": "boards",
    "Design": "spec.design",
    "DeviceLimits": "spec.target",
    "Fit": "memory",
    "FlashEstimate": "memory",
    "MemoryEstimate": "memory",
    "MemoryExplanation": "memory",
    "MemoryPlan": "export.plan",
    "NearestDesign": "memory",
    "Origin": "results.record",
    "Outcome": "results.record",
    "RepnetSearchError": "errors",
    "ResolvedDesign": "spec.resolve",
    "Schedule": "graph",
    "StudyView": "results.study",
    "TrialRecord": "results.record",
    "best_under": "results.front",
    "check_fit": "memory",
    "compare_accounts": "memory",
    "create_plan": "export.plan",
    "design_to_yaml": "spec.files",
    "estimate_memory": "memory",
    "estimate_step_seconds": "memory",
    "explain_memory": "memory",
    "find_nearest": "memory",
    "format_size": "units",
    "get_board": "boards",
    "get_preset": "spec.presets",
    "list_boards": "boards",
    "list_studies": "results.study",
    "load_design": "spec.files",
    "load_model": "export.bundle",
    "load_study": "results.study",
    "open_storage": "results.storage",
    "pareto_front": "results.front",
    "parse_size": "units",
    "resolve": "spec.resolve",
    "save_memory_plot": "report.memory_plot",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
