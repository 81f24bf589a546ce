"""`JobTotals`: every job is counted once, and jobs that have ended cost no memory."""

from __future__ import annotations

from omni_async import JobStatus
from omni_async.jobs.statistics import JobTotals


def _complete(totals: JobTotals, key: str) -> None:
    totals.add_new(key, JobStatus.WAITING)
    totals.set_status(key, JobStatus.RUNNING)
    totals.set_status(key, JobStatus.COMPLETED)
    totals.end(key)


def test_a_key_that_comes_again_is_counted_once() -> None:
    """A completed job that is submitted again for its clip is the same job, also while another thousand end."""
    totals = JobTotals()
    for number in range(1000):
        _complete(totals, f"k{number}")
    for number in range(1000):
        totals.add_new(f"k{number}", JobStatus.WAITING)
        totals.set_status(f"k{number}", JobStatus.COMPLETED)
        totals.end(f"k{number}")
    assert totals.counts == {JobStatus.WAITING: 0, JobStatus.RUNNING: 0, JobStatus.COMPLETED: 1000}


def test_ended_jobs_are_counted_and_their_keys_forgotten() -> None:
    """However many jobs have ended, a limited number of keys is kept, and the count is right."""
    totals = JobTotals()
    for number in range(25_000):
        _complete(totals, f"k{number}")
    assert totals.counts[JobStatus.COMPLETED] == 25_000
    assert len(totals._statuses) + len(totals._ended) == 10_000


def test_a_job_that_was_rejected_is_counted_no_more() -> None:
    """To discard a job takes it out of the counts, whether or not it had ended before."""
    totals = JobTotals()
    totals.add_new("k", JobStatus.WAITING)
    totals.discard("k")
    totals.end("k")
    _complete(totals, "k")
    totals.add_new("k", JobStatus.WAITING)
    totals.discard("k")
    assert not any(totals.counts.values())
