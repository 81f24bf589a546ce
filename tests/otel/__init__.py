"""Tests of the OpenTelemetry bridge."""
