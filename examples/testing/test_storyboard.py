"""Tests of storyboard.py: pytest examples/testing.

The fixtures come with omni_async: pip install 'omni-async[media]'.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from storyboard import make_clips

from omni_async import Limits, OmniClient
from omni_async.testing import SandboxThread

SCENES = ["a fox wakes", "it crosses a river", "it sleeps again"]


def test_each_scene_is_paid_for_once(omni_sandbox: SandboxThread, tmp_path: Path) -> None:
    """Even if half of the responses are lost, so that the client cannot know what was accepted."""
    omni_sandbox.fault("drop_after", 0.5)
    clips, reasons = asyncio.run(make_clips(SCENES, tmp_path))
    assert [clip.name for clip in clips] == ["scene-1.mp4", "scene-2.mp4", "scene-3.mp4"]
    assert reasons == {}
    omni_sandbox.assert_paid_once()
    omni_sandbox.assert_paid_for(SCENES)
    omni_sandbox.assert_downloaded()


def test_a_second_run_costs_nothing(omni_sandbox: SandboxThread, tmp_path: Path) -> None:
    """The ledger in the folder knows which scenes are done."""
    first, _ = asyncio.run(make_clips(SCENES, tmp_path))
    paid = omni_sandbox.paid
    second, _ = asyncio.run(make_clips(SCENES, tmp_path))
    assert (second, omni_sandbox.paid, omni_sandbox.submits) == (first, paid, 3)


def test_a_rejected_scene_is_reported(omni_sandbox: SandboxThread, tmp_path: Path) -> None:
    """A rejected scene costs nothing, and the other scenes get their clips."""
    omni_sandbox.script("submit", [None, "http_400", None])
    clips, reasons = asyncio.run(make_clips(SCENES, tmp_path))
    assert len(clips) == 2
    assert len(reasons) == 1
    assert len(omni_sandbox.tasks) == 2


@pytest.mark.omni_sandbox(max_in_flight=1)
def test_a_known_limit_is_never_exceeded(omni_sandbox: SandboxThread, omni_client: Callable[..., OmniClient]) -> None:
    """The account runs one task at a time. A client configured with this limit never gets a 429."""

    async def main() -> None:
        async with omni_client(limits=Limits(max_in_flight=1)) as client:
            await asyncio.gather(*(client.submit(scene) for scene in SCENES))

    asyncio.run(main())
    assert omni_sandbox.record.refused == {}
