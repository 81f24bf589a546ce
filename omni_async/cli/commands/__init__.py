"""The commands of `omni-async`, one module each."""
