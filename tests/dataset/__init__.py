"""Tests of folders as data sets."""
