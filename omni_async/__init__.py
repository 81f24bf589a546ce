"""Prompts in, MP4 clips out: an asyncio client for APIMart's asynchronous Gemini Omni Flash video API."""

from __future__ import annotations

from .api.connection import LANGUAGES, Connection
from .client.client import OmniClient
from .client.credentials import DEFAULT_BASE_URL
from .client.estimates import Estimate, estimate
from .client.forecast import Forecast
from .downloads.clip_store import ClipStore, FolderClipStore, PartialClip
from .errors import (
    APIError,
    AuthenticationError,
    ClientClosed,
    Conflict,
    CostLimitReached,
    DownloadError,
    InvalidReference,
    InvalidRequest,
    JobCancelled,
    JobError,
    JobFailed,
    JobTimedOut,
    KeyReused,
    LedgerError,
    LedgerFenced,
    LedgerLocked,
    NotFound,
    OmniError,
    ParentFailed,
    PaymentRequired,
    PermissionDenied,
    RateLimited,
    ServerError,
    SubmitOutcomeUnknown,
    SubmitWithheld,
    TransportError,
    TransportTimeout,
    UnknownModelWarning,
)
from .jobs.events import EventKind, JobEvent
from .jobs.job import Job
from .jobs.lifecycle import JobStatus
from .jobs.records import JobRecord, PartialDownload
from .jobs.statistics import LedgerTotals, Statistics
from .jobs.store import JobReader
from .ledger import LEDGER_NAME, LedgerReader
from .models.catalog import DEFAULT_MODEL, MODELS, ModelRules
from .models.prices import PRICES, PRICES_DATE, PRICES_SOURCE, EstimateRange, ModelPrices
from .models.request import VideoRequest
from .models.responses import Balance, Task, TaskState, Usage, UsageItem, Video
from .settings import Limits, Polling, Retry
from .submission.local_files import check_references, resolve_references

__all__ = [
    "DEFAULT_BASE_URL",
    "DEFAULT_MODEL",
    "LANGUAGES",
    "LEDGER_NAME",
    "MODELS",
    "PRICES",
    "PRICES_DATE",
    "PRICES_SOURCE",
    "APIError",
    "AuthenticationError",
    "Balance",
    "ClientClosed",
    "ClipStore",
    "Conflict",
    "Connection",
    "CostLimitReached",
    "DownloadError",
    "Estimate",
    "EstimateRange",
    "EventKind",
    "FolderClipStore",
    "Forecast",
    "InvalidReference",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobError",
    "JobEvent",
    "JobFailed",
    "JobReader",
    "JobRecord",
    "JobStatus",
    "JobTimedOut",
    "KeyReused",
    "LedgerError",
    "LedgerFenced",
    "LedgerLocked",
    "LedgerReader",
    "LedgerTotals",
    "Limits",
    "ModelPrices",
    "ModelRules",
    "NotFound",
    "OmniClient",
    "OmniError",
    "ParentFailed",
    "PartialClip",
    "PartialDownload",
    "PaymentRequired",
    "PermissionDenied",
    "Polling",
    "RateLimited",
    "Retry",
    "ServerError",
    "Statistics",
    "SubmitOutcomeUnknown",
    "SubmitWithheld",
    "Task",
    "TaskState",
    "TransportError",
    "TransportTimeout",
    "UnknownModelWarning",
    "Usage",
    "UsageItem",
    "Video",
    "VideoRequest",
    "check_references",
    "estimate",
    "resolve_references",
]
