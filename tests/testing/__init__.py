"""Tests of what others test with: the fixtures, the clock, the server in memory."""
