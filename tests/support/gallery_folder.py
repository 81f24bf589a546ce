"""What the tests look at: a run against a sandbox that makes real clips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omni_async import JobError, OmniClient, OmniError, Polling, Retry
from omni_async.sandbox import Sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async import Job

HOSTILE = '<img src=x onerror="document.title=1"><script>document.title="owned"</script> a castle & a "moat"'
ODD_KEY = 'odd #1? 50% & <b>"ü"</b>'


async def make_folder(folder: Path) -> None:
    """Make eight clips (four upright, four in a row of turns), let one job fail and leave one unknown."""
    async with Sandbox(median=0.05, prerendered=True, seconds=3) as sandbox:
        settings: dict[str, Any] = {"base_url": sandbox.base_url, "output_dir": folder}
        settings |= {"retry": Retry(ambiguous="hold"), "polling": Polling(min_interval=0.05)}
        async with OmniClient(sandbox.api_key, **settings) as client:
            jobs = [
                client.submit("a red apple on a table", key="apple"),
                client.submit(HOSTILE, key=ODD_KEY, aspect_ratio="9:16"),
                *(client.submit(f"a tall tower, number {n}", key=f"tower-{n}", aspect_ratio="9:16") for n in range(3)),
            ]
            for number, words in enumerate(["now make it snow", "now at night", "now with fireworks"]):
                jobs.append((jobs[-1] if number else jobs[0]).extend(words, key=f"turn-{number + 1}"))
            for job in jobs:
                await job
            sandbox.script("submit", ["http_400"])
            await _in_vain(client.submit("a prompt that is refused", key="refused"))
            sandbox.script("submit", ["drop_after"])
            await _in_vain(client.submit("a prompt that is lost on its way", key="lost"))


async def _in_vain(job: Job) -> None:
    try:
        await job
    except (JobError, OmniError):
        return
    raise AssertionError(f"{job.key} should have come to nothing")
