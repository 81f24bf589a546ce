"""A process that attacks a webhook: it knows the secret path and all task ids.

Reads one line of JSON: the URL, the task ids, the number of calls, and how many of them have a body of 10 MB. Writes
one: the number of responses by status, and the duration in seconds. Used by `webhooks`.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from typing import Any

import aiohttp

_CONCURRENCY = 50  # calls in progress; enough to keep the receiving process busy. Chosen, not measured.
_LARGE_BODY = 10_000_000  # bytes, far above the 64 KB that the client reads


def _body(number: int, assignment: dict[str, Any], jitter: random.Random) -> bytes:
    if number < assignment["large_bodies"]:
        return bytes(_LARGE_BODY)
    kind = jitter.random()
    if kind < 0.45:
        return json.dumps({"id": jitter.choice(assignment["task_ids"]), "status": "completed", "result": {}}).encode()
    if kind < 0.9:
        return json.dumps({"id": f"task_{jitter.randrange(10**26):026d}", "status": "failed"}).encode()
    return jitter.randbytes(jitter.randrange(60_000))


async def _call_all(assignment: dict[str, Any]) -> Counter[int]:
    jitter, statuses, numbers = random.Random(1), Counter[int](), iter(range(assignment["calls"]))

    async def call() -> None:
        for number in numbers:
            try:
                async with session.post(assignment["url"], data=_body(number, assignment, jitter)) as response:
                    statuses[response.status] += 1
            except aiohttp.ClientError:  # the connection was closed in the middle of a body that is too large
                statuses[0] += 1

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(call() for _ in range(_CONCURRENCY)))
    return statuses


def main() -> None:
    """Read the assignment, make the calls, print the result, and end when the parent process does."""
    assignment = json.loads(sys.stdin.readline())
    start = time.monotonic()
    statuses = asyncio.run(_call_all(assignment))
    print(json.dumps({"statuses": dict(statuses), "seconds": time.monotonic() - start}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
