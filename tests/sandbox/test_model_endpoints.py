"""What the sandbox says about its models: list, single model, schema and documentation, for each name of a model."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest

from omni_async import MODELS
from omni_async.sandbox.model_specs import MODEL_SPECS
from tests.support.sandbox_client import SandboxClient, open_sandbox

NAMES = [*chain.from_iterable(spec.names for spec in MODEL_SPECS)]
ALIAS = "Omni-Flash-Ext"


async def test_every_name_of_a_model_is_listed(client: SandboxClient) -> None:
    """The list has the names of all models, which are those of the client's catalog."""
    listed = (await client.call("GET", "/v1/models")).json
    assert listed["object"] == "list"
    assert [each["id"] for each in listed["data"]] == NAMES
    assert set(NAMES) == {name for rules in MODELS.values() for name in rules.names}
    assert {"gemini-omni-1.1-flash-ext", ALIAS} <= set(NAMES)
    assert not any("category" in each for each in listed["data"])
    expanded = (await client.call("GET", "/v1/models?expand=category")).json["data"]
    assert {each["category"] for each in expanded} == {"video"}


@pytest.mark.parametrize("name", NAMES)
async def test_every_name_is_known_everywhere(client: SandboxClient, name: str) -> None:
    """Model, schema and documentation exist under each name, and a submit with it is accepted."""
    model = (await client.call("GET", f"/v1/models/{name}")).json
    assert (model["id"], model["object"]) == (name, "model")
    docs = (await client.call("GET", f"/v1/model-docs?model={name}")).json
    assert (docs["object"], docs["model"], docs["stale"]) == ("model.documentation", name, False)
    assert docs["markdown"].startswith(f"# {name}")
    assert docs["markdown_url"] == f"{docs['doc_url']}.md"
    assert min(docs["fetched_at"], docs["cache_ttl_seconds"]) > 0
    assert (await client.submit(model=name)).status == 200


@pytest.mark.parametrize("name", NAMES)
async def test_a_schema_is_bare_and_agrees_with_the_catalog(client: SandboxClient, name: str) -> None:
    """The schema has no envelope, stands under both paths, and has the values of the client's catalog."""
    response = await client.call("GET", f"/v1/model-schema?model={name}&operation=video_generation")
    schema = response.json
    assert schema == (await client.call("GET", f"/v1/models/{name}/schema")).json
    assert not {"code", "data"} & schema.keys()
    assert (schema["model"], schema["operation"]) == (name, "video_generation")
    assert {"object", "endpoint", "response_contract", "source"} <= schema.keys()
    assert schema["idempotency"] == {
        "header": "Idempotency-Key",
        "replay_header": "Idempotency-Replayed",
        "required": False,
        "retention_seconds": 86400,
        "scope": "api_key_endpoint",
    }
    rules = next(rules for rules in MODELS.values() if name in rules.names)
    properties = schema["input_schema"]["properties"]
    assert properties["resolution"]["enum"] == list(rules.resolutions or ())
    assert properties.get("duration", {}).get("enum", []) == list(rules.durations or ())
    assert properties["image_urls"]["maxItems"] == rules.max_images
    assert ("first_frame_image" in properties) is rules.accepts_frames
    assert ("extend_from_task_id" in properties) is rules.can_extend


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models/none", 404),
        ("/v1/models/none/schema", 404),
        ("/v1/model-schema?model=none", 404),
        ("/v1/model-docs?model=none", 404),
        ("/v1/model-docs?model=OMNI-FLASH-EXT", 404),
        ("/v1/model-schema", 400),
        ("/v1/model-docs?model=", 400),
    ],
)
async def test_a_question_about_another_model_is_refused(client: SandboxClient, path: str, status: int) -> None:
    """An unknown model is a 404 model_not_found, a missing one a 400. Names are read with their case."""
    response = await client.call("GET", path)
    assert response.status == status
    assert response.json["error"]["code"] == ("model_not_found" if status == 404 else "")


@pytest.mark.parametrize(
    "path", ["models", "models/x", "models/x/schema", "model-schema?model=x", "model-docs?model=x"]
)
async def test_a_question_about_models_needs_a_key(client: SandboxClient, path: str) -> None:
    """None of these endpoints answers without a valid key, not even that a model is unknown."""
    assert (await client.call("GET", f"/v1/{path}", api_key="sk-wrong")).status == 401


async def test_without_credit_the_models_are_not_listed() -> None:
    """An empty account gets a 402 in the documented form instead of the list."""
    async with open_sandbox(credits=0.0) as client:
        response = await client.call("GET", "/v1/models")
    assert (response.status, response.json["error"]["code"]) == (402, 402)
    assert response.json["error"]["type"] == "payment_required"


@pytest.mark.parametrize("retired", ["gemini-omni-1.1-flash-ext", ALIAS])
async def test_a_retired_model_is_served_under_none_of_its_names(retired: str) -> None:
    """A submit for it is a 503 that names it, it is neither listed nor described, and other models are served."""
    async with open_sandbox(retired_model=retired) as client:
        for name in ("gemini-omni-1.1-flash-ext", ALIAS):
            response = await client.submit(model=name)
            error: dict[str, Any] = response.json["error"]
            assert (response.status, error["code"], error["type"]) == (503, "model_not_found", "new_api_error")
            assert error["message"].startswith(f"No available channel for model {name} under group ")
            assert (await client.call("GET", f"/v1/model-schema?model={name}")).status == 404
        listed = [each["id"] for each in (await client.call("GET", "/v1/models")).json["data"]]
        assert listed == [name for name in NAMES if "-ext" not in name.lower()]
        assert (await client.submit()).status == 200
        assert (await client.submit(model="sora-9")).json["error"]["code"] == "model_not_found"
        assert client.sandbox.record.refused == {503: 3}
