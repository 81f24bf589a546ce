"""Tests of the gallery page."""
