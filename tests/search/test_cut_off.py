"""What becomes of trials whose process was killed."""

from __future__ import annotations

import json
import os
import resource
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from repnet_search.errors import RepnetSearchError, StudyError
from repnet_search.results.record import Outcome
from repnet_search.results.storage import open_storage
from repnet_search.results.study import CUT_OFF_KEY, RECORD_KEY, RecordReader, load_study
from repnet_search.search import run as run_module
from repnet_search.search import workers as workers_module
from repnet_search.search.cut_off import PROCESS_KEY, TRIES, CutOff, MarkedStudy, settle_cut_off
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.propose import ORIGIN_KEY
from repnet_search.search.run import Search
from repnet_search.search.study import open_study
from repnet_search.search.workers import REPLACEMENTS, Job, _Team, _tell_of_records, _Worker
from repnet_search.spec.study import StudySpec
from repnet_search.training.task import Task
from tests.search.conftest import search

NOBODY = f"{socket.gethostname()} {2**22 + 1}"  # larger than any process id


@pytest.fixture
def study(workplace: Path, settings: StudySpec, feasible: FeasibleSpace) -> MarkedStudy:
    """Returns a study with its starts queued, which nobody runs."""
    storage = open_storage(None, create=True)
    with open_study("cut", storage, settings, feasible):
        return MarkedStudy("cut", storage)


def states(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in study.get_trials() if trial.state is not TrialState.WAITING]


def waiting(study: optuna.Study) -> list[dict[str, Any]]:
    return [t.system_attrs["fixed_params"] for t in study.get_trials() if t.state is TrialState.WAITING]


def take(study: MarkedStudy, feasible: FeasibleSpace, *, mark: str | None) -> optuna.Trial:
    """Returns a trial that another process seems to have taken; unmarked with None."""
    trial = optuna.Study.ask(study, dict(feasible.space.distributions))
    if mark is not None:
        trial.set_user_attr(PROCESS_KEY, mark)
    return trial


def test_a_trial_is_marked_with_its_process(study: MarkedStudy) -> None:
    assert study.ask().user_attrs[PROCESS_KEY] == f"{socket.gethostname()} {os.getpid()}"


@pytest.mark.parametrize("mark", [None, NOBODY])
def test_a_killed_worker_s_trial_is_failed_and_its_proposal_queued_again(
    mark: str | None, study: MarkedStudy, feasible: FeasibleSpace
) -> None:
    before = waiting(study)
    first = take(study, feasible, mark=mark)
    settle_cut_off(study, reason=CutOff.WORKER_KILLED)
    assert states(study) == [TrialState.FAIL]
    assert study.get_trials()[first.number].user_attrs[CUT_OFF_KEY] == "its worker was killed"
    assert waiting(study) == [*before[1:], before[0]]
    again = study.get_trials()[-1]
    assert again.user_attrs[ORIGIN_KEY] == "last layer alone"
    assert PROCESS_KEY not in again.user_attrs
    settle_cut_off(study, reason=CutOff.WORKER_KILLED)
    assert len(waiting(study)) == len(before)


@pytest.mark.parametrize("mark", [f"{socket.gethostname()} {os.getpid()}", "elsewhere 1"], ids=["here", "elsewhere"])
def test_a_trial_that_somebody_may_be_at_work_on_is_left_alone(
    mark: str, study: MarkedStudy, feasible: FeasibleSpace
) -> None:
    take(study, feasible, mark=mark)
    settle_cut_off(study, reason=CutOff.WORKER_KILLED)
    assert states(study) == [TrialState.RUNNING]
    settle_cut_off(study, reason=CutOff.RUN_KILLED, alone=True)
    assert states(study) == [TrialState.FAIL]


def test_a_design_that_kills_its_worker_every_time_is_given_up(study: MarkedStudy, feasible: FeasibleSpace) -> None:
    count = len(waiting(study))
    for _ in range(TRIES * count):
        take(study, feasible, mark=NOBODY)
        settle_cut_off(study, reason=CutOff.WORKER_KILLED)
    assert waiting(study) == []


