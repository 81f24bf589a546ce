"""Ports for servers that are told where to listen."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

# No system gives these to a socket that may have any port, as most sockets of the tests that run at the same time may.
# One of them would sometimes have the port before the server that is to be started, or while it is restarted.
_PORTS = range(20_000, 30_000)
_RANDOM = random.SystemRandom()  # tests set the seed of the common one: each process would try the same ports


def free_port() -> int:
    """Return a port of this machine on which nothing listens, nor will by chance."""
    for port in _RANDOM.sample(_PORTS, 100):
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a hundred ports are all taken")
