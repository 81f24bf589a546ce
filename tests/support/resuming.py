"""Resumes all unfinished jobs of a ledger, as a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omni_async import Job, OmniClient


async def resumed(client: OmniClient) -> list[Job]:
    """Return the jobs that `client.resume()` resumes, while they run."""
    return [job async for job in client.resume()]
