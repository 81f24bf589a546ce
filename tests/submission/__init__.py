"""Tests of submitting."""
