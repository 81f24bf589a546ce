"""Tests of HTTP and what responses mean."""
