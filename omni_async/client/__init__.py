"""The client: the public API and the runtime that connects the stages of a job."""
