"""`JobEvent` and `EventKind`: what a listener is told."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from ..models.catalog import DEFAULT_MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from .lifecycle import JobStatus


class EventKind(StrEnum):
    """What has happened to a job. Only with `CHANGE` is its status another than before."""

    STATUS = "status"  # it is new here (`previous` is None), or its status is another
    PROGRESS = "progress"  # the server tells another percentage
    SUBMIT = "submit"  # a POST has been answered, or got no answer; `error` says what was wrong
    CHECK = "check"  # a status request has been answered, or got no answer
    DOWNLOAD_PROGRESS = "download_progress"  # more of its clip has come
    DOWNLOAD = "download"  # a request for its clip has ended, or broken off; not yet: the whole clip is there
    ABANDONED = "abandoned"  # nothing more is done for it by this client: the line stopped, or the client was left


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

    timestamp: float
    key: str
    task_id: str | None
    status: JobStatus
    previous: JobStatus | None = None
    progress: float | None = None
    cost: float | None = None
    error: str = ""
    path: Path | None = None
    kind: EventKind = EventKind.STATUS
    error_type: str = ""
    http_status: int | None = None
    seconds: float | None = None
    submits: int = 0
    bytes: int = 0
    bytes_received: int = 0
    bytes_total: int | None = None
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
