"""A network of the user's own: the nn.Module that a function of a Python file returns.

Opening the file runs it: that is what it is for, and it happens only where the user names the file. A design that was
made of it holds the network's block table, so nothing that reads a design runs the file again, but for weights that are
the module's own.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import isfunction
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import torch
from torch import Tensor, nn

from repnet_search.errors import SpecError, WeightsError, suggest
from repnet_search.spec.design import BackboneSpec

_SEED = 0
_SHOWN_FUNCTIONS = 6
_MODULE_NAME = "repnet_search_user_backbone"
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class UserModule:
    """A module in evaluation mode, the `path:function` that made it, and the sha256 of the file's text."""

    name: str
    module: nn.Module
    sha256: str


def create_user_module(name: str) -> UserModule:
    """Returns what the function of `path/to/file.py:function` returns, called without arguments.

    Random values are drawn from one fixed seed, so that two processes have the same module.

    Raises:
        SpecError: the text names no file and function, the file cannot be read or raises, or the function is missing,
            raises, or returns no nn.Module.
    """
    path_text, _, function_name = name.rpartition(":")
    path = Path(path_text)
    if not function_name.isidentifier() or path.suffix != ".py":
        raise SpecError(
            f"A backbone of your own is path/to/file.py:function, where the function returns an nn.Module, but got "
            f"{name!r}."
        )
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SpecError(f"The backbone's file {path} cannot be read: {error.strerror}.") from error
    with torch.random.fork_rng(devices=[]), _importable(path.parent):
        torch.manual_seed(_SEED)
        source = _call(lambda: _import(path), f"{path} raised {{}} when it was imported")
        function = getattr(source, function_name, None)
        if not callable(function):
            raise SpecError(f"{path} has no function {function_name!r}{_offer(function_name, source)}")
        module = _call(function, f"{name}() raised {{}}")
    if not isinstance(module, nn.Module):
        raise SpecError(f"{name}() must return an nn.Module, but returned {module!r:.60}.")
    return UserModule(name, module.eval(), hashlib.sha256(text).hexdigest())


def load_own_state(backbone: BackboneSpec) -> dict[str, Tensor]:
    """Returns the values of a traced backbone's module as its function constructs them; this runs the user's file.

    Raises:
        SpecError: the file cannot be used.
        WeightsError: the file has changed since it was traced.
    """
    user = create_user_module(backbone.name)
    if backbone.traced is None or user.sha256 != backbone.traced.sha256:
        raise WeightsError(
            f"{backbone.name.rpartition(':')[0]} has changed since the backbone was traced from it; trace it again by "
            "naming it with --backbone, or give weights with --weights."
        )
    return {key: value.detach() for key, value in user.module.state_dict().items()}


def _offer(function_name: str, source: ModuleType) -> str:
    """Returns the end of a sentence: the function that was meant, or those that a module defines itself."""
    names = [
        name
        for name, value in vars(source).items()
        if isfunction(value) and value.__module__ == _MODULE_NAME and not name.startswith("_")
    ]
    if near := suggest(function_name, names):
        return f".{near}"
    return f"; it has {', '.join(names[:_SHOWN_FUNCTIONS])}." if names else "; it has none."


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(_MODULE_NAME, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _call(run: Callable[[], Result], sentence: str) -> Result:
    """Returns what the user's code gives; its own traceback hangs on the error for --debug."""
    try:
        return run()
    except (Exception, SystemExit) as error:
        detail = str(error).strip().splitlines()
        what = f"{type(error).__name__}{': ' + detail[0] if detail else ''}"
        raise SpecError(f"{sentence.format(what)}; run with --debug for its traceback.") from error


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Lets a file import its neighbours, as a script does."""
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)
