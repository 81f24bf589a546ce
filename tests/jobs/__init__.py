"""Tests of jobs, their records and names."""
