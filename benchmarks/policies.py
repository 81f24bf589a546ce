"""What others do, as far as it decides when requests leave: on virtual time, without their sockets and threads.

Each is the loop of a program in `contestants`, job by job and 64 at a time: submit until accepted, look until done.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.virtual import Account

AT_ONCE = 64


@dataclass(frozen=True)
class Policy:
    """Pauses after refusals (they double from `initial` to `maximum`) and the interval between checks, in seconds."""

    name: str
    initial: float
    maximum: float
    least_jitter: float  # a pause is drawn from this share of it up to the whole
    check_every: float
    first_check: float
    obeys_advice: bool = False

    def pause(self, attempt: int, advice: str | None) -> float:
        """Give how long to wait after a refusal."""
        if self.obeys_advice and advice is not None:
            return float(advice)
        longest: float = min(self.maximum, self.initial * 2.0 ** min(attempt, 30))
        return longest * random.uniform(self.least_jitter, 1)


POLICIES = (
    Policy("handwritten asyncio", 1.0, 60.0, 0.0, 5.0, 5.0),
    Policy("page's snippet", 1.0, 60.0, 0.5, 5.0, 5.0),
    Policy("openai SDK", 0.5, 8.0, 0.75, 1.0, 0.0, obeys_advice=True),
)


async def work_without_end(account: Account, policy: Policy) -> None:
    """Work off a list without end."""
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(_one_after_another(account, policy))


async def _one_after_another(account: Account, policy: Policy) -> None:
    while True:
        task_id = await _submit(account, policy)
        await asyncio.sleep(policy.first_check)
        while b'"completed"' not in (await account.check(task_id)).body:
            await asyncio.sleep(policy.check_every)


async def _submit(account: Account, policy: Policy) -> str:
    attempt = 0
    while True:
        reply = await account.submit(b"", "")
        if reply.status == 200:
            return reply.body.split(b'"task_id":"')[1].split(b'"')[0].decode()
        await asyncio.sleep(policy.pause(attempt, reply.headers.get("retry-after")))
        attempt += 1
