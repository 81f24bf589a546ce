"""Tests of the programs in examples/ and in the READMEs."""
