"""The whole client against the sandbox, over real sockets, with every trouble that may pass at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from omni_async import JobStatus, OmniClient, Polling, Retry
from omni_async._transport import HttpTransport, Timeouts
from omni_async.sandbox import Sandbox
from omni_async.sandbox.faults import FAULTS

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async._ports import Transport

pytest.importorskip("av", reason="the sandbox films with the extra `media`")
pytestmark = pytest.mark.timeout(120)

# What ends a job, or the whole line, and rightly so; and what only takes long.
FINAL = {
    "http_400", "http_401", "http_402", "http_403", "http_500_parameter", "http_401_check", "http_403_check",
    "idempotency_indeterminate", "redirect_submit", "never_link", "error_in_200",
}  # fmt: skip


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


class Client(OmniClient):
    """The real client with short timeouts."""

    def _make_transport(self, base_url: str, api_key: str) -> Transport:
        return HttpTransport(base_url, api_key, timeouts=Timeouts(connect=2, submit=0.7, check=0.7, idle=0.4))


async def test_every_trouble_that_may_pass_passes(tmp_path: Path) -> None:
    """With each passing fault of the sandbox at three percent, sixty jobs make sixty tasks and sixty whole clips."""
    faults = dict.fromkeys(sorted(set(FAULTS) - FINAL), 0.03)
    async with Sandbox(prerendered=True, median=0.5, max_in_flight=20, faults=faults, seed=1) as sandbox:
        retry, polling = Retry(initial=0.05, maximum=0.3, budget=60), Polling(minimum=0.05, maximum=0.3)
        async with Client(
            "sk-fine", base_url=sandbox.base_url, output_dir=tmp_path, ledger=None, retry=retry, polling=polling
        ) as client:
            jobs = [client.submit(f"p{number}") for number in range(60)]
            async with asyncio.timeout(90):
                paths = await asyncio.gather(*jobs)
        assert len(sandbox.record.tasks) == 60
        assert sum(sandbox.record.faults.values()) > 10
        assert not sandbox.record.duplicate_keys
        assert sandbox.record.leaked_keys == sandbox.record.redirected_keys == sandbox.record.redirected_submits == 0
    assert all(job.status is JobStatus.COMPLETED for job in jobs)
    assert len(set(paths)) == 60
