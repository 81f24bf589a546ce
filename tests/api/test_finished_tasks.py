"""Where the link of a finished video can be, what a status word means, and why a task failed: the siblings of each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from omni_async.api.outcomes import CheckOutcome, classify_check
from omni_async.api.parsing import Response
from omni_async.api.task_parsing import parse_task
from omni_async.models.responses import TaskState
from tests.support.replies import NOW, TASK_ID, reply

LINK = "https://cdn.example.com/f/a%2Fb.mp4?sig=x%2By&e=1"
OTHER = "https://cdn.example.com/f/second.mp4"


def urls_of(content: object, requested: tuple[str, ...] = (), base_url: str = "") -> list[str]:
    """Return the URLs that a status response names, with the links of the request left out."""
    response = Response(200, {}, json.dumps(content).encode(), base_url=base_url)
    task = parse_task(response, TASK_ID, requested)
    return [video.url for video in task.videos] if task is not None else []


def data(**fields: Any) -> dict[str, Any]:
    """Return the usual envelope around a finished task with these fields."""
    return {"code": 200, "data": {"id": TASK_ID, "status": "completed", **fields}}


_PLACES: dict[str, dict[str, Any]] = {
    "result.videos[].url": data(result={"videos": [{"url": LINK}]}),
    "result.videos[].url[]": data(result={"videos": [{"url": [LINK]}]}),
    "result.videos[]": data(result={"videos": [LINK]}),
    "result.video": data(result={"video": LINK}),
    "result.video.url": data(result={"video": {"url": LINK}}),
    "result": data(result=LINK),
    "result[]": data(result=[LINK]),
    "result[].url": data(result=[{"url": LINK}]),
    "result.url": data(result={"url": LINK}),
    "result.url[]": data(result={"url": [LINK]}),
    "result.urls": data(result={"urls": [LINK]}),
    "result.video_url": data(result={"video_url": LINK}),
    "result.videoUrl": data(result={"videoUrl": LINK}),
    "result.data[].url": data(result={"data": [{"url": LINK}]}),
    "result.output.video_url": data(result={"output": {"video_url": LINK}}),
    "result in JSON": data(result=json.dumps({"video_url": LINK})),
    "resultJson": data(resultJson=json.dumps({"resultUrls": [LINK]})),
    "data.video_url": data(video_url=LINK),
    "data.videoUrl": data(videoUrl=LINK),
    "data.url": data(url=LINK),
    "data.url[]": data(url=[LINK]),
    "data.urls": data(urls=[LINK]),
    "data.download_url": data(download_url=LINK),
    "data.videos": data(videos=[LINK]),
    "data.videos[].url": data(videos=[{"url": LINK}]),
    "data.video": data(video=LINK),
    "data.video.url": data(video={"url": LINK}),
    "data.output": data(output=LINK),
    "data.output[]": data(output=[LINK]),
    "data.output.url": data(output={"url": LINK}),
    "data.outputs": data(outputs=[LINK]),
    "data.outputs[].url": data(outputs=[{"type": "video", "url": LINK}]),
    "data.content.video_url": data(content={"video_url": LINK}),
    "data.metadata.url": data(metadata={"url": LINK}),
    "data.task_result.videos": data(task_result={"videos": [{"url": LINK}]}),
    "data.data.video_url": data(data={"video_url": LINK}),
    "data.data.output": data(data={"output": LINK}),
    "data.fail_reason": data(fail_reason=LINK),
    "no envelope": {"id": TASK_ID, "status": "completed", "video_url": LINK},
    "no envelope, output.url": {"id": TASK_ID, "status": "succeeded", "output": {"url": LINK}},
    "data beside the status": {"id": TASK_ID, "status": "completed", "data": {"video_url": LINK}},
    "data[] beside the status": {"task_id": TASK_ID, "status": "completed", "data": [{"url": LINK}]},
    "data is a link": {"task_id": TASK_ID, "status": "completed", "data": LINK},
    "data holds links": {"task_id": TASK_ID, "status": "completed", "data": [LINK]},
    "no id": {"code": 200, "data": {"video_url": LINK}},
    "no id and no envelope": {"status": "completed", "video_url": LINK},
    "another id beside it": {"code": 200, "data": {"id": 12, "task_id": TASK_ID, "status": "SUCCESS", "url": LINK}},
}


@pytest.mark.parametrize("place", _PLACES)
def test_a_link_is_found_byte_for_byte_wherever_it_is(place: str) -> None:
    """Gateways of this family put the link in many places. None of them changes a byte of it."""
    response = reply(200, _PLACES[place])
    result = classify_check(response, TASK_ID, now=NOW)
    assert result.outcome is CheckOutcome.FINISHED
    assert result.task is not None
    assert [video.url for video in result.task.videos] == [LINK]


def test_the_expiry_around_a_link_is_that_of_the_link() -> None:
    """An `expires_at` counts for every link within its object."""
    task = parse_task(reply(200, data(result={"expires_at": 1779332760, "urls": [LINK]})), TASK_ID)
    assert task is not None
    assert task.videos[0].expires_at == 1779332760


def test_two_names_of_one_video_are_one_video() -> None:
    """A server may give one video with two signatures: what is stored is one clip, from the first place."""
    assert urls_of(data(result={"videos": [{"url": LINK, "download_url": OTHER}]}, video_url=OTHER)) == [LINK]


_NO_VIDEOS: dict[str, dict[str, Any]] = {
    "a thumbnail": {"thumbnail_url": OTHER, "result": {"thumbnail": OTHER, "cover_url": OTHER, "poster": OTHER}},
    "images": {"result": {"images": [{"url": [OTHER]}], "image_url": OTHER}},
    "an image in a list of outputs": {"output": ["https://x.example/a.PNG?x=1"]},
    "an item of another type": {
        "outputs": [{"type": "image", "url": OTHER}, {"mime_type": "audio/mpeg", "url": OTHER}]
    },
    "audio": {"audio_url": OTHER, "result": {"audios": [{"url": OTHER}], "url": "https://x.example/a.mp3"}},
    "a webhook": {"webhook_url": OTHER, "callback_url": OTHER, "notify_url": OTHER},
    "the input": {"input": {"video_url": OTHER}, "request": {"video_urls": [OTHER]}, "image_urls": [OTHER]},
    "other addresses of the task": {"urls": {"get": OTHER, "cancel": OTHER}, "status_url": OTHER},
    "the task itself": {"url": f"https://api.example.com/v1/tasks/{TASK_ID}", "href": f"/v1/tasks/{TASK_ID}"},
    "frames": {"first_frame": OTHER, "last_frame_url": OTHER},
    "a prompt": {"prompt": f"like {OTHER}", "title": OTHER},
    "a text": {"result": "ready soon", "output": "n a"},
}


@pytest.mark.parametrize("kind", _NO_VIDEOS)
@pytest.mark.parametrize("status", ["completed", "wandering", None])
def test_other_links_are_no_videos(kind: str, status: str | None) -> None:
    """A picture, a sound, a callback or an input is not downloaded, and does not make a task finished."""
    task = parse_task(reply(200, data(**_NO_VIDEOS[kind]) | {}), TASK_ID)
    assert task is not None
    assert task.videos == ()
    unknown = classify_check(
        reply(200, {"data": {"id": TASK_ID, "status": status, **_NO_VIDEOS[kind]}}), TASK_ID, now=NOW
    )
    assert unknown.outcome is (CheckOutcome.NO_URL if status == "completed" else CheckOutcome.RUNNING)


@pytest.mark.parametrize(
    "requested",
    [
        pytest.param(f'{{"video":"{OTHER}"}}', id="a reference"),
        pytest.param(OTHER, id="an uploaded file"),
        pytest.param(f'{{"prompt":"a fox like in {OTHER}, but blue"}}', id="in the prompt"),
        pytest.param(f'{{"prompt":"do you know {OTHER}? Like that."}}', id="in a question"),
    ],
)
@pytest.mark.parametrize("field", ["video_url", "video_urls", "url", "videos", "output", "content"])
def test_a_link_of_the_request_is_no_result(requested: str, field: str) -> None:
    """A response that repeats its request shows no video; the video beside it is found."""
    echo = {"data": {"id": TASK_ID, "status": "odd", field: [OTHER]}}
    result = classify_check(reply(200, echo), TASK_ID, now=NOW, requested=("", requested))
    assert result.outcome is CheckOutcome.RUNNING
    assert urls_of(echo) == [OTHER]
    echo["data"]["download_url" if field != "download_url" else "url"] = LINK
    assert urls_of(echo, (requested,)) == [LINK]


def test_a_longer_link_of_the_request_is_another_link() -> None:
    """A clip that extends one of the same host has a link that may begin the same."""
    assert urls_of(data(url=OTHER), (f"{OTHER}?part=2", f"{OTHER}x")) == [OTHER]


@pytest.mark.parametrize(
    ("link", "absolute"),
    [
        pytest.param("/files/x.mp4?s=%2F", "https://api.example.com/files/x.mp4?s=%2F", id="a path"),
        pytest.param("//host.example/x.mp4", "https://host.example/x.mp4", id="a host"),
        pytest.param("files/x.mp4", "https://api.example.com/base/files/x.mp4", id="a relative path"),
        pytest.param("HTTPS://x.example/a b.mp4", "HTTPS://x.example/a b.mp4", id="absolute: unchanged"),
        pytest.param("no link", "no link", id="a word: unchanged"),
        pytest.param("ftp://x.example/a.mp4", "ftp://x.example/a.mp4", id="another scheme: unchanged"),
    ],
)
@pytest.mark.parametrize("field", ["url", "result", "output"])
def test_a_relative_link_belongs_to_the_api(field: str, link: str, absolute: str) -> None:
    """A link without a host is resolved against the base URL; an absolute one stays as it is."""
    if field == "url" or " " not in link[:10]:  # in the others, a text is no link
        assert urls_of(data(**{field: link}), base_url="https://api.example.com/base/") == [absolute]


# Status words

_WORDS = {
    TaskState.RUNNING: ["submitted", "Pending", "queued", "processing", "in_progress", "in progress", "IN-PROGRESS",
                        "InProgress", "running", " Running "],
    TaskState.DONE: ["completed", "complete", "succeeded", "succeed", "success", "finished", "finish", "done", "DONE."],
    TaskState.FAILED: ["failed", "fail", "failure", "error", "cancelled", "canceled", "rejected", "expired", "timeout",
                       "timed_out", "timed out", "Timed-Out", "time out", "aborted", "blocked", "terminated"],
}  # fmt: skip


@pytest.mark.parametrize(("state", "word"), [(state, word) for state, words in _WORDS.items() for word in words])
def test_a_known_word_decides_whatever_else_the_response_shows(state: TaskState, word: str) -> None:
    """A known word wins over a link and over an error, in every spelling."""
    for extra in ({}, {"url": LINK}, {"error": {"message": "x"}}):
        task = parse_task(reply(200, {"code": 200, "data": {"id": TASK_ID, "status": word, **extra}}), TASK_ID)
        assert task is not None
        assert task.state is state


@pytest.mark.parametrize("word", ["wandering", "NOT_START", "200", 7, 0, "", None, True, {"code": 1}, "absent"])
@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"url": LINK}, TaskState.DONE),
        ({"url": LINK, "error": "x"}, TaskState.DONE),
        ({"error": "boom"}, TaskState.FAILED),
        ({"error": {"message": "boom"}}, TaskState.FAILED),
        ({"error": {"code": "content_rejected"}}, TaskState.FAILED),
        ({"error": [{"message": "boom"}]}, TaskState.FAILED),
        ({}, TaskState.RUNNING),
        ({"error": None}, TaskState.RUNNING),
        ({"error": ""}, TaskState.RUNNING),
        ({"error": {}}, TaskState.RUNNING),
        ({"error": {"message": "", "code": ""}}, TaskState.RUNNING),
        ({"error": {"code": 0, "message": "success"}}, TaskState.RUNNING),
        ({"url": "pending"}, TaskState.RUNNING),
    ],
)
def test_without_a_known_word_a_link_means_finished_and_an_error_failed(
    word: object, fields: dict[str, Any], state: TaskState
) -> None:
    """An unknown or missing word is running only if there is neither a link nor an error."""
    status = {} if word == "absent" else {"status": word}
    task = parse_task(reply(200, {"code": 200, "data": {"id": TASK_ID, **status, **fields}}), TASK_ID)
    assert task is not None
    assert task.state is state


# Reasons


@pytest.mark.parametrize(
    "fields",
    [
        {"error": "unsafe content"},
        {"error": {"message": "unsafe content", "code": "x"}},
        {"error": {"error": {"message": "unsafe content"}}},
        {"error": [{"message": "unsafe content"}]},
        {"error": ["unsafe content"]},
        {"error": json.dumps({"error": {"message": "unsafe content"}})},
        {"error": {"message": json.dumps({"detail": "unsafe content"})}},
        {"error": {"message": "generation failed"}, "fail_reason": "unsafe content"},
        {"error": {"message": "generation failed", "details": [{"reason": "unsafe content"}]}},
        {"fail_reason": "unsafe content"},
        {"failReason": "unsafe content"},
        {"failure_reason": "unsafe content"},
        {"message": "unsafe content"},
        {"msg": "unsafe content"},
        {"error_message": "unsafe content"},
        {"reason": "unsafe content"},
        {"block_reason": "unsafe content"},
        {"detail": "unsafe content"},
        {"moderation": "unsafe content"},
        {"moderation": {"flagged": True, "reason": "unsafe content"}},
        {"moderation": {"categories": {"unsafe content": True, "hate": False}}},
        {"moderation": {"categories": ["unsafe content"]}},
    ],
    ids=json.dumps,
)
def test_the_reason_of_a_failed_task_is_shown(fields: dict[str, Any]) -> None:
    """A content filter says why in many fields, also beside an error that says little."""
    for status in ("failed", "blocked"):
        task = parse_task(reply(200, {"code": 200, "data": {"id": TASK_ID, "status": status, **fields}}), TASK_ID)
        assert task is not None
        assert "unsafe content" in task.error
        assert "{" not in task.error


def test_the_reason_may_stand_beside_the_task() -> None:
    """An envelope's own message is the reason if the task has none, unless it only says that the request succeeded."""
    task = parse_task(reply(200, {"message": "unsafe", "data": {"id": TASK_ID, "status": "failed"}}), TASK_ID)
    assert task is not None
    assert task.error == "unsafe"
    task = parse_task(reply(200, {"message": "success", "data": {"id": TASK_ID, "status": "failed"}}), TASK_ID)
    assert task is not None
    assert task.error == ""


def test_a_reason_is_not_longer_than_a_message() -> None:
    """A reason of many pages is cut."""
    task = parse_task(reply(200, {"data": {"id": TASK_ID, "status": "failed", "error": "x" * 10_000}}), TASK_ID)
    assert task is not None
    assert len(task.error) == 500
