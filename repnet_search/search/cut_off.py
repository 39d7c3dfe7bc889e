"""Trials whose process was killed: they are ended with their reason, and their designs are queued to be tried again.

Each trial is marked with the process that took it. One without a mark was taken by a process that was killed at that
moment, provided that nobody is taking one just then, which a lock makes sure of.
"""

from __future__ import annotations

import json
import os
import socket
from enum import StrEnum
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from repnet_search.results.record import INTERRUPTED, Outcome
from repnet_search.results.storage import study_folder
from repnet_search.results.study import CUT_OFF_KEY, RECORD_KEY, read_record
from repnet_search.search.lock import hold_taking
from repnet_search.search.propose import ORIGIN_KEY

PROCESS_KEY = "repnet_process"
TRIES = 3
"""A design whose training was killed so often is given up: one that takes all memory would come back for ever."""


class CutOff(StrEnum):
    """Why a trial did not end by itself."""

    WORKER_KILLED = "its worker was killed"
    WORKER_FAILED = "its worker gave up"
    RUN_KILLED = "its run was cut off"
    INTERRUPTED = INTERRUPTED


class MarkedStudy(optuna.Study):
    """A study that marks each trial with the process that takes it."""

    def __init__(self, name: str, storage: BaseStorage) -> None:
        super().__init__(name, storage)

    def ask(self, fixed_distributions: dict[str, BaseDistribution] | None = None) -> optuna.Trial:
        """Returns a trial, marked as this process's."""
        with hold_taking(study_folder(self.study_name), alone=False):
            trial = super().ask(fixed_distributions)
            trial.set_user_attr(PROCESS_KEY, f"{socket.gethostname()} {os.getpid()}")
        return trial


def settle_cut_off(study: optuna.Study, *, reason: CutOff, alone: bool = False, ending: bool = False) -> None:
    """Ends the trials that nobody is at work on any more, and queues their designs again.

    Args:
        study: whose trials they are.
        reason: what is recorded of trials that had not been trained yet.
        alone: whether no other process runs the study, so that all of its running trials were cut off.
        ending: whether this process ends, so that its own were.
    """
    with hold_taking(study_folder(study.study_name), alone=True):
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if alone or _is_abandoned(trial, ending=ending):
                _end(study, trial, reason)
        _queue_again(study)


def _is_abandoned(trial: FrozenTrial, *, ending: bool) -> bool:
    """Returns whether no living process of this machine is at work on a trial."""
    mark = trial.user_attrs.get(PROCESS_KEY)
    if os.name != "posix" or mark is None:
        return os.name == "posix"  # elsewhere nothing keeps others from taking a trial just now
    host, _, process = mark.rpartition(" ")
    if host != socket.gethostname():
        return False
    return (ending and int(process) == os.getpid()) or not _is_alive(int(process))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _end(study: optuna.Study, trial: FrozenTrial, reason: CutOff) -> None:
    """Tells Optuna how a trial ended; one that has its result in its record was cut off between the two."""
    record = read_record(trial)
    if record is not None and record.validation_accuracy is not None:
        study.tell(trial.number, record.validation_accuracy)
    elif record is not None and record.outcome in (Outcome.OVER_BUDGET, Outcome.REPEATED, Outcome.STOPPED):
        study.tell(trial.number, state=TrialState.PRUNED)
    else:
        study._storage.set_trial_user_attr(trial._trial_id, CUT_OFF_KEY, reason.value)
        study.tell(trial.number, state=TrialState.FAIL)


def _queue_again(study: optuna.Study) -> None:
    """Queues each design whose last trial was cut off, unless it was killed too often."""
    last: dict[str, FrozenTrial] = {}
    killed: dict[str, int] = {}
    for trial in study.get_trials(deepcopy=False):
        if trial.user_attrs.get(RECORD_KEY, {}).get("outcome") != Outcome.REPEATED:
            key = json.dumps(_proposed(trial), sort_keys=True)
            last[key] = trial
            killed[key] = killed.get(key, 0) + (_cut_off(trial) in (CutOff.WORKER_KILLED, CutOff.RUN_KILLED))
    for key, trial in last.items():
        proposed = _proposed(trial)
        if proposed and _cut_off(trial) is not None and killed[key] < TRIES:
            attributes = {name: value for name, value in trial.user_attrs.items() if name not in _OF_ONE_TRY}
            study.enqueue_trial(proposed, user_attrs=_origin(trial) | attributes)


def _proposed(trial: FrozenTrial) -> dict[str, Any]:
    """Returns the parameters of a trial, also where they are still in the queue; empty where it has not all of them."""
    queued: dict[str, Any] = trial.system_attrs.get("fixed_params", {})
    return queued or (trial.params if RECORD_KEY in trial.user_attrs else {})


def _origin(trial: FrozenTrial) -> dict[str, Any]:
    record = trial.user_attrs.get(RECORD_KEY)
    return {ORIGIN_KEY: record["origin"]} if record is not None else {}


_OF_ONE_TRY = (PROCESS_KEY, CUT_OFF_KEY, RECORD_KEY)


def _cut_off(trial: FrozenTrial) -> str | None:
    """Returns why a trial was cut off, None where it was not; one without a record was put back before it began."""
    if trial.state is not TrialState.FAIL:
        return None
    record = trial.user_attrs.get(RECORD_KEY, {"reason": INTERRUPTED})
    return trial.user_attrs.get(CUT_OFF_KEY) or (INTERRUPTED if record.get("reason") == INTERRUPTED else None)
