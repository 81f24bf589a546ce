"""Its tests. The fixtures come with omni_async (pip install 'omni-async[media]'): pytest examples/testing."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from storyboard import film

from omni_async import Limits, OmniClient
from omni_async.testing import SandboxThread

SCENES = ["a fox wakes", "it crosses a river", "it sleeps again"]


def test_each_scene_is_bought_once(omni_sandbox: SandboxThread, tmp_path: Path) -> None:
    """Also where every second answer to a submit is lost on its way, when nobody knows whether it was taken."""
    omni_sandbox.fault("drop_after", 0.5)
    clips, reasons = asyncio.run(film(SCENES, tmp_path))
    assert [clip.name for clip in clips] == ["scene-1.mp4", "scene-2.mp4", "scene-3.mp4"]
    assert reasons == {}
    omni_sandbox.assert_paid_once()
    omni_sandbox.assert_paid_for(SCENES)
    omni_sandbox.assert_downloaded()


def test_a_second_run_costs_nothing(omni_sandbox: SandboxThread, tmp_path: Path) -> None:
    """The ledger remembers."""
    first, _ = asyncio.run(film(SCENES, tmp_path))
    paid = omni_sandbox.paid
    second, _ = asyncio.run(film(SCENES, tmp_path))
    assert (second, omni_sandbox.paid, omni_sandbox.submits) == (first, paid, 3)


def test_a_refused_scene_is_told(omni_sandbox: SandboxThread, tmp_path: Path) -> None:
    """One is refused for good: the others are made, and it costs nothing."""
    omni_sandbox.script("submit", [None, "http_400", None])
    clips, reasons = asyncio.run(film(SCENES, tmp_path))
    assert len(clips) == 2
    assert len(reasons) == 1
    assert len(omni_sandbox.tasks) == 2


@pytest.mark.omni_sandbox(max_in_flight=1)
def test_with_a_client_of_the_fixture(omni_sandbox: SandboxThread, omni_client: Callable[..., OmniClient]) -> None:
    """The account runs one task at a time; a client that knows it is never refused."""

    async def work() -> None:
        async with omni_client(limits=Limits(max_in_flight=1)) as client:
            await asyncio.gather(*(client.submit(scene) for scene in SCENES))

    asyncio.run(work())
    assert omni_sandbox.record.refused == {}
