"""`JobEvent` and `EventKind`: what the `on_event` listener of a client receives."""

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
    """What has happened to a job. Its status differs from the one before only with `STATUS`."""

    STATUS = "status"  # it is new to this client (`previous` is None), or its status has changed
    PROGRESS = "progress"  # the server reports another percentage
    SUBMIT = "submit"  # a POST has ended, with or without an answer; `error` says what was wrong
    CHECK = "check"  # a status request has ended, with or without an answer
    DOWNLOAD_PROGRESS = "download_progress"  # more of its clip was received
    DOWNLOAD = "download"  # a request for its clip has ended or broken off; the clip may still be incomplete
    ABANDONED = "abandoned"  # this client has given it up: submissions stopped, or the client was closed


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """What has happened to one job. It can be pickled, and is enough to draw a display from.

    `previous` is the status before: None for a job that is new to this client, and equal to `status` for every `kind`
    but `STATUS`. `timestamp` is in Unix seconds, `progress` in percent, `cost` in USD. `submits` counts POSTs, this one
    included. `parent` is the key of the job that it extends.

    For the requests (`SUBMIT`, `CHECK`, `DOWNLOAD`): `seconds` is how long the request took, `error` what was wrong (""
    if nothing was), `error_type` the name of the error's class, and `http_status` the status of a refusal.

    For a clip: `bytes` is what was received since the last event of the same kind, `bytes_received` what is here now,
    and `bytes_total` the announced size, None if unknown. `path` is the first clip, once complete.

    `request` is `VideoRequest.to_json()` ("" for a task that was submitted elsewhere). It is not in the repr, because
    prompts are private.
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
        """The prompt, None if unknown."""
        return self._field("prompt")

    @property
    def model(self) -> str | None:
        """The model; None for a task that was submitted elsewhere."""
        return self._field("model") or DEFAULT_MODEL if self.request else None

    def _field(self, name: str) -> str | None:
        value: str | None = json.loads(self.request).get(name) if self.request else None
        return value
