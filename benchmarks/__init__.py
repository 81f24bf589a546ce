"""What the library takes, beside what others take and the least possible: `python -m benchmarks.report [--quick]`.

Each module is a program of its own (`python -m benchmarks.makespan`), prints a table and writes JSON to
`benchmarks/results/`. What is about sockets and CPU runs in real time, each contestant in a process of its own against
sandboxes in another; what is about hours runs on virtual time, with the real client and a server in memory.
"""
