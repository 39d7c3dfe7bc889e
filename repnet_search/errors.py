"""Every error that repnet-search raises on purpose.

    RepnetSearchError            exit code 1: one sentence that states the rule, the value and the way out
    ├── UsageError               exit code 2: an option's text cannot be read (sizes too)
    ├── OverBudgetError          exit code 3: nothing fits the budget, or this design does not
    ├── SpecError                a design, space or other YAML file is not what it should be
    ├── DataError                the images cannot be used as they are
    ├── WeightsError             the weights do not belong to the backbone, or cannot be read
    └── StudyError               a study, its storage or its folder cannot be used as asked

Anything else that escapes is a bug; the command line then shows its type and asks for `--debug`.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class RepnetSearchError(Exception):
    """The base of all errors that are meant for the user."""

    exit_code = 1


class UsageError(RepnetSearchError):
    """An option's text cannot be read."""

    exit_code = 2


class OverBudgetError(RepnetSearchError):
    """No design fits the budget, or the given one does not."""

    exit_code = 3


class SpecError(RepnetSearchError):
    """A design, space or other YAML file is not what it should be."""


class DataError(RepnetSearchError):
    """The images cannot be used as they are."""


class WeightsError(RepnetSearchError):
    """The weights do not belong to the backbone, or cannot be read."""


class StudyError(RepnetSearchError):
    """A study, its storage or its folder cannot be used as asked."""


def describe_os_error(error: OSError) -> str:
    """Returns a sentence for what the operating system refused, such as a full disk."""
    what = f"{error.strerror or type(error).__name__}{f' ({error.filename})' if error.filename else ''}"
    if error.errno in _FULL:
        return f"{what}; make room, or use another folder. What was finished is kept."
    if error.errno == errno.ENOENT:
        return f"{what}; make its folder first, or use another one."
    return f"{what}; use another file or folder, or change its permissions."


def suggest(name: str, known: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the nearest known name, or "" where none is near.

    >>> suggest("resolutoin", ["resolution", "recipe"])
    " Did you mean 'resolution'?"
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""
