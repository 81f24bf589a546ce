"""Rate limits, concurrency limits, pauses and backoff: when the next request may leave."""
