"""The folder that the gallery tests show: the result of a run against a sandbox that makes real clips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omni_async import JobError, Limits, OmniClient, OmniError, Polling, Retry
from omni_async.sandbox import Sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async import Job

HOSTILE_PROMPT = '<img src=x onerror="document.title=1"><script>document.title="owned"</script> a castle & a "moat"'
ODD_KEY = 'odd #1? 50% & <b>"ü"</b>'

# A client that neither probes for its limits nor waits long between checks: the sandbox has a clip after 0.05 s.
QUICK: dict[str, Any] = {
    "limits": Limits(submits_per_minute=60_000),
    "polling": Polling(min_interval=0.05, max_interval=0.1),
}


async def make_folder(folder: Path) -> None:
    """Make eight clips (four vertical, and one chain of four), one failed job and one whose outcome is unknown."""
    async with Sandbox(median=0.05, prerendered=True, seconds=3) as sandbox:
        settings: dict[str, Any] = {"base_url": sandbox.base_url, "output_dir": folder} | QUICK
        settings |= {"retry": Retry(ambiguous="hold")}
        async with OmniClient(sandbox.api_key, **settings) as client:
            jobs = [
                client.submit("a red apple on a table", key="apple"),
                client.submit(HOSTILE_PROMPT, key=ODD_KEY, aspect_ratio="9:16"),
                *(client.submit(f"a tall tower, number {n}", key=f"tower-{n}", aspect_ratio="9:16") for n in range(3)),
            ]
            for number, prompt in enumerate(["now make it snow", "now at night", "now with fireworks"]):
                jobs.append((jobs[-1] if number else jobs[0]).extend(prompt, key=f"turn-{number + 1}"))
            for job in jobs:
                await job
            sandbox.script("submit", ["http_400"])
            await _expect_failure(client.submit("a prompt that is rejected", key="rejected"))
            sandbox.script("submit", ["drop_after"])
            await _expect_failure(client.submit("a prompt whose answer is lost", key="lost"))


async def _expect_failure(job: Job) -> None:
    try:
        await job
    except (JobError, OmniError):
        return
    raise AssertionError(f"job {job.key!r} should have failed")
