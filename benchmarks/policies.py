"""When other programs send requests, simulated on virtual time without their sockets and threads.

Each policy is that of a program in `peers`: 64 jobs concurrently, each submitted until it is accepted and then polled
until it is done. Used by `hours` and `memory`.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.virtual import Account

CONCURRENCY = 64  # jobs, as in `peers`


@dataclass(frozen=True)
class Policy:
    """The pauses after a 429, doubling from `initial` to `maximum`, and the check interval. All in seconds.

    Each pause is drawn between `min_jitter` times its length and its length.
    """

    name: str
    initial: float
    maximum: float
    min_jitter: float
    check_interval: float
    first_check: float
    obeys_retry_after: bool = False

    def pause(self, attempt: int, retry_after: str | None) -> float:
        """Return the pause in seconds after the given number of earlier 429s."""
        if self.obeys_retry_after and retry_after is not None:
            return float(retry_after)
        longest: float = min(self.maximum, self.initial * 2.0 ** min(attempt, 30))
        return longest * random.uniform(self.min_jitter, 1)


POLICIES = (
    Policy("handwritten asyncio", 1.0, 60.0, 0.0, 5.0, 5.0),
    Policy("page's snippet", 1.0, 60.0, 0.5, 5.0, 5.0),
    Policy("openai SDK", 0.5, 8.0, 0.75, 1.0, 0.0, obeys_retry_after=True),
)


async def work_endlessly(account: Account, policy: Policy) -> None:
    """Submit and poll jobs until cancelled."""
    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(_worker(account, policy))


async def _worker(account: Account, policy: Policy) -> None:
    while True:
        task_id = await _submit(account, policy)
        await asyncio.sleep(policy.first_check)
        while b'"completed"' not in (await account.check(task_id)).body:
            await asyncio.sleep(policy.check_interval)


async def _submit(account: Account, policy: Policy) -> str:
    attempt = 0
    while True:
        response = await account.submit(b"", "")
        if response.status == 200:
            return response.body.split(b'"task_id":"')[1].split(b'"')[0].decode()
        await asyncio.sleep(policy.pause(attempt, response.headers.get("retry-after")))
        attempt += 1
