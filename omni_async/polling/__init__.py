"""The middle stage of a job: check accepted tasks until they finish."""
