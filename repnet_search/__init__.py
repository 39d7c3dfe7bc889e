"""repnet-search: the Rep-Net side network that adapts a frozen backbone best within a training-memory budget.

Importing the package is cheap: what needs torch or optuna is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repnet_search.backbones import list_backbones
    from repnet_search.boards import BOARD_RESERVE_BYTES, Board, get_board, list_boards
    from repnet_search.errors import RepnetSearchError
    from repnet_search.export.bundle import load_model
    from repnet_search.export.plan import MemoryPlan, create_plan
    from repnet_search.export.trial import TrialEvaluation, evaluate_trial
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
    from repnet_search.report import figures
    from repnet_search.report.memory_plot import save_memory_plot
    from repnet_search.results.front import best_under, pareto_front
    from repnet_search.results.record import Origin, Outcome, TrialRecord
    from repnet_search.results.storage import load_optuna_study, open_storage
    from repnet_search.results.study import StudyView, list_studies, load_study
    from repnet_search.search.importance import StudyImportance, measure_importance
    from repnet_search.spec.design import Connector, Design, Exchange, ModuleInput, Norm, Optimizer
    from repnet_search.spec.files import design_to_yaml, load_design, validate_spec
    from repnet_search.spec.presets import get_preset
    from repnet_search.spec.resolve import ResolvedDesign, resolve
    from repnet_search.spec.target import DeviceLimits
    from repnet_search.units import format_count, format_number, format_size, parse_size

__version__ = "0.1.0"

__all__ = [
    "BOARD_RESERVE_BYTES",
    "Board",
    "Connector",
    "Design",
    "DeviceLimits",
    "Exchange",
    "Fit",
    "FlashEstimate",
    "MemoryEstimate",
    "MemoryExplanation",
    "MemoryPlan",
    "ModuleInput",
    "NearestDesign",
    "Norm",
    "Optimizer",
    "Origin",
    "Outcome",
    "RepnetSearchError",
    "ResolvedDesign",
    "Schedule",
    "StudyImportance",
    "StudyView",
    "TrialEvaluation",
    "TrialRecord",
    "best_under",
    "check_fit",
    "compare_accounts",
    "create_plan",
    "design_to_yaml",
    "estimate_memory",
    "estimate_step_seconds",
    "evaluate_trial",
    "explain_memory",
    "figures",
    "find_nearest",
    "format_count",
    "format_number",
    "format_size",
    "get_board",
    "get_preset",
    "list_backbones",
    "list_boards",
    "list_studies",
    "load_design",
    "load_model",
    "load_optuna_study",
    "load_study",
    "measure_importance",
    "open_storage",
    "pareto_front",
    "parse_size",
    "resolve",
    "save_memory_plot",
    "validate_spec",
]

_HOME = {
    "BOARD_RESERVE_BYTES": "boards",
    "Board": "boards",
    "Connector": "spec.design",
    "Design": "spec.design",
    "DeviceLimits": "spec.target",
    "Exchange": "spec.design",
    "Fit": "memory",
    "FlashEstimate": "memory",
    "MemoryEstimate": "memory",
    "MemoryExplanation": "memory",
    "MemoryPlan": "export.plan",
    "ModuleInput": "spec.design",
    "NearestDesign": "memory",
    "Norm": "spec.design",
    "Optimizer": "spec.design",
    "Origin": "results.record",
    "Outcome": "results.record",
    "RepnetSearchError": "errors",
    "ResolvedDesign": "spec.resolve",
    "Schedule": "graph",
    "StudyImportance": "search.importance",
    "StudyView": "results.study",
    "TrialEvaluation": "export.trial",
    "TrialRecord": "results.record",
    "best_under": "results.front",
    "check_fit": "memory",
    "compare_accounts": "memory",
    "create_plan": "export.plan",
    "design_to_yaml": "spec.files",
    "estimate_memory": "memory",
    "estimate_step_seconds": "memory",
    "evaluate_trial": "export.trial",
    "explain_memory": "memory",
    "figures": "report.figures",
    "find_nearest": "memory",
    "format_count": "units",
    "format_number": "units",
    "format_size": "units",
    "get_board": "boards",
    "get_preset": "spec.presets",
    "list_backbones": "backbones",
    "list_boards": "boards",
    "list_studies": "results.study",
    "load_design": "spec.files",
    "load_model": "export.bundle",
    "load_optuna_study": "results.storage",
    "load_study": "results.study",
    "measure_importance": "search.importance",
    "open_storage": "results.storage",
    "pareto_front": "results.front",
    "parse_size": "units",
    "resolve": "spec.resolve",
    "save_memory_plot": "report.memory_plot",
    "validate_spec": "spec.files",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_HOME[name]}")
    return module if name == "figures" else getattr(module, name)  # the one name that is a whole module


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
