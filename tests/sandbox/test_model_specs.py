"""Each model refuses what its page does not allow, has its own prices, and makes clips of its sizes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import MODELS
from omni_async.sandbox import Sandbox, SandboxSettings
from omni_async.sandbox.model_specs import MODEL_SPECS
from tests.support.proxies import certificate
from tests.support.sandbox_client import open_sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.sandbox_client import SandboxClient

NEW, EXT = "gemini-omni-1.1-flash", "Omni-Flash-Ext"
IMAGE = "https://example.com/a.png"
VIDEO = "https://example.com/a.mp4"


@pytest.mark.parametrize(
    ("fields", "error_type"),
    [
        ({"model": NEW, "resolution": "8k"}, "invalid_request_error"),
        ({"model": NEW, "image_urls": [IMAGE] * 11}, "invalid_request_error"),
        ({"model": NEW, "image_urls": [IMAGE] * 10, "first_frame_image": IMAGE}, "invalid_request_error"),
        ({"model": NEW, "last_frame_image": IMAGE}, "invalid_request_error"),
        ({"model": NEW, "video_urls": [VIDEO], "extend_from_task_id": "t"}, "invalid_request_error"),
        ({"model": NEW, "first_frame_image": "a.png"}, "invalid_request_error"),
        ({"model": EXT, "duration": 5}, "invalid_duration"),
        ({"model": EXT, "duration": "8"}, "invalid_duration"),
        ({"model": EXT, "duration": 8, "video_urls": [VIDEO]}, "invalid_duration"),
        ({"model": EXT, "resolution": "360p"}, "invalid_resolution"),
        ({"model": EXT, "image_urls": [IMAGE, IMAGE]}, "unsupported_image_count"),
        ({"model": EXT, "image_urls": [IMAGE] * 3, "generation_type": "frame"}, "unsupported_image_count"),
        ({"model": EXT, "video_urls": [VIDEO, VIDEO]}, "unsupported_video_count"),
        ({"model": EXT, "video_urls": ["data:video/mp4;base64,AA"]}, "invalid_request_error"),
        ({"model": "sora-9"}, "invalid_request_error"),
    ],
    ids=str,
)
async def test_a_request_that_a_model_does_not_allow_is_refused(
    client: SandboxClient, fields: dict[str, Any], error_type: str
) -> None:
    """The 400 has the model's own error type, and no task is created."""
    response = await client.submit(**fields)
    assert (response.status, response.json["error"]["type"]) == (400, error_type)
    assert client.sandbox.record.accepted == 0


@pytest.mark.parametrize(
    ("fields", "cost"),
    [
        ({"model": EXT}, 0.25),
        ({"model": EXT, "resolution": "4k", "duration": 10}, 0.40),
        ({"model": "gemini-omni-1.1-flash-ext", "video_urls": [VIDEO]}, 0.08),
        ({"model": EXT, "image_urls": [IMAGE] * 3, "generation_type": "reference", "size": "9:16"}, 0.25),
    ],
    ids=str,
)
async def test_omni_flash_ext_has_a_price_per_clip(client: SandboxClient, fields: dict[str, Any], cost: float) -> None:
    """The price depends on resolution and references, under either name of the model."""
    assert (await client.completed("x", **fields))["cost"] == cost


@pytest.mark.parametrize(("resolution", "price"), [("360p", 0.03), ("2160p", 0.30), ("1080p", 0.15)])
async def test_the_newer_model_has_a_price_per_second(client: SandboxClient, resolution: str, price: float) -> None:
    """The price depends on the resolution; 2160p is 4k."""
    done = await client.completed("x", model=NEW, resolution=resolution)
    assert done["cost"] in {round(price * seconds, 2) for seconds in range(3, 11)}


@pytest.mark.slow
async def test_clips_have_the_requested_size_and_length() -> None:
    """A 360p clip is 640 x 360, a portrait 1080p clip 1080 x 1920, and a duration is exact to the frame."""
    av = pytest.importorskip("av")
    requests: list[tuple[dict[str, Any], tuple[int, int], int | None]] = [
        ({"model": NEW, "resolution": "360p", "first_frame_image": IMAGE, "last_frame_image": IMAGE}, (640, 360), None),
        ({"model": EXT, "resolution": "1080p", "aspect_ratio": "9:16", "duration": 4}, (1080, 1920), 96),
    ]
    async with open_sandbox(prerendered=False, seconds=3) as client:
        for fields, size, frames in requests:
            content = (await client.fetch(await client.link("an apple", **fields))).body
            with av.open(io.BytesIO(content)) as container:
                video = container.streams.video[0]
                assert (video.width, video.height) == size
                assert video.frames == (frames or 72)


async def test_the_model_list_and_the_schemas_agree(client: SandboxClient) -> None:
    """Every listed model has a schema, which agrees with the client's catalog. Without credit the list is a 402."""
    listed = [each["id"] for each in (await client.call("GET", "/v1/models")).json["data"]]
    assert set(listed) == set(MODEL_SPECS) == set(MODELS)
    for name in listed:
        schema = (await client.call("GET", f"/v1/model-schema?model={name}&operation=video_generation")).json
        assert schema["model"] == name
        properties = schema["input_schema"]["properties"]
        assert properties["resolution"]["enum"] == list(MODELS[name].resolutions or ())
        assert properties.get("duration", {}).get("enum", []) == list(MODELS[name].durations or ())
        assert properties["image_urls"]["maxItems"] == MODELS[name].max_images
    async with open_sandbox(credits=0.0) as poor:
        assert (await poor.call("GET", "/v1/models")).status == 402


async def test_each_api_key_can_have_its_own_credit() -> None:
    """A key stops at its own credit, while another continues within the credit of the account."""
    async with open_sandbox(credits=100.0, key_credits=3.0, seconds=3) as client:
        body = {"model": NEW, "prompt": "x", "resolution": "720p"}  # 0.30 USD, three credits
        path = "/v1/videos/generations"
        assert [(await client.call("POST", path, json=body, api_key="sk-a")).status for _ in range(2)] == [200, 402]
        assert (await client.call("POST", path, json=body, api_key="sk-b")).status == 200
        mine = (await client.call("GET", "/v1/balance", api_key="sk-a")).json
        account = (await client.call("GET", "/v1/user/balance", api_key="sk-a")).json
        assert (mine["remain_credits"], mine["used_credits"]) == (0, 3)
        assert (account["remain_credits"], account["used_credits"]) == (94, 6)


async def test_a_certificate_needs_its_private_key(tmp_path: Path) -> None:
    """Files without a certificate and its key are named in the error; a key alone is refused by the settings."""
    cert, key = certificate(tmp_path)
    with pytest.raises(OSError, match=r"cert\.pem"):
        await Sandbox(cert=cert).__aenter__()
    with pytest.raises(ValueError, match="needs its certificate"):
        SandboxSettings(key=key)
    async with Sandbox(cert=cert, key=key) as sandbox:
        assert sandbox.base_url.startswith("https://")
        assert sandbox.cdn_url.startswith("https://")
