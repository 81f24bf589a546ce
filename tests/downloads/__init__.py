"""Tests of downloading clips."""
