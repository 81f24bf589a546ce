"""Tests of requests, responses and the model table."""
