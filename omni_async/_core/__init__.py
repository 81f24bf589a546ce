"""The core decides: plain synchronous code that never waits, reads a clock, rolls dice or opens anything."""
