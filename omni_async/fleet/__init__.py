"""Many machines, one account: the same jobs on Postgres, their clips carried by procrastinate.

Needs the extra `fleet`. See the README of this package.
"""
