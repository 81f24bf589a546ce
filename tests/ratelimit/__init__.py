"""Tests of the rate limiter and its estimators."""
