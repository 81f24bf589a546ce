"""Benchmarks of the library beside other programs and the theoretical optimum: `python -m benchmarks.report [--quick]`.

Each benchmark is a program (`python -m benchmarks.makespan`) that prints a table and writes JSON to
`benchmarks/results/`. Benchmarks of sockets and CPU run in real time: each program in its own process, against
sandboxes in another. Benchmarks of hours run on virtual time, with the real client and an in-memory server.
"""
