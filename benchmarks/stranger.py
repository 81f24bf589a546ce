"""A hostile caller of webhooks, who has found out the secret path and every task: a process of its own.

Reads one line of JSON: where to call, which tasks there are, how many calls and how many bodies of 10 MB. Writes one:
how many answers of each status there were, and the seconds that it took.
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

_AT_ONCE = 50
_HUGE = 10_000_000


def _body(number: int, order: dict[str, Any], jitter: random.Random) -> bytes:
    if number < order["huge"]:
        return bytes(_HUGE)
    kind = jitter.random()
    if kind < 0.45:
        return json.dumps({"id": jitter.choice(order["task_ids"]), "status": "completed", "result": {}}).encode()
    if kind < 0.9:
        return json.dumps({"id": f"task_{jitter.randrange(10**26):026d}", "status": "failed"}).encode()
    return jitter.randbytes(jitter.randrange(60_000))


async def _call_all(order: dict[str, Any]) -> Counter[int]:
    jitter, statuses, numbers = random.Random(1), Counter[int](), iter(range(order["calls"]))

    async def call() -> None:
        for number in numbers:
            try:
                async with session.post(order["url"], data=_body(number, order, jitter)) as answer:
                    statuses[answer.status] += 1
            except aiohttp.ClientError:  # hung up on, in the middle of a body that is too large
                statuses[0] += 1

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(call() for _ in range(_AT_ONCE)))
    return statuses


def main() -> None:
    """Wait for the order, carry it out, tell what came of it, and end when the parent does."""
    order = json.loads(sys.stdin.readline())
    start = time.monotonic()
    statuses = asyncio.run(_call_all(order))
    print(json.dumps({"statuses": dict(statuses), "seconds": time.monotonic() - start}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
