"""Requests, responses, and the rules of each model."""
