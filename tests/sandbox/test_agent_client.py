"""The sandbox satisfies the vendor's own client for agents, by the requests it sends and the checks it makes.

It reads the schema before each submit, asks for a version of the response, and follows no redirect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.support.sandbox_client import SandboxClient

VERSION = {"Accept": "application/json", "X-APIMart-Response-Version": "2026-07-27"}
MODELS = ["gemini-omni-flash-preview", "gemini-omni-1.1-flash", "gemini-omni-1.1-flash-ext", "Omni-Flash-Ext"]


async def _submit(client: SandboxClient, model: str, key: str, **fields: Any) -> Any:
    body = {"prompt": "a red apple", **fields, "model": model}
    headers = VERSION | {"Idempotency-Key": key}
    return await client.call("POST", "/v1/videos/generations", json=body, headers=headers)


@pytest.mark.parametrize("model", MODELS)
async def test_a_generation_from_schema_to_result(client: SandboxClient, model: str) -> None:
    """List, documentation, schema, submit, replay and checks have what the vendor's client requires of each."""
    listed = (await client.call("GET", "/v1/models")).json
    assert model in [each["id"] for each in listed["data"]]

    docs = (await client.call("GET", f"/v1/model-docs?model={model}")).json
    assert (docs["object"], docs["model"]) == ("model.documentation", model)
    assert all(isinstance(docs[name], str) and docs[name].strip() for name in ("doc_url", "markdown_url", "markdown"))
    assert all(isinstance(docs[name], int) and docs[name] > 0 for name in ("fetched_at", "cache_ttl_seconds"))
    assert isinstance(docs["stale"], bool)

    schema = (await client.call("GET", f"/v1/model-schema?model={model}&operation=video_generation")).json
    assert (schema["model"], schema["operation"]) == (model, "video_generation")
    assert isinstance(schema["input_schema"], dict)

    first, second = await _submit(client, model, "one"), await _submit(client, model, "one")
    data = first.json["data"]
    assert 200 <= first.status < 300
    assert (data["object"], bool(data["id"]), bool(data["status"])) == ("generation.task", True, True)
    assert isinstance(first.json["request_id"], str)
    assert first.headers["X-APIMart-Response-Version"] == VERSION["X-APIMart-Response-Version"]
    assert "Idempotency-Replayed" not in first.headers
    assert (second.headers["Idempotency-Replayed"], second.json["data"]["id"]) == ("true", data["id"])

    assert (await client.ended(data["id"]))["status"] == "completed"
    task = (await client.call("GET", f"/v1/tasks/{data['id']}?language=en")).json["data"]
    assert (task["id"], task["status"]) == (data["id"], "completed")


async def test_an_error_has_message_type_and_code(client: SandboxClient) -> None:
    """A bad parameter and an unknown model are errors from which that client reads its message and its type."""
    for fields in ({"prompt": ""}, {"prompt": 5}, {"model": "none"}):
        response = await _submit(client, **{"model": MODELS[0], "key": "two"} | fields)
        error = response.json["error"]
        assert response.status >= 400
        assert error["message"]
        assert error["type"]
        assert isinstance(error["code"], str)
