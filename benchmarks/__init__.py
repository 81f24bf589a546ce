"""Measurements of the library, each a program of its own: `python -m benchmarks.ledger --out FOLDER`."""
