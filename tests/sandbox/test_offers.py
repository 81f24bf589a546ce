"""The other models: each refuses what its page does not allow, costs what it costs, and makes clips of its sizes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import MODELS
from omni_async.sandbox import Sandbox, SandboxSettings
from omni_async.sandbox.model_specs import MODEL_SPECS
from tests.support.proxies import certificate
from tests.support.talk import talking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.talk import Talk

NEW, EXT = "gemini-omni-1.1-flash", "Omni-Flash-Ext"
A = "https://example.com/a.png"
CLIP = "https://example.com/a.mp4"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for all, so that they can share a sandbox."""
    return "asyncio"


@pytest.fixture(scope="module")
async def talk() -> AsyncIterator[Talk]:
    """A sandbox that serves one clip for all."""
    async with talking() as talk:
        yield talk


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"model": NEW, "resolution": "8k"}, "invalid_request_error"),
        ({"model": NEW, "image_urls": [A] * 11}, "invalid_request_error"),
        ({"model": NEW, "image_urls": [A] * 10, "first_frame_image": A}, "invalid_request_error"),
        ({"model": NEW, "last_frame_image": A}, "invalid_request_error"),
        ({"model": NEW, "video_urls": [CLIP], "extend_from_task_id": "t"}, "invalid_request_error"),
        ({"model": NEW, "first_frame_image": "a.png"}, "invalid_request_error"),
        ({"model": EXT, "duration": 5}, "invalid_duration"),
        ({"model": EXT, "duration": "8"}, "invalid_duration"),
        ({"model": EXT, "duration": 8, "video_urls": [CLIP]}, "invalid_duration"),
        ({"model": EXT, "resolution": "360p"}, "invalid_resolution"),
        ({"model": EXT, "image_urls": [A, A]}, "unsupported_image_count"),
        ({"model": EXT, "image_urls": [A] * 3, "generation_type": "frame"}, "unsupported_image_count"),
        ({"model": EXT, "video_urls": [CLIP, CLIP]}, "unsupported_video_count"),
        ({"model": EXT, "video_urls": ["data:video/mp4;base64,AA"]}, "invalid_request_error"),
        ({"model": "sora-9"}, "invalid_request_error"),
    ],
    ids=str,
)
async def test_what_a_model_does_not_allow_is_refused(talk: Talk, fields: dict[str, Any], kind: str) -> None:
    """400 with the model's own type of error, and no task."""
    before = talk.sandbox.record.accepted
    answer = await talk.submit(**fields)
    assert (answer.status, answer.json["error"]["type"]) == (400, kind)
    assert talk.sandbox.record.accepted == before


@pytest.mark.parametrize(
    ("fields", "cost"),
    [
        ({"model": EXT}, 0.25),
        ({"model": EXT, "resolution": "4k", "duration": 10}, 0.40),
        ({"model": "gemini-omni-1.1-flash-ext", "video_urls": [CLIP]}, 0.08),
        ({"model": EXT, "image_urls": [A] * 3, "generation_type": "reference", "size": "9:16"}, 0.25),
    ],
    ids=str,
)
async def test_a_price_for_each_clip(talk: Talk, fields: dict[str, Any], cost: float) -> None:
    """The cheaper route has a price by clip, under either of its names."""
    assert (await talk.completed("x", **fields))["cost"] == cost


@pytest.mark.parametrize(("resolution", "price"), [("360p", 0.03), ("2160p", 0.30), ("1080p", 0.15)])
async def test_a_price_for_each_second(talk: Talk, resolution: str, price: float) -> None:
    """The newer model's price goes by the second and the resolution; 2160p is 4k."""
    done = await talk.completed("x", model=NEW, resolution=resolution)
    assert done["cost"] in {round(price * seconds, 2) for seconds in range(3, 11)}


async def test_clips_have_the_size_and_the_length_that_was_asked_for() -> None:
    """A 360p clip is 640 x 360, a tall 1080p one 1080 x 1920, and a duration is kept to the frame."""
    av = pytest.importorskip("av")
    wanted: list[tuple[dict[str, Any], tuple[int, int], int | None]] = [
        ({"model": NEW, "resolution": "360p", "first_frame_image": A, "last_frame_image": A}, (640, 360), None),
        ({"model": EXT, "resolution": "1080p", "aspect_ratio": "9:16", "duration": 4}, (1080, 1920), 96),
    ]
    async with talking(prerendered=False, seconds=3) as talk:
        for fields, size, frames in wanted:
            content = (await talk.fetch(await talk.link("an apple", **fields))).body
            with av.open(io.BytesIO(content)) as container:
                video = container.streams.video[0]
                assert (video.width, video.height) == size
                assert video.frames == (frames or 72)


async def test_the_list_and_the_description_agree() -> None:
    """Every model that is listed describes itself; who has no credit is told neither balance nor list, but 402."""
    async with talking() as talk:
        listed = [each["id"] for each in (await talk.call("GET", "/v1/models")).json["data"]]
        assert set(listed) == set(MODEL_SPECS) == set(MODELS)
        for name in listed:
            told = (await talk.call("GET", f"/v1/model-schema?model={name}&operation=video_generation")).json["data"]
            assert told["model"] == name
            properties = told["input_schema"]["properties"]
            assert properties["resolution"]["enum"] == list(MODELS[name].resolutions or ())
            assert properties.get("duration", {}).get("enum", []) == list(MODELS[name].durations or ())
            assert properties["image_urls"]["maxItems"] == MODELS[name].max_images
    async with talking(credits=0.0) as talk:
        assert (await talk.call("GET", "/v1/models")).status == 402


async def test_a_key_has_credit_of_its_own() -> None:
    """A key stops at its own credit; another goes on, as far as the account's reaches; a failed task gives it back."""
    async with talking(credits=100.0, key_credits=3.0, seconds=3) as talk:
        body = {"model": NEW, "prompt": "x", "resolution": "720p"}  # 0.30 USD, three credits
        path = "/v1/videos/generations"
        assert [(await talk.call("POST", path, json=body, api_key="sk-a")).status for _ in range(2)] == [200, 402]
        assert (await talk.call("POST", path, json=body, api_key="sk-b")).status == 200
        mine = (await talk.call("GET", "/v1/balance", api_key="sk-a")).json
        everybody = (await talk.call("GET", "/v1/user/balance", api_key="sk-a")).json
        assert (mine["remain_credits"], mine["used_credits"]) == (0, 3)
        assert (everybody["remain_credits"], everybody["used_credits"]) == (94, 6)


async def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    """Files that hold no certificate with its key are named; a key alone is refused with the settings."""
    cert, key = certificate(tmp_path)
    with pytest.raises(OSError, match=r"cert\.pem"):
        await Sandbox(cert=cert).__aenter__()
    with pytest.raises(ValueError, match="needs its certificate"):
        SandboxSettings(key=key)
    async with Sandbox(cert=cert, key=key) as sandbox:
        assert sandbox.base_url.startswith("https://")
        assert sandbox.cdn_url.startswith("https://")