def test_interrupts_do_not_count_as_kills(study: MarkedStudy, feasible: FeasibleSpace) -> None:
    count = len(waiting(study))
    for _ in range((TRIES + 1) * count):
        take(study, feasible, mark=NOBODY)
        settle_cut_off(study, reason=CutOff.INTERRUPTED)
    assert len(waiting(study)) == count


def test_a_trial_killed_between_its_record_and_optuna_is_finished(
    workplace: Path, settings: StudySpec, task: Task, feasible: FeasibleSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = optuna.Study.tell
    monkeypatch.setattr(optuna.Study, "tell", lambda *_, **__: os_error())
    with pytest.raises(StudyError, match="No space left on device"):
        search(settings, task, feasible, name="cut", trials=1)
    monkeypatch.setattr(optuna.Study, "tell", real)
    assert [record.outcome for record in load_study("cut").records] == [Outcome.TRAINED]
    worker = search(settings, task, feasible, name="cut", trials=1)
    assert worker.study.get_trials()[0].state is TrialState.COMPLETE
    records = load_study("cut").records
    assert len({record.design_id for record in records}) == len(records) == 5


def os_error() -> None:
    raise OSError(28, "No space left on device")


def test_an_interrupted_design_is_tried_again_by_the_next_run(
    workplace: Path, settings: StudySpec, task: Task, feasible: FeasibleSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run_module.train_design
    calls: list[int] = []

    def interrupted(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) in (2, 8):  # a baseline, and a design that no queue held
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(run_module, "train_design", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            search(settings, task, feasible, name="cut", trials=4)
    search(settings, task, feasible, name="cut", trials=4)
    view = load_study("cut")
    failed = [record for record in view.records if record.outcome is Outcome.INTERRUPTED]
    trained = [record.design_id for record in view.records if record.outcome is Outcome.TRAINED]
    assert [record.reason for record in failed] == ["interrupted"] * 2
    assert {record.design_id for record in failed} <= set(trained)
    assert len(set(trained)) == len(trained) == 8


@pytest.mark.parametrize(
    ("error", "reason"),
    [(MemoryError(), "Out of memory."), (ValueError("odd\nlines"), "ValueError: odd"), (KeyError(), "KeyError")],
)
def test_a_trial_that_raises_is_recorded_with_its_reason_and_the_run_goes_on(
    error: Exception,
    reason: str,
    workplace: Path,
    settings: StudySpec,
    task: Task,
    feasible: FeasibleSpace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = run_module.train_design
    calls: list[int] = []

    def raises(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise error
        return real(*args, **options)

    monkeypatch.setattr(run_module, "train_design", raises)
    search(settings, task, feasible, name="raising", trials=1)
    view = load_study("raising")
    assert [record.reason for record in view.records if record.outcome is Outcome.FAILED] == [reason]
    assert view.trained_count == 1


def test_a_full_disk_is_one_sentence_and_the_next_run_goes_on(
    workplace: Path, settings: StudySpec, task: Task, feasible: FeasibleSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = workplace / "repnet-studies" / "journal.log"
    real, before = run_module.train_design, resource.getrlimit(resource.RLIMIT_FSIZE)
    calls: list[int] = []

    def fills(*args: Any, **options: Any) -> Any:
        trained = real(*args, **options)
        calls.append(1)
        if len(calls) == 6:  # files end in the middle of the next line
            resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size + 100, before[1]))
        return trained

    monkeypatch.setattr(run_module, "train_design", fills)
    monkeypatch.setattr(run_module, "save_trained", lambda *_: None)
    try:
        with pytest.raises(StudyError, match=r"Studies are written to .*File too large.* make room"):
            search(settings, task, feasible, name="full", trials=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not journal.read_bytes().endswith(b"\n")
    kept = [record for record in load_study("full").records if record.outcome is Outcome.TRAINED]
    assert len(kept) == 5
    search(settings, task, feasible, name="full", trials=4)
    trained = [record for record in load_study("full").records if record.outcome is Outcome.TRAINED]
    assert trained[:5] == kept
    assert len({record.design_id for record in trained}) == len(trained) == 8
    assert all(json.loads(line) for line in journal.read_text().splitlines())


class FakeTeam(_Team):
    def start(self, index: int) -> None:
        self.workers.append(lost_worker(index))


def lost_worker(index: int, *, says: str = "") -> _Worker:
    def receive() -> str:
        if not says:
            raise EOFError
        return says

    process: Any = SimpleNamespace(exitcode=-9 if not says else 1)
    complaint: Any = SimpleNamespace(recv=receive)
    return _Worker(index, process, complaint)


def test_killed_workers_are_replaced_but_not_for_ever() -> None:
    job: Any = Job
    team = FakeTeam(job)
    team.start(1)
    for _ in range(REPLACEMENTS):
        team.replace(list(team.workers))
        assert [worker.index for worker in team.workers] == [1]
    with pytest.raises(RepnetSearchError, match=r"killed 6 times \(the last by SIGKILL\).* Use fewer --workers"):
        team.replace(list(team.workers))


def test_a_worker_that_gave_up_by_itself_ends_the_run_with_its_sentence() -> None:
    job: Any = Job
    team = FakeTeam(job)
    team.workers.append(lost_worker(2, says="5 trainings in a row failed"))
    with pytest.raises(RepnetSearchError, match="5 trainings in a row failed"):
        team.replace(list(team.workers))


def test_the_parent_tells_of_a_killed_worker_s_trial(
    study: MarkedStudy, feasible: FeasibleSpace, settings: StudySpec, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "POLL_SECONDS", 0.01)
    worker = Search(study, settings, task, feasible)
    proposal = worker.proposer.next([], waiting=True)
    assert proposal is not None
    record = run_module._record(proposal)
    proposal.trial.set_user_attr(RECORD_KEY, run_module.dump_record(record))
    proposal.trial.set_user_attr(PROCESS_KEY, NOBODY)
    told: list[str] = []
    ended: Any = SimpleNamespace(exitcode=0, is_alive=lambda: False)

    class OnceTeam(FakeTeam):
        def start(self, index: int) -> None:
            self.workers.append(_Worker(index, ended, lost_worker(1).complaint))

    job: Any = Job
    team = OnceTeam(job)
    lost: Any = SimpleNamespace(exitcode=-9, is_alive=lambda: False)
    team.workers.append(_Worker(1, lost, lost_worker(1).complaint))
    workers_module._watch(team, study, _tell_of_records(study, lambda record: told.append(record.reason)))
    assert told == ["its worker was killed"]
    assert RecordReader(study).read()[0].outcome is Outcome.INTERRUPTED


def test_of_two_workers_that_propose_one_design_at_once_one_trains_it(
    study: MarkedStudy, feasible: FeasibleSpace, settings: StudySpec, task: Task
) -> None:
    study.enqueue_trial(waiting(study)[0])
    for trial in study.get_trials()[1:-1]:
        study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    workers = [Search(study, settings, task, feasible, worker=index) for index in (1, 2)]
    proposals = [worker.proposer.next([], waiting=True) for worker in workers]
    assert proposals[0] is not None
    assert proposals[1] is not None
    assert proposals[0].candidate.resolved.id == proposals[1].candidate.resolved.id
    proposals[0].trial.set_user_attr(RECORD_KEY, run_module.dump_record(run_module._record(proposals[0])))
    assert workers[1]._evaluate(proposals[1]).outcome is Outcome.REPEATED
    assert workers[0]._evaluate(proposals[0]).outcome is Outcome.TRAINED
    assert states(study)[0] is TrialState.COMPLETE
    assert states(study)[-1] is TrialState.PRUNED


def test_a_run_that_waits_for_a_killed_one_goes_on(
    study: MarkedStudy, feasible: FeasibleSpace, settings: StudySpec, task: Task
) -> None:
    worker = Search(study, settings, task, feasible)
    while not (proposal := worker.proposer.next([], waiting=True)) or proposal.origin == "last layer alone":
        assert proposal is not None
        worker._evaluate(proposal)
    proposal.trial.set_user_attr(RECORD_KEY, run_module.dump_record(run_module._record(proposal)))
    proposal.trial.set_user_attr(PROCESS_KEY, NOBODY)
    worker.run(run_module.Limits(trials=1), listener=lambda _: None)
    assert worker.reader.read()[-1].outcome is Outcome.TRAINED
