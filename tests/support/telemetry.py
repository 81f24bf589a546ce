"""An OpenTelemetry SDK whose exporters keep everything in memory."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from omni_async import otel


class Backend:
    """An OpenTelemetry SDK that keeps everything in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def bridge(self, **settings: Any) -> otel.Bridge:
        """Make a bridge to it."""
        return otel.bridge(tracer_provider=self.tracers, meter_provider=self.meters, **settings)

    def jobs(self) -> list[ReadableSpan]:
        """Give the spans of jobs."""
        return [span for span in self.exporter.get_finished_spans() if span.parent is None]

    def inside(self, job: ReadableSpan) -> list[ReadableSpan]:
        """Give the spans within one, in order of their beginning."""
        assert job.context is not None
        number = job.context.span_id
        found = [span for span in self.exporter.get_finished_spans() if span.parent and span.parent.span_id == number]
        return sorted(found, key=lambda span: span.start_time or 0)

    def sums(self) -> dict[str, float]:
        """Give the counters, each with its attributes in its name."""
        data = self.reader.get_metrics_data()
        points: dict[str, float] = {}
        for resource in data.resource_metrics if data else []:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        name = "/".join([metric.name, *map(str, (point.attributes or {}).values())])
                        points[name] = float(getattr(point, "value", None) or getattr(point, "count", None) or 0)
        return points


def facts(span: ReadableSpan, *names: str) -> tuple[Any, ...]:
    """Give a span's name and some of its attributes."""
    return (span.name, *((span.attributes or {}).get(name) for name in names))
