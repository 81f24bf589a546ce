"""A bridge to OpenTelemetry: ``OmniClient(on_event=otel.bridge())``. Needs the extra `otel`.

A span per job, named after the conventions for generative AI, with a span inside for each submit, check and download,
and counters. It hears events and nothing else, and uses the API of OpenTelemetry alone: whoever sets up no SDK pays
next to nothing and gets nothing.

What a person has written stays here: no prompt, no text of an error (servers quote prompts) and no key that was made
from a prompt is told, unless the bridge is made with ``prompts=True``. The API key is in no event.
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
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "the bridge to OpenTelemetry needs opentelemetry-api: pip install 'omni-async[otel]'", name=missing.name
    ) from missing

_NAME = "omni_async"
_NS = 1_000_000_000
_REQUESTS = {EventKind.SUBMIT: "POST", EventKind.CHECK: "GET", EventKind.DOWNLOAD: "GET"}
_SPAN_NAMES = {EventKind.SUBMIT: "submit", EventKind.CHECK: "check", EventKind.DOWNLOAD: "download"}
_WELL = frozenset({JobStatus.COMPLETED, JobStatus.CANCELLED})
_MADE_OF_A_PROMPT = re.compile(r"(?s).*-([0-9a-f]{8}|[0-9a-f]{10})(?:-\d+)?")  # the keys of what was given none
_REMEMBERED = 1000  # spans of jobs that have ended, to which those that extend them are linked


def bridge(
    *,
    prompts: bool = False,
    forward_to: Callable[[JobEvent], object] | None = None,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
) -> Bridge:
    """Give a listener for `OmniClient(on_event=...)` that makes spans and counts; `then` hears each event after it.

    `prompts=True` also tells prompts, keys as they are, and errors in words. The providers are the global ones unless
    given. The spans of jobs are children of the span that was current when the client was entered.
    """
    return Bridge(
        tracer=trace.get_tracer(_NAME, tracer_provider=tracer_provider),
        meter=metrics.get_meter(_NAME, meter_provider=meter_provider),
        prompts=prompts,
        forward_to=forward_to,
    )


class Bridge:
    """Hears events and tells them to OpenTelemetry; `bridge` makes one."""

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
        self._counts = _Counts(meter)
        self._open: dict[str, _Open] = {}
        self._ended: dict[str, trace.SpanContext] = {}

    def __call__(self, event: JobEvent) -> None:
        """Take in one event, and pass it on."""
        try:
            self._hear(event)
        finally:
            if self._forward_to is not None:
                self._forward_to(event)

    def _hear(self, event: JobEvent) -> None:
        self._counts.request(event)
        job = self._open.get(event.key)
        if job is None and event.kind is EventKind.STATUS and not event.status.is_final:
            job = self._open[event.key] = self._begin(event)
        if job is None:
            return
        if event.kind in _REQUESTS:
            self._request(job, event)
        elif event.kind is EventKind.STATUS:
            self._counts.bill(event, job)
            job.span.add_event(str(event.status), timestamp=_ns(event.timestamp))
        if event.kind is EventKind.ABANDONED or event.status.is_final:
            self._finish(job, event)

    def _begin(self, event: JobEvent) -> _Open:
        model = event.model or ""
        facts = {
            "gen_ai.operation.name": "generate_content",
            "gen_ai.provider.name": "apimart",
            "gen_ai.output.type": "video",
            "gen_ai.request.model": model,
            "omni_async.job.key": self._key(event.key),
            "omni_async.job.parent": event.parent and self._key(event.parent),
        }
        if self._prompts and event.prompt:
            message = [{"role": "user", "parts": [{"type": "text", "content": event.prompt}]}]
            facts["gen_ai.input.messages"] = json.dumps(message)
        parent = self._open[event.parent].span.get_span_context() if event.parent in self._open else None
        parent = parent or self._ended.get(event.parent or "")
        span = self._tracer.start_span(
            f"generate_content {model}".rstrip(),
            start_time=_ns(event.timestamp),
            attributes=_told(facts),
            links=[Link(parent)] if parent else None,
        )
        return _Open(span, began=event.timestamp, billed=event.cost or 0.0)

    def _request(self, job: _Open, event: JobEvent) -> None:
        """Tell of a request that is over: a span which began as long ago as it took."""
        is_download = event.kind is EventKind.DOWNLOAD
        is_resent = event.kind is EventKind.SUBMIT and event.submits > 1
        facts = {
            "http.request.method": _REQUESTS[event.kind],
            "http.response.status_code": event.http_status,
            "http.request.resend_count": event.submits - 1 if is_resent else None,
            "http.response.body.size": event.bytes if is_download else None,
            "omni_async.download.resumed_at": (event.bytes_received - event.bytes) or None if is_download else None,
        }
        span = self._tracer.start_span(
            _SPAN_NAMES[event.kind],
            context=trace.set_span_in_context(job.span),
            kind=SpanKind.CLIENT,
            start_time=_ns(event.timestamp - (event.seconds or 0.0)),
            attributes=_told(facts),
        )
        if event.error:
            self._blame(span, event)
        span.end(end_time=_ns(event.timestamp))

    def _finish(self, job: _Open, event: JobEvent) -> None:
        del self._open[event.key]
        facts = {
            "omni_async.job.status": str(event.status),
            "omni_async.job.task_id": event.task_id,
            "omni_async.job.submits": event.submits,
            "omni_async.job.cost": event.cost,
        }
        job.span.set_attributes(_told(facts))
        if event.kind is EventKind.ABANDONED or event.status not in _WELL:
            self._blame(job.span, event)
        job.span.end(end_time=_ns(event.timestamp))
        self._counts.end(event, event.timestamp - job.began)
        self._ended[event.key] = job.span.get_span_context()
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def _blame(self, span: trace.Span, event: JobEvent) -> None:
        span.set_attribute("error.type", event.error_type or str(event.status))
        span.set_status(Status(StatusCode.ERROR, event.error if self._prompts else None))

    def _key(self, key: str) -> str:
        """Give a key as it is, or, if it was made from a prompt, the part of it that tells nothing."""
        made = None if self._prompts else _MADE_OF_A_PROMPT.fullmatch(key)
        return made[1] if made else key


class _Open:
    """A job whose span has not ended."""

    __slots__ = ("began", "billed", "span")

    def __init__(self, span: trace.Span, *, began: float, billed: float) -> None:
        self.span = span
        self.began = began
        self.billed = billed  # of its cost, what has been counted, or was paid in an earlier run


class _Counts:
    """The instruments."""

    def __init__(self, meter: metrics.Meter) -> None:
        self._jobs = meter.create_counter("omni_async.jobs", "{job}", "Jobs that have ended, by status")
        self._duration = meter.create_histogram("omni_async.job.duration", "s", "From submit() to the end, by status")
        self._submits = meter.create_counter("omni_async.submits", "{request}", "POSTs, by error.type")
        self._refused = meter.create_counter("omni_async.refused", "{request}", "POSTs answered with 429")
        self._checks = meter.create_counter("omni_async.checks", "{request}", "Status requests, by error.type")
        self._bytes = meter.create_counter("omni_async.downloaded", "By", "Bytes of clips")
        self._cost = meter.create_counter("omni_async.cost", "{USD}", "What the server charged")

    def request(self, event: JobEvent) -> None:
        """Count a request that is over."""
        facts = {"error.type": event.error_type} if event.error else {}
        if event.kind is EventKind.SUBMIT:
            self._submits.add(1, facts)
            if event.error_type == "RateLimited":
                self._refused.add(1)
        elif event.kind is EventKind.CHECK:
            self._checks.add(1, facts)
        elif event.kind is EventKind.DOWNLOAD:
            self._bytes.add(event.bytes)

    def bill(self, event: JobEvent, job: _Open) -> None:
        """Count what a job has cost, once."""
        more = (event.cost or 0.0) - job.billed
        if more > 0:
            self._cost.add(more)
            job.billed += more

    def end(self, event: JobEvent, seconds: float) -> None:
        """Count a job that has ended, or is left unfinished."""
        status = "unfinished" if event.kind is EventKind.ABANDONED else str(event.status)
        self._jobs.add(1, {"omni_async.job.status": status})
        self._duration.record(max(0.0, seconds), {"omni_async.job.status": status})


def _told(facts: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """Give those facts that are known."""
    return {name: value for name, value in facts.items() if value is not None and value != ""}


def _ns(seconds: float) -> int:
    return int(seconds * _NS)
