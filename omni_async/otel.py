"""A bridge to OpenTelemetry: ``OmniClient(on_event=otel.bridge())``. Needs the extra `otel`.

It turns the events of a client into spans and metrics. It uses only the OpenTelemetry API: without a configured SDK it
does next to nothing.

Spans follow the semantic conventions for generative AI and HTTP:

- ``generate_content MODEL``, one per job, from its first event to its final status, or until this client abandons it.
  A resumed job gets a new span. Attributes: ``gen_ai.operation.name``, ``gen_ai.provider.name``,
  ``gen_ai.output.type``, ``gen_ai.request.model``, ``omni_async.job.key``, ``.parent`` (key of the job that it
  extends), ``.status``, ``.task_id``, ``.submits`` and ``.cost`` (USD); ``error.type`` if it failed. Each change of
  status is a span event. An extension has a link to the span of its parent.
- ``submit``, ``check`` and ``download``, children of the job's span, one per request. Attributes:
  ``http.request.method``, ``http.response.status_code`` of an error response, ``http.request.resend_count``,
  ``error.type``; of a download also ``http.response.body.size`` and ``omni_async.download.resume_offset`` (bytes).

Metrics: the counters ``omni_async.jobs`` (by ``omni_async.job.status``; ``abandoned`` for jobs left unfinished),
``omni_async.submits`` and ``omni_async.checks`` (by ``error.type``), ``omni_async.rate_limited`` (submits answered with
429), ``omni_async.bytes_downloaded`` and ``omni_async.cost`` (USD; each charge once, not again in a later run), and the
histogram ``omni_async.job.duration`` (seconds from `submit()` to the end, by status).

What never leaves the process: the API key, which is in no event. What leaves only with ``prompts=True``: prompts
(``gen_ai.input.messages``), error messages (servers quote prompts in them), and the readable part of keys that were
generated from a prompt. Keys that a user chose are exported as they are.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from omni_async import EventKind, JobEvent, JobStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.util.types import AttributeValue


try:
    from opentelemetry import metrics, trace
    from opentelemetry.trace import Link, SpanKind, Status, StatusCode
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "the bridge to OpenTelemetry needs opentelemetry-api: pip install 'omni-async[otel]'", name=_missing.name
    ) from _missing

_INSTRUMENTATION_NAME = "omni_async"
_NANOSECONDS = 1_000_000_000
_HTTP_METHODS = {EventKind.SUBMIT: "POST", EventKind.CHECK: "GET", EventKind.DOWNLOAD: "GET"}
_SPAN_NAMES = {EventKind.SUBMIT: "submit", EventKind.CHECK: "check", EventKind.DOWNLOAD: "download"}
# Final statuses that are not an error of the span: a user cancels on purpose.
_SUCCESSFUL = frozenset({JobStatus.COMPLETED, JobStatus.CANCELLED})
# A generated key is a prompt's slug followed by a hex part: 8 digits for `submit`, 10 for a line of a batch file, whose
# duplicates get a number as well.
_GENERATED_KEY = re.compile(r"(?s).*-([0-9a-f]{8}|[0-9a-f]{10})(?:-\d+)?")
# Spans of ended jobs that are kept for links from their extensions. Trades memory (a few hundred bytes each) for
# complete links: an extension normally starts when its parent ends. Chosen, not measured: at half, late extensions of
# large batches lose their link; at double, twice the memory.
_MAX_ENDED_SPANS = 1000
# Jobs being downloaded whose spans are kept open. In a fleet another worker may download a job, and this one hears no
# more of it: its span ends here with the status downloading, and the other worker's bridge counts the job. Trades
# memory (a few KB each) for complete spans where more wait for their download at the same time. Chosen, not measured.
_MAX_DOWNLOADING = 10_000


def bridge(
    *,
    prompts: bool = False,
    forward_to: Callable[[JobEvent], object] | None = None,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
) -> Bridge:
    """Return a listener for `OmniClient(on_event=...)` that records spans and metrics.

    `prompts=True` also exports prompts, unchanged keys and error messages. `forward_to` is called with each event
    after it was recorded, so that a second listener can be attached. The providers default to the global ones. The
    spans of jobs are children of the span that is current when the client is entered.
    """
    return Bridge(
        tracer=trace.get_tracer(_INSTRUMENTATION_NAME, tracer_provider=tracer_provider),
        meter=metrics.get_meter(_INSTRUMENTATION_NAME, meter_provider=meter_provider),
        prompts=prompts,
        forward_to=forward_to,
    )


class Bridge:
    """A listener that records events as spans and metrics. Made by `bridge`."""

    def __init__(
        self,
        *,
        tracer: trace.Tracer,
        meter: metrics.Meter,
        prompts: bool,
        forward_to: Callable[[JobEvent], object] | None,
    ) -> None:
        self._tracer = tracer
        self._prompts = prompts
        self._forward_to = forward_to
        self._metrics = _Metrics(meter)
        self._open: dict[str, _OpenJob] = {}  # by key
        self._downloading: dict[str, None] = {}  # keys of those that are downloading, oldest first
        self._ended: dict[str, trace.SpanContext] = {}  # by key, oldest first

    def __call__(self, event: JobEvent) -> None:
        """Record one event, then forward it."""
        try:
            self._record(event)
        finally:
            if self._forward_to is not None:
                self._forward_to(event)

    def _record(self, event: JobEvent) -> None:
        self._metrics.count_request(event)
        job = self._open.get(event.key)
        # In a fleet, the first event of a job may be that of its download.
        if job is None and event.kind is not EventKind.ABANDONED and not event.status.is_final:
            job = self._open[event.key] = self._start_job(event)
        if job is None:  # already complete when it was submitted again: nothing happens to it
            return
        if event.kind in _HTTP_METHODS:
            self._add_request(job, event)
        elif event.kind is EventKind.STATUS:
            self._metrics.count_cost(event, job)
            job.span.add_event(str(event.status), timestamp=_nanoseconds(event.timestamp))
            if event.status is JobStatus.DOWNLOADING:
                self._downloading[event.key] = None
                self._leave_to_others(event.timestamp)
        if event.kind is EventKind.ABANDONED or event.status.is_final:
            self._end_job(job, event)

    def _leave_to_others(self, now: float) -> None:
        """End the span that has been downloading for longest, if there are too many."""
        if len(self._downloading) > _MAX_DOWNLOADING:
            key = next(iter(self._downloading))
            span = self._close_job(key)
            span.set_attribute("omni_async.job.status", str(JobStatus.DOWNLOADING))
            span.end(end_time=_nanoseconds(now))

    def _close_job(self, key: str) -> trace.Span:
        """Forget an open job, but for links from its extensions, and return its span."""
        span = self._open.pop(key).span
        self._downloading.pop(key, None)
        self._ended[key] = span.get_span_context()
        if len(self._ended) > _MAX_ENDED_SPANS:
            del self._ended[next(iter(self._ended))]
        return span

    def _start_job(self, event: JobEvent) -> _OpenJob:
        model = event.model or ""
        attributes = {
            "gen_ai.operation.name": "generate_content",
            "gen_ai.provider.name": "apimart",
            "gen_ai.output.type": "video",
            "gen_ai.request.model": model,
            "omni_async.job.key": self._exported_key(event.key),
            "omni_async.job.parent": event.parent and self._exported_key(event.parent),
        }
        if self._prompts and event.prompt:
            message = [{"role": "user", "parts": [{"type": "text", "content": event.prompt}]}]
            attributes["gen_ai.input.messages"] = json.dumps(message)
        parent = self._open[event.parent].span.get_span_context() if event.parent in self._open else None
        parent = parent or self._ended.get(event.parent or "")
        span = self._tracer.start_span(
            f"generate_content {model}".rstrip(),
            start_time=_nanoseconds(event.timestamp),
            attributes=_present(attributes),
            links=[Link(parent)] if parent else None,
        )
        return _OpenJob(span, started_at=event.timestamp, counted_cost=event.cost or 0.0)

    def _add_request(self, job: _OpenJob, event: JobEvent) -> None:
        """Record a request that has ended, as a span that started `event.seconds` earlier."""
        is_download = event.kind is EventKind.DOWNLOAD
        is_resent = event.kind is EventKind.SUBMIT and event.submits > 1
        resume_offset = event.bytes_received - event.bytes
        attributes = {
            "http.request.method": _HTTP_METHODS[event.kind],
            "http.response.status_code": event.http_status,
            "http.request.resend_count": event.submits - 1 if is_resent else None,
            "http.response.body.size": event.bytes if is_download else None,
            "omni_async.download.resume_offset": resume_offset or None if is_download else None,
        }
        span = self._tracer.start_span(
            _SPAN_NAMES[event.kind],
            context=trace.set_span_in_context(job.span),
            kind=SpanKind.CLIENT,
            start_time=_nanoseconds(event.timestamp - (event.seconds or 0.0)),
            attributes=_present(attributes),
        )
        if event.error:
            self._set_error(span, event)
        span.end(end_time=_nanoseconds(event.timestamp))

    def _end_job(self, job: _OpenJob, event: JobEvent) -> None:
        self._close_job(event.key)
        attributes = {
            "omni_async.job.status": str(event.status),
            "omni_async.job.task_id": event.task_id,
            "omni_async.job.submits": event.submits,
            "omni_async.job.cost": event.cost,
        }
        job.span.set_attributes(_present(attributes))
        if event.kind is EventKind.ABANDONED or event.status not in _SUCCESSFUL:
            self._set_error(job.span, event)
        job.span.end(end_time=_nanoseconds(event.timestamp))
        self._metrics.count_job(event, event.timestamp - job.started_at)

    def _set_error(self, span: trace.Span, event: JobEvent) -> None:
        span.set_attribute("error.type", event.error_type or str(event.status))
        span.set_status(Status(StatusCode.ERROR, event.error if self._prompts else None))

    def _exported_key(self, key: str) -> str:
        """Return a key as it may be exported: of one generated from a prompt, only the random part."""
        match = None if self._prompts else _GENERATED_KEY.fullmatch(key)
        return match[1] if match else key


class _OpenJob:
    """A job whose span has not ended."""

    __slots__ = ("counted_cost", "span", "started_at")

    def __init__(self, span: trace.Span, *, started_at: float, counted_cost: float) -> None:
        self.span = span
        self.started_at = started_at
        self.counted_cost = counted_cost  # USD of its cost that are in the counter, or were paid in an earlier run


class _Metrics:
    """The counters and the histogram."""

    def __init__(self, meter: metrics.Meter) -> None:
        counter = meter.create_counter
        self._jobs = counter("omni_async.jobs", "{job}", "Jobs that ended, by status")
        self._duration = meter.create_histogram("omni_async.job.duration", "s", "Time from submit() to the end")
        self._submits = counter("omni_async.submits", "{request}", "Submit requests, by error.type")
        self._rate_limited = counter("omni_async.rate_limited", "{request}", "Submit requests answered with 429")
        self._checks = counter("omni_async.checks", "{request}", "Status requests, by error.type")
        self._bytes = counter("omni_async.bytes_downloaded", "By", "Bytes of clips received")
        self._cost = counter("omni_async.cost", "{USD}", "Cost charged by the server")

    def count_request(self, event: JobEvent) -> None:
        """Count a request that has ended."""
        attributes = {"error.type": event.error_type} if event.error else {}
        if event.kind is EventKind.SUBMIT:
            self._submits.add(1, attributes)
            if event.error_type == "RateLimited":
                self._rate_limited.add(1)
        elif event.kind is EventKind.CHECK:
            self._checks.add(1, attributes)
        elif event.kind is EventKind.DOWNLOAD:
            self._bytes.add(event.bytes)

    def count_cost(self, event: JobEvent, job: _OpenJob) -> None:
        """Count the part of a job's cost that has not been counted yet."""
        uncounted = (event.cost or 0.0) - job.counted_cost
        if uncounted > 0:
            self._cost.add(uncounted)
            job.counted_cost += uncounted

    def count_job(self, event: JobEvent, seconds: float) -> None:
        """Count a job that has ended or was abandoned."""
        status = "abandoned" if event.kind is EventKind.ABANDONED else str(event.status)
        self._jobs.add(1, {"omni_async.job.status": status})
        # Timestamps are wall time, which may be set back during a job.
        self._duration.record(max(0.0, seconds), {"omni_async.job.status": status})


def _present(attributes: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """Return the attributes that have a value."""
    return {name: value for name, value in attributes.items() if value is not None and value != ""}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * _NANOSECONDS)
