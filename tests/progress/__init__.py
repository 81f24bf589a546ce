"""Tests of `omni_async.progress`."""
