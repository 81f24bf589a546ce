"""What is to be expected of a client: gathers what its rooms know, and lets the core tell from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ._core.forecast import Experience, Forecast, Load, fitted, seconds_left
from ._core.lifecycle import JobStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._core.settings import Limits
    from ._downloader import Downloader
    from ._job import Job
    from ._roster import Roster
    from ._submitter import Submitter

_Number = TypeVar("_Number", int, float)

_SAMPLE = 64  # jobs in flight whose ages stand for all
_SLACK = 1.01  # of each interval of a told pace, which the submitter adds


def outlook(
    roster: Roster,
    submitter: Submitter,
    experience: Experience,
    downloader: Downloader,
    *,
    limits: Limits,
    upcoming: int,
) -> Forecast:
    """Give what is to be expected, with `upcoming` jobs that are not submitted yet."""
    gate, now = submitter.gate, submitter.now()
    learnt, standing = gate.learnt(), roster.standing
    waiting = standing[JobStatus.WAITING] + standing[JobStatus.SUBMITTING]
    at_once = _least(limits.max_in_flight, learnt.at_once)
    if upcoming and not waiting:  # whoever feeds the client bit by bit sets a limit of his own
        at_once = _least(at_once, standing[JobStatus.RUNNING] + standing[JobStatus.DOWNLOADING])
    ages = _ages(roster.running(), roster.wall())
    told = limits.submits_per_minute and limits.submits_per_minute / 60 / _SLACK
    load = Load(
        waiting=0 if submitter.stopped else waiting + upcoming,  # else they wait for a person
        in_flight=standing[JobStatus.RUNNING],
        ages=ages,
        downloading=standing[JobStatus.DOWNLOADING],
        rate=_least(told, learnt.per_second),
        at_once=at_once,
        flow=gate.flow.per_second(now),
        spread=fitted(experience.logs(), ages, standing[JobStatus.RUNNING]),
        late=experience.late,
        fetch=downloader.mean_seconds,
        places=limits.max_downloads,
    )
    bill = roster.spent.mean_cost * (load.waiting + load.in_flight)
    return Forecast(
        seconds_left=seconds_left(load),
        per_minute=load.throughput and 60 * load.throughput,
        cost=round(roster.cost + bill, 6) if roster.spent.bills else None,
    )


def _ages(running: Sequence[Job], wall: float) -> list[float]:
    step = max(1, len(running) // _SAMPLE)
    records = [job._record for job in running[::step]]
    return [max(0.0, wall - (record.accepted_at or record.created_at)) for record in records]


def _least(told: _Number | None, found: _Number | None) -> _Number | None:
    return min((limit for limit in (told, found) if limit is not None), default=None)
