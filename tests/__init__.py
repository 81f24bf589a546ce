"""The tests: they mirror the runtime."""
