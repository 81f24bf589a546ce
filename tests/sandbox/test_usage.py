"""`GET /v1/usage`: what was billed, for each model and day, in the form and with the refusals of the documentation."""

from __future__ import annotations

import time

import pytest

from tests.support.sandbox_client import SandboxClient, open_sandbox

NEW = "gemini-omni-1.1-flash"


def period(**more: object) -> dict[str, str]:
    """Return the parameters for the last hour."""
    now = int(time.time())
    return {"start": str(now - 3600), "end": str(now + 60), **{name: str(value) for name, value in more.items()}}


async def test_completed_tasks_are_billed_by_model_and_day() -> None:
    """The bill has what completed, at the prices that the tasks report; failed and running tasks are in no sum."""
    async with open_sandbox(median=0.05) as client:
        costs = [(await client.completed(f"p{number}"))["cost"] for number in range(3)]
        task = await client.accepted("other", model=NEW)
        assert (await client.ended(task))["status"] == "completed"
        answer = await client.call("GET", "/v1/usage", params=period(group_by="model,date", tz="UTC"))
        assert answer.status == 200
        first, second = answer.json["data"]["items"]
        assert (first["model"], second["model"]) == (NEW, "gemini-omni-flash-preview")
        assert second["date"] in {time.strftime("%Y-%m-%d", time.gmtime(time.time() - ago)) for ago in (0, 60)}
        assert (second["requests"], first["requests"]) == (3, 1)
        assert second["amount_usd"] == pytest.approx(sum(costs))
        assert second["credits"] == pytest.approx(10 * sum(costs))
        total = answer.json["data"]["total"]
        assert (total["requests"], total["amount_usd"]) == (4, pytest.approx(client.sandbox.record.paid))


async def test_a_task_is_billed_when_it_ends() -> None:
    """A running task is not billed; one that fails never is."""
    async with open_sandbox(median=60.0) as client:
        await client.accepted()
        assert (await client.call("GET", "/v1/usage", params=period())).json["data"]["total"]["requests"] == 0
    async with open_sandbox(fail_rate=1.0) as client:
        await client.ended(await client.accepted())
        assert (await client.call("GET", "/v1/usage", params=period())).json["data"]["total"]["amount_usd"] == 0


@pytest.mark.parametrize(
    ("group_by", "names"), [("model", {"model"}), ("date", {"date"}), ("model,date", {"model", "date"})]
)
async def test_items_name_what_they_are_grouped_by(client: SandboxClient, group_by: str, names: set[str]) -> None:
    """An item names its model, its day, or both; without a grouping there are none."""
    await client.completed()
    for path in ("/v1/usage", "/usage"):
        [item] = (await client.call("GET", path, params=period(group_by=group_by))).json["data"]["items"]
        assert set(item) == names | {"amount_usd", "credits", "requests", "prompt_tokens", "completion_tokens"}
    data = (await client.call("GET", "/v1/usage", params=period())).json["data"]
    assert (data["items"], data["total"]["requests"]) == ([], 1)


async def test_a_key_sees_its_own_tasks_and_the_account_all() -> None:
    """The scope is the key unless the account is asked for; models are filtered by name in any case."""
    questions = {"sk-other": period(), "sk-third": period(scope="account"), "sk-4": period(scope="account", model=NEW)}
    questions["sk-5"] = period(scope="account", model=f"{NEW},GEMINI-omni-flash-preview")
    async with open_sandbox() as client:
        await client.completed()
        answers = [
            await client.call("GET", "/v1/usage", api_key=key, params=question) for key, question in questions.items()
        ]
    assert [answer.json["data"]["total"]["requests"] for answer in answers] == [0, 1, 0, 1]


async def test_the_same_question_is_answered_from_a_cache(client: SandboxClient) -> None:
    """For a minute the same parameters get the same answer, and a header says so."""
    question = period(end=int(time.time()) + 3600)
    first = await client.call("GET", "/v1/usage", params=question)
    await client.completed()
    second = await client.call("GET", "/v1/usage", params=question)
    third = await client.call("GET", "/v1/usage", params=question | {"group_by": "date"})
    assert [answer.headers["X-Usage-Cache"] for answer in (first, second, third)] == ["miss", "hit", "miss"]
    assert first.json == second.json != third.json


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"start": "yesterday"}, "invalid_start"),
        ({"start": "2026-11-01T00:00:00"}, "invalid_start"),
        ({"end": "x"}, "invalid_end"),
        ({"start": "2000", "end": "1000"}, "invalid_range"),
        ({"start": "0", "end": str(32 * 86_400)}, "range_too_large"),
        ({"tz": "Mars/Olympus"}, "invalid_tz"),
        ({"group_by": "key"}, "invalid_group_by"),
        ({"scope": "world"}, "invalid_scope"),
        ({"model": ",".join(f"m{number}" for number in range(51))}, "too_many_models"),
    ],
)
async def test_what_is_refused(client: SandboxClient, parameters: dict[str, str], code: str) -> None:
    """A parameter that makes no sense gets a 400 with the documented code; RFC 3339 with an offset is a time."""
    answer = await client.call("GET", "/v1/usage", params=parameters)
    assert (answer.status, answer.json["error"]["code"]) == (400, code)
    good = {"start": "2026-11-01T00:00:00+08:00", "end": "2026-11-02T00:00:00Z"}
    assert (await client.call("GET", "/v1/usage", params=good)).status == 200


async def test_unavailable_and_limited() -> None:
    """A bill that cannot be had is a 503 without amounts; more than 60 questions a minute get a 429."""
    async with open_sandbox(usage_unavailable=True) as client:
        answer = await client.call("GET", "/v1/usage")
        assert (answer.status, answer.json["error"]["code"]) == (503, "usage_unavailable")
        assert "data" not in answer.json
    async with open_sandbox() as client:
        statuses = [(await client.call("GET", "/v1/usage", params=period())).status for _ in range(61)]
        assert statuses == [*[200] * 60, 429]
        assert (await client.call("GET", "/v1/usage", api_key="sk-wrong")).status == 401
