"""When the next request may be sent: pacing, rate limits, concurrency limits and backoff."""
