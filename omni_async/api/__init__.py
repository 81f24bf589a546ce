"""The HTTP API: transport, requests and what its responses mean."""
