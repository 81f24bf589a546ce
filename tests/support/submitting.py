"""What tests of the submitter read off a server, and off the jobs that they have submitted."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omni_async import Job
    from tests.support.fakes import Post, Server


def prompts(server: Server) -> list[str]:
    """Return the prompts in the order in which they were first sent."""
    return list(dict.fromkeys(post.body["prompt"] for post in server.posts))


async def outcomes(jobs: list[Job]) -> list[object]:
    """Return the result or the error of each job, once all have ended."""
    async with asyncio.timeout(100_000):
        return await asyncio.gather(*jobs, return_exceptions=True)


async def error_of(job: Job) -> BaseException:
    """Return the error that a job ends with."""
    try:
        await job
    except Exception as error:
        return error
    raise AssertionError(f"{job} has ended well")


def gaps(posts: list[Post]) -> list[float]:
    """Return the seconds between consecutive POSTs."""
    return [after.at - before.at for before, after in pairwise(posts)]
