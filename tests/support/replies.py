"""Responses of the server: documented ones, ones that clients have recorded, and strategies for any other."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from omni_async.api.parsing import Response

NOW = 1_779_246_300.0  # while the task of the documented example is running
TASK_ID = "task_01KS1H7ZYSJWH1N779S2FSHTKA"
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>"


def reply(status: int, content: object, **headers: str) -> Response:
    """Return a response with JSON, or with these bytes; `retry_after="3"` becomes the header `retry-after`."""
    body = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def error(code: object, message: str = "no", type: str = "", **more: Any) -> dict[str, Any]:  # noqa: A002
    """Return the usual error object."""
    return {"error": {"code": code, "message": message, "type": type, **more}}


# From the API's page

SUBMITTED = {"code": 200, "data": [{"status": "submitted", "task_id": TASK_ID}]}

COMPLETED: dict[str, Any] = {
    "code": 200,
    "data": {
        "id": TASK_ID,
        "status": "completed",
        "progress": 100,
        "created": 1779246294,
        "completed": 1779246334,
        "actual_time": 40,
        "estimated_time": 60,
        "cost": 1.0,
        "credits_cost": 10,
        "result": {"videos": [{"url": ["https://cdn.example.com/gemini_omni_xxx.mp4"], "expires_at": 1779332760}]},
    },
}

DOCUMENTED_400 = error(400, "リクエストパラメータが無効です", "invalid_request_error")
DOCUMENTED_401 = error(401, "認証に失敗しました。API キーを確認してください", "authentication_error")
DOCUMENTED_402 = error(402, "アカウント残高が不足しています。チャージしてから再試行してください", "payment_required")
DOCUMENTED_429 = error(429, "リクエストが多すぎます。しばらくしてから再試行してください", "rate_limit_error")

# From other pages of the API, and recorded by other clients

REAL_401 = error("", "invalid API key (request id: 20260919-abc)", "apimart_error", param="")
NO_CHANNEL_500 = error("get_channel_failed", "no channel for it, please wait and try again later", "apimart_error")
NO_MODEL_503 = error("model_not_found", "No available channel for model x under group default", "new_api_error")
BUILD_500 = error("", "build_request_failed: invalid size: 3:4 allowed: 16:9, 9:16", "apimart_error")
IN_PROGRESS_409 = error("idempotency_in_progress", "still in progress", "conflict")
REUSED_409 = error("idempotency_key_reused", "this key came with another body", "conflict")
INDETERMINATE_409 = error("idempotency_result_indeterminate", "outcome unknown", "conflict")
UNAVAILABLE_503 = error("idempotency_unavailable", "not executed", "service_unavailable")

PROCESSING = {
    "code": 200,
    "data": {"id": TASK_ID, "status": "processing", "progress": 91, "created": 1779246294, "estimated_time": 600},
}
WEBHOOK_FAILED = {
    "id": TASK_ID,
    "status": "failed",
    "progress": 100,
    "error": {"message": "upstream said no", "type": "task_failed", "param": "", "code": "task_failed"},
}

# Any response, with the fields and values that matter more often than by chance

_FIELDS = "code data error status task_id id message type success result videos url progress cost credits_cost"
_NAMES = st.sampled_from([*_FIELDS.split(), "expires_at", "created", "remain_balance", "unlimited_quota", "request_id"])
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(10**400), max_value=10**400),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["", "task is in the queue", TASK_ID, "completed", "failed", "error", "429", "1e999", "NaN", "\ud800"]
    ),
    st.sampled_from([200, 400, 401, 402, 403, 409, 429, 500, 503]),
)
ANY_JSON = st.recursive(
    _VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES | st.text(max_size=4), inner, max_size=5),
    max_leaves=12,
)
ANY_BODY = st.one_of(
    st.binary(max_size=60),
    ANY_JSON.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(_NAMES, ANY_JSON, max_size=6).map(lambda value: json.dumps(value).encode()),
)
ANY_HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "date", "x-request-id", "x-oneapi-request-id", "idempotency-replayed"]),
    st.text(max_size=20) | st.sampled_from(["1", "-1", "inf", "Wed, 21 Oct 2015 07:28:00 GMT", "Fri, 99 Foo 0", ",,,"]),
)
ANY_REPLY = st.builds(
    Response,
    st.one_of(st.sampled_from([200, 202, 204, 302, 400, 401, 402, 403, 404, 408, 409, 429]), st.integers(100, 599)),
    ANY_HEADERS,
    ANY_BODY,
)
