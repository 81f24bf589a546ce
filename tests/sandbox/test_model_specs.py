"""Each model refuses what its page does not allow, has its own prices, and makes clips of its sizes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from omni_async.sandbox import Sandbox, SandboxSettings
from tests.support.markers import slow_after
from tests.support.proxies import certificate
from tests.support.sandbox_client import open_sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.sandbox_client import SandboxClient

OLD, NEW = "gemini-omni-flash-preview", "gemini-omni-1.1-flash"
EXT, ALIAS = "gemini-omni-1.1-flash-ext", "Omni-Flash-Ext"
IMAGE = "https://example.com/a.png"
VIDEO = "https://example.com/a.mp4"


@pytest.mark.parametrize(
    ("fields", "error_type"),
    [
        ({"model": OLD, "resolution": "1080p"}, "apimart_error"),
        ({"model": NEW, "resolution": "8k"}, "apimart_error"),
        ({"model": NEW, "resolution": 720}, "apimart_error"),
        ({"model": NEW, "image_urls": [IMAGE] * 11}, "apimart_error"),
        ({"model": NEW, "image_urls": [IMAGE] * 10, "first_frame_image": IMAGE}, "apimart_error"),
        ({"model": NEW, "last_frame_image": IMAGE}, "apimart_error"),
        ({"model": NEW, "video_urls": [VIDEO], "extend_from_task_id": "t"}, "apimart_error"),
        ({"model": NEW, "first_frame_image": "a.png"}, "apimart_error"),
        ({"model": EXT, "duration": 5}, "invalid_duration"),
        ({"model": EXT, "duration": "8"}, "invalid_duration"),
        ({"model": EXT, "duration": 8, "video_urls": [VIDEO]}, "invalid_duration"),
        ({"model": EXT, "resolution": "8k"}, "invalid_resolution"),
        ({"model": EXT, "image_urls": [IMAGE, IMAGE]}, "unsupported_image_count"),
        ({"model": EXT, "image_urls": [IMAGE] * 3, "generation_type": "frame"}, "unsupported_image_count"),
        ({"model": EXT, "video_urls": [VIDEO, VIDEO]}, "unsupported_video_count"),
        ({"model": EXT, "video_urls": ["data:video/mp4;base64,AA"]}, "apimart_error"),
    ],
    ids=str,
)
async def test_a_request_that_a_model_does_not_allow_is_refused(
    client: SandboxClient, fields: dict[str, Any], error_type: str
) -> None:
    """The 400 has the type that the model's page documents, or the form of the service, and no task is created."""
    response = await client.submit(**fields)
    error = response.json["error"]
    assert (response.status, error["type"]) == (400, error_type)
    assert error["code"] == ("" if error_type == "apimart_error" else 400)
    assert client.sandbox.record.accepted == 0


@pytest.mark.parametrize("model", slow_after(1, [EXT, ALIAS]))
@pytest.mark.parametrize(
    ("resolution", "prices"),
    [
        ("360p", (0.15, 0.175, 0.20, 0.225, 0.08)),
        ("720p", (0.25, 0.30, 0.35, 0.40, 0.08)),
        ("1080P", (0.25, 0.30, 0.35, 0.40, 0.08)),
        ("4K", (0.75, 0.80, 0.85, 0.90, 0.24)),
        ("2160p", (0.75, 0.80, 0.85, 0.90, 0.24)),
    ],
)
async def test_one_model_has_a_price_per_clip(
    client: SandboxClient, model: str, resolution: str, prices: tuple[float, ...]
) -> None:
    """The price depends on resolution and duration, or on a reference video, under either name of the model."""
    requests: list[dict[str, Any]] = [*({"duration": seconds} for seconds in (4, 6, 8, 10)), {"video_urls": [VIDEO]}]
    for fields, price in zip(requests, prices, strict=True):
        done = await client.completed("x", model=model, resolution=resolution, **fields)
        assert done["cost"] == price
        assert done["credits_cost"] == pytest.approx(10 * price, abs=1e-9)


async def test_the_default_clip_has_a_price(client: SandboxClient) -> None:
    """Without a duration a clip has 6 s, without a resolution 720p; images do not change the price."""
    fields = {"model": EXT, "image_urls": [IMAGE] * 3, "generation_type": "reference", "size": "9:16"}
    assert (await client.completed("x", **fields))["cost"] == 0.30
    assert (await client.completed("x", model=EXT, resolution=None))["cost"] == 0.30


@pytest.mark.parametrize(
    ("model", "resolution", "price"),
    [
        (OLD, "720P", 0.088),
        (NEW, "360p", 0.0296),
        (NEW, "720p", 0.088),
        (NEW, "1080p", 0.132),
        (NEW, "4K", 0.264),
        (NEW, "2160P", 0.264),
    ],
)
async def test_other_models_have_a_price_per_second(
    client: SandboxClient, model: str, resolution: str, price: float
) -> None:
    """The price depends on the resolution, which is read without case, and is not rounded to cents."""
    done = await client.completed("x", model=model, resolution=resolution)
    (task,) = client.sandbox.record.tasks.values()
    assert done["cost"] == round(price * task.seconds, 6) == client.sandbox.record.paid
    assert done["credits_cost"] == pytest.approx(10 * done["cost"], abs=1e-9)


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


async def test_each_api_key_can_have_its_own_credit() -> None:
    """A key stops at its own credit, while another continues within the credit of the account."""
    async with open_sandbox(credits=100.0, key_credits=3.0, seconds=3) as client:
        body = {"model": NEW, "prompt": "x", "resolution": "720p"}  # 0.264 USD, 2.64 credits
        path = "/v1/videos/generations"
        assert [(await client.call("POST", path, json=body, api_key="sk-a")).status for _ in range(2)] == [200, 402]
        assert (await client.call("POST", path, json=body, api_key="sk-b")).status == 200
        mine = (await client.call("GET", "/v1/balance", api_key="sk-a")).json
        account = (await client.call("GET", "/v1/user/balance", api_key="sk-a")).json
        assert (mine["remain_credits"], mine["used_credits"]) == (0.36, 2.64)
        assert (account["remain_credits"], account["used_credits"]) == (94.72, 5.28)


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
