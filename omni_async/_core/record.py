"""What is remembered of a job, and what is told of it: the row, the event, the sums."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from .catalog import DEFAULT_MODEL
from .lifecycle import JobStatus

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PartMark:
    """How far a clip has come that is not whole yet: so many bytes of its part file are safely on the disk.

    `index` is the number of the video among those of its task (from 0), `total` the size announced, if any; the rest
    is asked for with `validator` (a strong ETag or a date, RFC 9110, 13.1.5), and only fits the version of `etag`.
    """

    index: int
    offset: int
    total: int | None = None
    validator: str = ""
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """All that must outlive the process about one job: one row of the ledger. Times are unix seconds, cost is in USD.

    `request` is `VideoRequest.as_json()` ("" for a task that was submitted elsewhere), `parent` the key of the job
    that this one extends. `submitted_at` is when it was first sent under its `idempotency_key`, which is "" once
    the server has said that it cannot tell what became of that; `took` is how many seconds the server worked on it.
    `webhook` is the address that its submits name, so that each resend under one key is the same to the byte.
    `submits` counts POSTs, `doubtful` those of them whose outcome stayed unclear. A job that a person has let be
    bought again keeps what was known of the times before in `earlier_task_ids` and `earlier_cost`. `sent_as` tells what
    stood in the body that was sent for each local file of the request: a picture's link, ``sha256:...`` of a video.
    """

    key: str
    idempotency_key: str = ""
    request: str = ""
    parent: str | None = None
    parent_task_id: str | None = None
    status: JobStatus = JobStatus.WAITING
    task_id: str | None = None
    created_at: float = 0.0
    submitted_at: float | None = None
    accepted_at: float | None = None
    finished_at: float | None = None
    took: float | None = None
    submits: int = 0
    doubtful: int = 0
    cost: float | None = None
    credits: float | None = None
    paths: tuple[str, ...] = ()
    error: str = ""
    earlier_task_ids: tuple[str, ...] = ()
    earlier_cost: float = 0.0
    part: PartMark | None = None
    sent_as: tuple[str, ...] = ()
    webhook: str | None = field(default=None, repr=False)

    @property
    def paid(self) -> float:
        """What it has cost so far, in USD, as far as the server has said."""
        return self.earlier_cost + (self.cost or 0.0)

    @property
    def may_be_paid_twice(self) -> bool:
        """True where two POSTs may each have bought it, if the server does not honour idempotency keys."""
        return self.doubtful + (self.task_id is not None) > 1

    def is_same_work(self, other: JobRecord) -> bool:
        """Tell whether both stand for the same task, or ask the server for the same thing."""
        if not (self.request and other.request):  # at least one was submitted elsewhere: all it has is its task
            return self.task_id is not None and self.task_id == other.task_id
        return (self.request, self.parent) == (other.request, other.parent)


class EventKind(StrEnum):
    """What has happened to a job. Only with `CHANGE` is its status another than before."""

    CHANGE = "change"  # it is new here (`previous` is None), or its status is another
    PROGRESS = "progress"  # the server tells another percentage
    SUBMIT = "submit"  # a POST has been answered, or got no answer; `error` says what was wrong
    CHECK = "check"  # a status request has been answered, or got no answer
    BYTES = "bytes"  # more of its clip has come
    TRANSFER = "transfer"  # a request for its clip has ended, or broken off; not yet: the whole clip is there
    UNFINISHED = "unfinished"  # nothing more is done for it by this client: the line stopped, or the client was left


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """What has happened to one job, as `on_event` gets it: picklable, and complete enough to draw a display from.

    `previous` is the status before it, None for a job that is new here, and equal to `status` for every `kind` but
    `CHANGE`. `at` is in unix seconds, `progress` in percent, `cost` in USD; `submits` counts POSTs, this one included.

    Of the requests (`SUBMIT`, `CHECK`, `TRANSFER`), told when each is over, `seconds` is how long it took, `error`
    what was wrong ("" if nothing), `error_type` the name of the error's class, and `http_status` the status of a
    refusal. Of a clip, `bytes` is what came since the last event of the same kind, `received` what is here of it now,
    and `size` what was announced, if it was. `request` is what was asked for, as `VideoRequest.as_json()` ("" for a
    task from elsewhere); it is left out of the repr, because prompts are nobody's business.
    """

    at: float
    key: str
    task_id: str | None
    status: JobStatus
    previous: JobStatus | None = None
    progress: float | None = None
    cost: float | None = None
    error: str = ""
    path: Path | None = None
    kind: EventKind = EventKind.CHANGE
    error_type: str = ""
    http_status: int | None = None
    seconds: float | None = None
    submits: int = 0
    bytes: int = 0
    received: int = 0
    size: int | None = None
    parent: str | None = None
    request: str = field(default="", repr=False)

    @property
    def prompt(self) -> str | None:
        """The text that was asked for, if any is known."""
        return self._asked("prompt")

    @property
    def model(self) -> str | None:
        """The model that was asked for; None for a task from elsewhere."""
        return self._asked("model") or DEFAULT_MODEL if self.request else None

    def _asked(self, name: str) -> str | None:
        asked: str | None = json.loads(self.request).get(name) if self.request else None
        return asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Sums over a client's life so far, as a snapshot.

    Jobs: `waiting` (recorded, not accepted yet), `in_flight` (accepted, not finished on the server), `downloading`,
    `done`, `failed`, `stopped` (unknown, overdue, undelivered, cancelled); each key counts once. Work: `submits`
    (POSTs), `refused` (of them answered with 429), `doubtful` (of them with unclear outcome), `checks`, `bytes` (of
    clips received). `cost` in USD and `credits` as the server named them. `submits_per_minute` and `at_once` are the
    limits found (a rate, and jobs in flight), None until there is one. `line_stopped` says why no submit leaves any
    more, "" while they do.
    """

    waiting: int = 0
    in_flight: int = 0
    downloading: int = 0
    done: int = 0
    failed: int = 0
    stopped: int = 0
    submits: int = 0
    refused: int = 0
    doubtful: int = 0
    checks: int = 0
    bytes: int = 0
    cost: float = 0.0
    credits: float = 0.0
    submits_per_minute: float | None = None
    at_once: int | None = None
    line_stopped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerTotals:
    """Sums over all jobs of a ledger.

    `by_status` counts jobs, `submits` POSTs, `doubtful` those of them whose outcome stayed unclear, and
    `possibly_paid_twice` the jobs of which `JobRecord.may_be_paid_twice` is true. `cost` in USD and `credits` as the
    server named them.
    """

    jobs: int
    by_status: dict[JobStatus, int]
    submits: int
    doubtful: int
    possibly_paid_twice: int
    cost: float
    credits: float
