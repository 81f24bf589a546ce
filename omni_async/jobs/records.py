"""`JobRecord`: everything about a job that outlives the process. One row of the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field

from .lifecycle import JobStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialDownload:
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
    server_seconds: float | None = None
    submits: int = 0
    ambiguous_submits: int = 0
    cost: float | None = None
    credits: float | None = None
    paths: tuple[str, ...] = ()
    error: str = ""
    previous_task_ids: tuple[str, ...] = ()
    previous_cost: float = 0.0
    partial_download: PartialDownload | None = None
    sent_references: tuple[str, ...] = ()
    webhook: str | None = field(default=None, repr=False)

    @property
    def total_cost(self) -> float:
        """What it has cost so far, in USD, as far as the server has said."""
        return self.previous_cost + (self.cost or 0.0)

    @property
    def possibly_paid_twice(self) -> bool:
        """True where two POSTs may each have bought it, if the server does not honour idempotency keys."""
        return self.ambiguous_submits + (self.task_id is not None) > 1

    def is_same_work(self, other: JobRecord) -> bool:
        """Tell whether both stand for the same task, or ask the server for the same thing."""
        if not (self.request and other.request):  # at least one was submitted elsewhere: all it has is its task
            return self.task_id is not None and self.task_id == other.task_id
        return (self.request, self.parent) == (other.request, other.parent)
