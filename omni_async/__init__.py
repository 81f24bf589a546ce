"""Prompts in, MP4 clips out: an asyncio client for APIMart's asynchronous Gemini Omni Flash video API."""

from ._arguments import DEFAULT_BASE_URL
from ._client import OmniClient
from ._core.catalog import DEFAULT_MODEL, MODELS, ModelRules
from ._core.connection import Connection
from ._core.errors import (
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
from ._core.forecast import Forecast
from ._core.lifecycle import JobStatus
from ._core.models import Balance, Task, TaskState, Video, VideoRequest
from ._core.record import EventKind, JobEvent, JobRecord, LedgerTotals, PartMark, Statistics
from ._core.settings import Limits, Polling, Retry
from ._job import Job
from ._ledger import LEDGER_NAME, LedgerReader
from ._local_files import check_references

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
]
