"""API keys that are words which responses need: nothing is misread or paid twice, and no real key is shown."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from aiohttp import web

from omni_async import JobFailed, OmniClient, PaymentRequired, Polling, Retry
from tests.support.fakes import mp4
from tests.support.http_servers import KEY, all_text, web_server
from tests.support.markers import slow_after

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

CLIP = mp4("a clip", 1000)


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


class EchoingServer:
    """A server that quotes the API key wherever a server may."""

    def __init__(self, *, fails: bool = False, escapes: bool = False) -> None:
        self.fails = fails
        self.escapes = escapes
        self.posts = 0
        self.clip_paths: list[str] = []

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer a request to the API or for a clip."""
        if request.path.startswith("/clip/"):
            self.clip_paths.append(request.path_qs)
            return web.Response(body=CLIP)
        key = request.headers["Authorization"].removeprefix("Bearer ")
        if request.method == "POST":
            self.posts += 1
            accepted = {"status": "submitted", "task_id": f"task_{self.posts}", "key": key}
            return self.reply({"code": 200, "data": [accepted], "message": key}, key)
        if not request.path.startswith("/v1/tasks/"):
            return web.json_response({"error": {"message": f"not here, {key}", "code": "not_found"}}, status=404)
        task_id = request.path.rpartition("/")[2]
        link = f"http://{request.host}/clip/{key}/{task_id}.mp4?sig={key}"
        task: dict[str, Any] = {"id": task_id, "status": "completed", "result": {"videos": [{"url": [link]}]}}
        if self.fails:
            error = {"message": f"refused for {key}", "code": key, "type": key}
            task = {"id": task_id, "status": "failed", "error": error}
        return self.reply({"code": 200, "data": task, "message": key}, key)

    def reply(self, content: dict[str, Any], key: str) -> web.Response:
        """Return JSON, in which the key may be written with escapes."""
        text = json.dumps(content)
        escaped = "".join(f"\\u{ord(character):04x}" for character in key)
        return web.Response(text=text.replace(key, escaped) if self.escapes else text, content_type="application/json")


def client_of(key: str, url: str, folder: Path, **settings: Any) -> OmniClient:
    """Return a client with a key, which keeps a ledger."""
    return OmniClient(
        key,
        base_url=url,
        output_dir=folder,
        polling=Polling(min_interval=0.02, max_interval=0.1, timeout=20),
        retry=Retry(timeout=2, wait_initial=0.02, wait_max=0.1),
        **settings,
    )


@pytest.mark.parametrize(
    "key",
    slow_after(
        4,
        ["1", "data", "task_id", KEY, "k", "task", "200", "code", "url", "status", "completed", "submitted", "http"],
    ),
)
async def test_five_prompts_are_five_clips_with_any_key(key: str, tmp_path: Path) -> None:
    """Five POSTs are paid and five clips stored, and the link of each is requested as it was given."""
    server = EchoingServer()
    async with web_server(server.handle) as url, client_of(key, url, tmp_path) as client:
        jobs = [client.submit(f"prompt {number}") for number in range(5)]
        paths = [await job for job in jobs]
    assert server.posts == 5
    assert [path.read_bytes() for path in paths] == [CLIP] * 5
    assert sorted(server.clip_paths) == [f"/clip/{key}/task_{number}.mp4?sig={key}" for number in range(1, 6)]


@pytest.mark.parametrize("escapes", [False, True])
async def test_a_quoted_key_is_shown_and_stored_nowhere(
    escapes: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in errors, events and logs, nor in the ledger and the output folder."""
    caplog.set_level(logging.DEBUG)
    server = EchoingServer(fails=True, escapes=escapes)
    events: list[object] = []
    async with web_server(server.handle) as url, client_of(KEY, url, tmp_path, on_event=events.append) as client:
        job = client.submit("a prompt")
        with pytest.raises(JobFailed, match="refused for") as caught:
            await job
        assert KEY not in all_text(caught.value)
        assert KEY not in f"{job!r} {caught.value.task!r}"
    assert events
    assert KEY not in repr(events)
    assert not [record for record in caplog.records if KEY in record.getMessage() and record.name.startswith("omni")]
    files = [path async for path in anyio.Path(tmp_path).rglob("*") if await path.is_file()]
    assert files
    for path in files:
        assert KEY.encode() not in await path.read_bytes(), path


@pytest.mark.parametrize("key", ["insufficient_quota", "quota", "error", "code"])
async def test_a_refusal_is_understood_with_any_key(key: str, tmp_path: Path) -> None:
    """A code that is also the key decides as any other, although it is not shown."""

    async def handle(_: web.BaseRequest) -> web.Response:
        error = {"message": "quota used up", "code": "insufficient_quota", "type": "error"}
        return web.json_response({"error": error}, status=403)

    async with web_server(handle) as url, client_of(key, url, tmp_path) as client:
        client.submit("a prompt")
        with anyio.fail_after(5):
            while client.stop_error is None:
                await anyio.sleep(0.02)
        assert isinstance(client.stop_error, PaymentRequired)
