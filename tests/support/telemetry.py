"""An OpenTelemetry SDK that keeps spans and metrics in memory."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from omni_async import otel


class Backend:
    """An OpenTelemetry SDK with in-memory exporters."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def bridge(self, **settings: Any) -> otel.Bridge:
        """Return a bridge to this backend."""
        return otel.bridge(tracer_provider=self.tracers, meter_provider=self.meters, **settings)

    def job_spans(self) -> list[ReadableSpan]:
        """Return the spans of jobs."""
        return [span for span in self.exporter.get_finished_spans() if span.parent is None]

    def child_spans(self, job: ReadableSpan) -> list[ReadableSpan]:
        """Return the child spans of a job's span in order of their start."""
        assert job.context is not None
        span_id = job.context.span_id
        children = [s for s in self.exporter.get_finished_spans() if s.parent and s.parent.span_id == span_id]
        return sorted(children, key=lambda span: span.start_time or 0)

    def metrics(self) -> dict[str, float]:
        """Return the value of each metric, named "metric" or "metric/attribute value"; of a histogram, its count."""
        data = self.reader.get_metrics_data()
        points: dict[str, float] = {}
        for resource in data.resource_metrics if data else []:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        name = "/".join([metric.name, *map(str, (point.attributes or {}).values())])
                        points[name] = float(getattr(point, "value", None) or getattr(point, "count", None) or 0)
        return points


def attributes(span: ReadableSpan, *names: str) -> tuple[Any, ...]:
    """Return a span's name and some of its attributes."""
    return (span.name, *((span.attributes or {}).get(name) for name in names))
