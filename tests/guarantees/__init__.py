"""Tests of what is promised end to end: paid once, nothing lost, always stoppable."""
