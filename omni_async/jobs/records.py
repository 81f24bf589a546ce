"""`JobRecord`: everything about a job that outlives the process. One row of the ledger."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..models.amounts import plausible_usd
from ..models.catalog import DEFAULT_MODEL
from .lifecycle import JobStatus

if TYPE_CHECKING:
    from ..models.responses import Video


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialDownload:
    """How far an incomplete clip has come: `offset` bytes of its .part file are safely on disk.

    `index` is the number of the video among those of its task (from 0), `total` its announced size in bytes. The rest
    is requested with `validator` (a strong ETag or a date, RFC 9110 section 13.1.5), and fits only the version `etag`.
    """

    index: int
    offset: int
    total: int | None = None
    validator: str = ""
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """What is recorded about one job. Times are Unix seconds, costs are in USD.

    Identity: `key`; `request`, which is `VideoRequest.to_json()` ("" for a task that was submitted elsewhere);
    `parent`, the key of the job that it extends, and `parent_task_id`, that job's task. `name` is the file name that
    the user wants for the clip, without ending; None for one made from the key.

    Submits: `idempotency_key` is the same on every resend, and "" once the server has said that it cannot tell what
    became of it. `submitted_at` is when it was first sent under this key. `submits` counts POSTs, `ambiguous_submits`
    those that the server may or may not have accepted. `sent_references` says what the body contained for each local
    file: the URL of an image, ``sha256:...`` for a video. `webhook` is the URL that the submits name. Both are kept so
    that a resend is byte-identical.

    Results: `server_seconds` is how long the server worked. `cost` and `credits` are None until they are reported.
    `paths` are the file names of its clips in the output folder; `LedgerReader` gives absolute paths instead. `error`
    says why there is none. `partial_download` is how far an incomplete clip has come. `videos` are the links of a
    finished task while its clips are being transferred: a later run, or another machine, need not ask for them again.

    After `OmniClient.resubmit`, `previous_task_ids` and `previous_cost` hold what is known of the earlier attempts.
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
    videos: tuple[Video, ...] = field(default=(), repr=False)  # a signed link grants access to its clip
    name: str | None = None

    @property
    def model(self) -> str:
        """The model of its request; "" for a task that was submitted elsewhere."""
        return (self._requested("model") or DEFAULT_MODEL) if self.request else ""

    @property
    def extended_task_id(self) -> str | None:
        """The task that it extends, of this ledger or not; None if it extends none."""
        return self.parent_task_id or self._requested("extend_from_task_id")

    def _requested(self, name: str) -> str | None:
        if f'"{name}"' not in self.request:  # most requests leave these fields out, and are asked several times
            return None
        value = _fields_of(self.request).get(name)
        return value if isinstance(value, str) else None

    @property
    def sent_texts(self) -> tuple[str, ...]:
        """What the submits contained: every link in it is in one of these texts."""
        return (self.request, *self.sent_references, self.webhook or "")

    @property
    def total_cost(self) -> float:
        """What the job has cost so far in USD, earlier submits included, as far as the server has reported it."""
        return (plausible_usd(self.previous_cost) or 0.0) + (plausible_usd(self.cost) or 0.0)

    @property
    def possibly_paid_twice(self) -> bool:
        """Whether two POSTs may both be billed, if the server does not honour idempotency keys."""
        return self.ambiguous_submits + (self.task_id is not None) > 1

    def as_json(self) -> dict[str, Any]:
        """Return the fields that are shown to programs as JSON. They rely on them; fields may only be added."""
        return {
            "key": self.key,
            "status": str(self.status),
            "task_id": self.task_id,
            "path": self.paths[0] if self.paths else None,
            "paths": list(self.paths),
            "cost": self.cost,
            "credits": self.credits,
            "error": self.error or None,
            "submits": self.submits,
            "ambiguous_submits": self.ambiguous_submits,
            "possibly_paid_twice": self.possibly_paid_twice,
            "parent": self.parent,
            "previous_task_ids": list(self.previous_task_ids),
            "previous_cost": self.previous_cost,
            "created_at": self.created_at,
            "submitted_at": self.submitted_at,
            "accepted_at": self.accepted_at,
            "finished_at": self.finished_at,
        }

    def is_same_work(self, other: JobRecord) -> bool:
        """Return whether both are the same task, or the same request."""
        if not (self.request and other.request):  # one was submitted elsewhere, and only its task is known
            return self.task_id is not None and self.task_id == other.task_id
        return self.parent == other.parent and _is_same_request(self.request, other.request)


# Earlier versions recorded and sent an empty prompt for a line of a file that extends another and has none.
_NO_PROMPT = '"prompt":""'


def _is_same_request(one: str, other: str) -> bool:
    """Return whether two requests are the same; an empty prompt is the same as none."""
    if one == other:
        return True
    if _NO_PROMPT not in one and _NO_PROMPT not in other:
        return False
    fields = _without_empty_prompt(one)
    return bool(fields) and fields == _without_empty_prompt(other)


def _without_empty_prompt(request: str) -> dict[str, object]:
    return {name: value for name, value in _fields_of(request).items() if (name, value) != ("prompt", "")}


def _fields_of(request: str) -> dict[str, object]:
    """Return the fields of a recorded request. Of one that no run has recorded, there are none."""
    try:
        fields = json.loads(request)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}
