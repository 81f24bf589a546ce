"""The first stage of a job: send each request exactly once."""
