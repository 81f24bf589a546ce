"""Tests of checking accepted tasks."""
