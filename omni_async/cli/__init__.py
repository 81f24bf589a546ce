"""The command line, `omni-async`: built on the public API alone. Needs the extra `cli`."""
