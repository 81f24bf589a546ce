"""The programs that are measured; each makes so many clips of an account, in a process of its own.

A contestant is a module with one function ``run(order: Order)``. Whatever it needs to import is imported before the
clock runs.
"""
