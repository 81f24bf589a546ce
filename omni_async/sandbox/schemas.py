"""What the service says about its models: the schema of a model's requests, and whether it declares idempotency.

The objects are bare, not within `{"code", "data"}`, as the live service sends them. `MemoryServer` sends them too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


VERSION_HEADER = "X-APIMart-Response-Version"
OBJECT_VERSION = "2026-07-27"
OPERATION = "video_generation"
RETENTION = 86_400  # seconds for which an idempotency key is remembered


def model_schema(name: str, properties: Mapping[str, Any], *, declares_idempotency: bool) -> dict[str, Any]:
    """Return the schema of a model. `properties` are the fields of its requests besides the model and the prompt.

    A model that does not declare idempotency has no `idempotency` object.
    """
    schema = {
        "object": "model.schema",
        "model": name,
        "operation": OPERATION,
        "method": "POST",
        "endpoint": "/v1/videos/generations",
        "source": "task_model_registry",
        "schema_version": "2026-07-30",
        "input_schema": {
            "type": "object",
            "required": ["model"],
            "additionalProperties": True,
            "properties": {"model": {"type": "string", "const": name}, "prompt": {"type": "string"}, **properties},
        },
        "response_contract": {"version_header": VERSION_HEADER, "version": OBJECT_VERSION},
    }
    if not declares_idempotency:
        return schema
    return schema | {
        "idempotency": {
            "header": "Idempotency-Key",
            "replay_header": "Idempotency-Replayed",
            "required": False,
            "retention_seconds": RETENTION,
            "scope": "api_key_endpoint",
        }
    }
