"""The life of a job is the table of the design, and nothing else."""

from __future__ import annotations

import pytest

from omni_async.jobs.lifecycle import TRANSITIONS, InvalidTransition, JobStatus, check_transition

_DESIGN = {  # design 5, word for word
    "waiting": "submitting cancelled failed",
    "submitting": "running waiting unknown failed cancelled",
    "running": "downloading failed timed_out cancelled",
    "downloading": "completed download_failed cancelled",
    "completed": "downloading",  # design 4: a finished job whose file is gone is fetched again without paying
    "failed": "",
    "unknown": "running",
    "timed_out": "running",
    "download_failed": "downloading",
    "cancelled": "running",
}
_PAIRS = [(current, following) for current in JobStatus for following in JobStatus]


def test_the_statuses_are_those_of_the_design() -> None:
    """There are ten statuses, and a row of the table for each."""
    assert {str(status) for status in JobStatus} == set(_DESIGN)
    assert set(TRANSITIONS) == set(JobStatus)


@pytest.mark.parametrize(("current", "following"), _PAIRS, ids=[f"{one}-{other}" for one, other in _PAIRS])
def test_a_transition_is_allowed_exactly_where_the_table_says_so(current: JobStatus, following: JobStatus) -> None:
    """Every pair of statuses is either in the table, or raises and names both."""
    if following in _DESIGN[current].split():
        check_transition(current, following)
    else:
        with pytest.raises(InvalidTransition, match=f"from {current} to {following}"):
            check_transition(current, following)


def test_four_statuses_are_active() -> None:
    """Only in these does something happen automatically."""
    active = {status for status in JobStatus if not status.is_final}
    assert active == {JobStatus.WAITING, JobStatus.SUBMITTING, JobStatus.RUNNING, JobStatus.DOWNLOADING}


def test_every_active_status_leads_to_a_final_one() -> None:
    """No job can be stuck in an active status."""
    for status in JobStatus:
        assert status.is_final or any(following.is_final for following in TRANSITIONS[status])


def test_money_is_spent_only_after_submitting() -> None:
    """The server runs nothing that was not recorded as being sent."""
    before = {current for current in JobStatus if JobStatus.RUNNING in TRANSITIONS[current]}
    assert before == {JobStatus.SUBMITTING, JobStatus.TIMED_OUT, JobStatus.CANCELLED, JobStatus.UNKNOWN}
    assert {current for current in JobStatus if JobStatus.SUBMITTING in TRANSITIONS[current]} == {JobStatus.WAITING}


@pytest.mark.parametrize("current", JobStatus)
def test_only_the_user_may_submit_a_job_again(current: JobStatus) -> None:
    """A job may return to `waiting`, and an unknown one to `submitting`, on request; a completed one never does."""
    if current is JobStatus.COMPLETED:
        with pytest.raises(InvalidTransition):
            check_transition(current, JobStatus.WAITING, on_request=True)
        return
    check_transition(current, JobStatus.WAITING, on_request=True)
    if current is JobStatus.UNKNOWN:
        check_transition(current, JobStatus.SUBMITTING, on_request=True)
        with pytest.raises(InvalidTransition):
            check_transition(current, JobStatus.SUBMITTING)
