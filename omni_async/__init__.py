"""Prompts in, MP4 clips out: an asyncio client for APIMart's asynchronous Gemini Omni Flash video API."""

from __future__ import annotations

from .api.connection import Connection
from .client.arguments import DEFAULT_BASE_URL
from .client.client import OmniClient
from .client.forecast import Forecast
from .errors import (
    APIError,
    AuthenticationError,
    BadReference,
    ClientClosed,
    Conflict,
    CostLimitReached,
    DownloadError,
    InvalidRequest,
    JobCancelled,
    JobError,
    JobFailed,
    JobOverdue,
    KeyReused,
    LedgerError,
    LedgerLocked,
    NotFound,
    OmniError,
    ParentFailed,
    PaymentRequired,
    PermissionDenied,
    RateLimited,
    ServerError,
    SubmitUnknown,
    TransportError,
    TransportTimeout,
    UnknownModelWarning,
)
from .jobs.events import EventKind, JobEvent
from .jobs.job import Job
from .jobs.lifecycle import JobStatus
from .jobs.records import JobRecord, PartMark
from .jobs.statistics import LedgerTotals, Statistics
from .ledger import LEDGER_NAME, LedgerReader
from .models.catalog import DEFAULT_MODEL, MODELS, ModelRules
from .models.request import VideoRequest
from .models.responses import Balance, Task, TaskState, Video
from .settings import Limits, Polling, Retry
from .submission.local_files import check_references, resolve_references

__all__ = [
    "DEFAULT_BASE_URL",
    "DEFAULT_MODEL",
    "LEDGER_NAME",
    "MODELS",
    "APIError",
    "AuthenticationError",
    "BadReference",
    "Balance",
    "ClientClosed",
    "Conflict",
    "Connection",
    "CostLimitReached",
    "DownloadError",
    "EventKind",
    "Forecast",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobError",
    "JobEvent",
    "JobFailed",
    "JobOverdue",
    "JobRecord",
    "JobStatus",
    "KeyReused",
    "LedgerError",
    "LedgerLocked",
    "LedgerReader",
    "LedgerTotals",
    "Limits",
    "ModelRules",
    "NotFound",
    "OmniClient",
    "OmniError",
    "ParentFailed",
    "PartMark",
    "PaymentRequired",
    "PermissionDenied",
    "Polling",
    "RateLimited",
    "Retry",
    "ServerError",
    "Statistics",
    "SubmitUnknown",
    "Task",
    "TaskState",
    "TransportError",
    "TransportTimeout",
    "UnknownModelWarning",
    "Video",
    "VideoRequest",
    "check_references",
    "resolve_references",
]
