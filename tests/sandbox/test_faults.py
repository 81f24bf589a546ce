"""Each fault does what the table of faults says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import aiohttp
import pytest
from aiohttp import FormData

from omni_async.sandbox import FAULTS
from omni_async.sandbox.faults import FaultInjector
from tests.support.check_faults import CHECK_FAULTS
from tests.support.clip_faults import CLIP_FAULTS, SILENCE, TASK_FAULTS, UPLOAD_FAULTS
from tests.support.sandbox_client import TIMEOUT, Response, SandboxClient, link_of, open_sandbox
from tests.support.submit_faults import SUBMIT_FAULTS
from tests.support.webhook_faults import WEBHOOK_FAULTS, webhook_server

SLOW = {"slow_check", "not_found_check", "two_videos"}  # they wait for over a second, or for many tasks


def _marked(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in names]


def test_every_fault_has_a_test() -> None:
    """Each fault is asserted in one of the tables below."""
    assert set(FAULTS) == {*SUBMIT_FAULTS, *CHECK_FAULTS, *CLIP_FAULTS, *TASK_FAULTS, *UPLOAD_FAULTS, *WEBHOOK_FAULTS}


@pytest.mark.parametrize("name", SUBMIT_FAULTS)
async def test_submit_faults(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each has its effect on a submit, and the server logs no warning."""
    caplog.set_level(logging.WARNING)
    async with open_sandbox(faults={name: 1.0}) as client:
        await SUBMIT_FAULTS[name](client)
        assert client.sandbox.record.faults[name] >= 1
    assert not caplog.records


