"""Jobs: the handle users await, its state, its record, and the registry of live jobs."""
