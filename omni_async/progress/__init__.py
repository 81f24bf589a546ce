"""The progress of a client's jobs, drawn from its events."""