@pytest.mark.parametrize("name", _marked(CHECK_FAULTS))
async def test_check_faults(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each has its effect on a check, and the server logs no warning."""
    caplog.set_level(logging.WARNING)
    async with open_sandbox(faults={name: 1.0}, median=0.3) as client:
        await CHECK_FAULTS[name](client, await client.accepted())
        assert client.sandbox.record.faults[name] >= 1
        assert client.sandbox.record.accepted == 1
    assert not caplog.records


@pytest.mark.parametrize("name", CLIP_FAULTS)
async def test_clip_faults(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each has its effect on a download, and the server logs no warning."""
    caplog.set_level(logging.WARNING)
    async with open_sandbox(faults={name: 1.0}) as client:
        url = await client.link()
        client.sandbox.script("clip", [None])
        complete = (await client.fetch(url)).body
        client.sandbox.record.bytes_sent = 0
        await CLIP_FAULTS[name](client, url, complete)
        assert client.sandbox.record.faults[name] >= 1
    assert not caplog.records


@pytest.mark.parametrize("name", _marked(TASK_FAULTS))
@pytest.mark.parametrize("how", ["probability", "script"])
async def test_task_faults_last_for_the_lifetime_of_the_task(name: str, how: str) -> None:
    """A task keeps its fault, whether it was drawn at random or scripted for the submit."""
    async with open_sandbox(faults={name: 1.0} if how == "probability" else {}) as client:
        if how == "script":
            client.sandbox.script("submit", [name] * 20)
        await TASK_FAULTS[name](await client.completed(), client)
        assert client.sandbox.record.faults[name] >= 1


@pytest.mark.parametrize("name", UPLOAD_FAULTS)
async def test_upload_faults(name: str) -> None:
    """Each has its effect on an upload."""
    async with open_sandbox(faults={name: 1.0}) as client:
        form = FormData()
        form.add_field("file", b"\xff\xd8\xff" + bytes(64), filename="x.jpg")
        status = UPLOAD_FAULTS[name]
        if name == "hang_upload":
            upload = asyncio.create_task(client.call("POST", "/v1/uploads/images", data=form))
            async with asyncio.timeout(TIMEOUT):
                while not client.sandbox.record.uploads_by_sha256:
                    await asyncio.sleep(0.01)
            await asyncio.wait({upload}, timeout=SILENCE)
            assert not upload.done()
            upload.cancel()
        elif status is None:
            with pytest.raises(aiohttp.ClientError):
                await client.call("POST", "/v1/uploads/images", data=form)
        else:
            assert (await client.call("POST", "/v1/uploads/images", data=form)).status == status


@pytest.mark.parametrize("name", WEBHOOK_FAULTS)
async def test_webhook_faults(name: str) -> None:
    """Each has its effect on a webhook; a late one comes after the delay of a retry."""
    speed = 20.0 if name == "late_webhook" else 200.0  # half a second: on a busy machine the end is noticed late
    async with webhook_server([204]) as (url, received), open_sandbox(faults={name: 1.0}, speed=speed) as client:
        task_id = await client.accepted(webhook=url)
        await client.ended(task_id)
        assert received.empty() or name != "late_webhook"
        calls = [await asyncio.wait_for(received.get(), 10) for _ in range(WEBHOOK_FAULTS[name])]
        await asyncio.sleep(0.1)
        assert received.empty()
        assert {call["id"] for call in calls} <= {task_id}
        assert client.sandbox.record.faults[name] == 1


async def test_scripted_faults_hit_the_next_requests_in_order(client: SandboxClient) -> None:
    """None lets a request pass, and random faults resume after the script. An impossible script raises."""
    client.sandbox.script("submit", ["http_429", "http_503", None])
    client.sandbox.script("check", ["http_500_check"])
    statuses = [(await client.submit(str(number))).status for number in range(5)]
    assert statuses == [429, 503, 200, 200, 200]
    task_id = next(iter(client.sandbox.record.tasks))
    assert [(await client.check(task_id)).status for _ in range(2)] == [500, 200]
    with pytest.raises(ValueError, match=r"cannot hit a request of kind .check"):
        client.sandbox.script("check", ["http_429"])
    with pytest.raises(ValueError, match="unknown kind of request"):
        client.sandbox.script("dance", [])


def _hits(probabilities: dict[str, float], seed: int, kind: str = "submit") -> list[str | None]:
    injector = FaultInjector(probabilities, seed)
    return [injector.next_fault(kind) for _ in range(400)]


def test_faults_are_drawn_independently_from_the_seed() -> None:
    """The same seed gives the same hits, another fault does not change them, and their share is as configured."""
    alone = _hits({"http_500": 0.25}, 7)
    assert alone == _hits({"http_500": 0.25}, 7) != _hits({"http_500": 0.25}, 8)
    both = _hits({"http_500": 0.25, "http_429": 0.5}, 7)
    assert [each == "http_500" for each in both] == [each == "http_500" for each in alone]
    assert 70 < alone.count("http_500") < 130
    assert both.count("http_429") > 100


@pytest.mark.slow
async def test_a_retrying_client_gets_every_clip_with_all_faults_on() -> None:
    """With a probability of 1 in 25 for each fault, every clip arrives and each key is paid for once."""
    probabilities = dict.fromkeys(set(FAULTS) - {"never_link", "http_400", "http_500_parameter"}, 0.04)
    async with open_sandbox(faults=probabilities, seed=11) as client:
        clips = await asyncio.gather(*(_download(client, number) for number in range(12)))
        assert len(set(clips)) == 12
        record = client.sandbox.record
        assert (record.accepted, record.duplicates, record.leaked_keys) == (12, 0, 0)
        assert sum(record.faults.values()) > 12


async def _download(client: SandboxClient, number: int) -> bytes:
    def has_id(response: Response) -> Any:
        return response.json["data"][0]["task_id"]

    def has_link(response: Response) -> Any:
        return link_of(response.json["data"])

    def is_complete(response: Response) -> Any:
        length = int(response.headers["Content-Length"])
        return response.body if response.body[4:8] == b"ftyp" and len(response.body) == length else None

    task_id = await _until(has_id, lambda: client.submit(str(number), key=f"key-{number}"))

    async def download() -> Response:
        url = await _until(has_link, lambda: client.check(task_id))
        return await client.fetch(url, allow_redirects=True)

    clip: bytes = await _until(is_complete, download)
    return clip


async def _until(find: Callable[[Response], Any], ask: Callable[[], Awaitable[Response]]) -> Any:
    for _ in range(200):
        try:
            found = find(await asyncio.wait_for(ask(), 1.5))
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
            found = None
        if found:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError("never")
