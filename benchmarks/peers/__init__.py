"""The programs that are compared. Each generates the same number of clips with an account, in its own process.

A peer is a module with one function ``run(assignment: Assignment)``. Its imports are done before the measurement.
"""
