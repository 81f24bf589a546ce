"""The transitions between the statuses of a job."""

from __future__ import annotations

import pytest

from omni_async.jobs.lifecycle import TRANSITIONS, InvalidTransition, JobStatus, check_transition

_EXPECTED = {  # all transitions that are not made on request
    "waiting": "submitting cancelled failed",
    "submitting": "running waiting unknown failed cancelled",
    "running": "downloading failed timed_out cancelled",
    "downloading": "completed download_failed cancelled",
    "completed": "downloading",  # a completed job whose file is missing is downloaded again without paying
    "failed": "",
    "unknown": "running",
    "timed_out": "running",
    "download_failed": "downloading",
    "cancelled": "running",
}
_PAIRS = [(current, following) for current in JobStatus for following in JobStatus]


def test_there_are_ten_statuses() -> None:
    """Each has a row in the table of transitions."""
    assert {str(status) for status in JobStatus} == set(_EXPECTED)
    assert set(TRANSITIONS) == set(JobStatus)


@pytest.mark.parametrize(("current", "following"), _PAIRS, ids=[f"{one}-{other}" for one, other in _PAIRS])
def test_a_transition_is_valid_exactly_if_the_table_has_it(current: JobStatus, following: JobStatus) -> None:
    """Every other pair of statuses raises an error that names both."""
    if following in _EXPECTED[current].split():
        check_transition(current, following)
    else:
        with pytest.raises(InvalidTransition, match=f"from {current} to {following}"):
            check_transition(current, following)


def test_four_statuses_are_active() -> None:
    """All others are final."""
    active = {status for status in JobStatus if not status.is_final}
    assert active == {JobStatus.WAITING, JobStatus.SUBMITTING, JobStatus.RUNNING, JobStatus.DOWNLOADING}


def test_every_active_status_can_end() -> None:
    """A final status follows each of them directly."""
    for status in JobStatus:
        assert status.is_final or any(following.is_final for following in TRANSITIONS[status])


def test_a_task_runs_only_after_submitting() -> None:
    """A job that was never recorded as submitting cannot be running."""
    before = {current for current in JobStatus if JobStatus.RUNNING in TRANSITIONS[current]}
    assert before == {JobStatus.SUBMITTING, JobStatus.TIMED_OUT, JobStatus.CANCELLED, JobStatus.UNKNOWN}
    assert {current for current in JobStatus if JobStatus.SUBMITTING in TRANSITIONS[current]} == {JobStatus.WAITING}


@pytest.mark.parametrize("current", JobStatus)
def test_only_the_user_may_submit_a_job_again(current: JobStatus) -> None:
    """On request a job may return to `waiting`, an unknown one also to `submitting`, a completed one never."""
    if current is JobStatus.COMPLETED:
        with pytest.raises(InvalidTransition):
            check_transition(current, JobStatus.WAITING, on_request=True)
        return
    check_transition(current, JobStatus.WAITING, on_request=True)
    if current is JobStatus.UNKNOWN:
        check_transition(current, JobStatus.SUBMITTING, on_request=True)
        with pytest.raises(InvalidTransition):
            check_transition(current, JobStatus.SUBMITTING)
