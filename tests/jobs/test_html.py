"""Jobs and clips in a notebook: what their `_repr_html_` returns."""

from __future__ import annotations

import base64
import html
import pickle
import re
from pathlib import Path

import pytest

from omni_async import JobFailed, ParentFailed
from omni_async.jobs.clip_paths import ClipPath, clip_path
from omni_async.jobs.html import job_html, video_html
from omni_async.jobs.lifecycle import JobStatus
from omni_async.jobs.records import JobRecord
from omni_async.models.request import VideoRequest
from tests.support.fakes import FakeClient, Server

BAD = '<img src=x onerror="alert(1)">\u202e'


async def test_a_job_shows_its_status_and_then_its_video(tmp_path: Path) -> None:
    """While it runs: key, status, percentage and prompt. When it is completed: the clip itself, to the byte."""
    async with FakeClient(Server(duration=60), tmp_path) as client:
        job = client.submit("a red apple", key="apple")
        assert "waiting" in shown(job._repr_html_())
        await job.accepted()
        text = shown(job._repr_html_())
        assert text.startswith("apple · running")
        assert "a red apple" in text
        assert "<video" not in job._repr_html_()
        path = await job
    fragment = job._repr_html_()
    assert shown(fragment).startswith("apple · completed · $")
    (source,) = re.findall(r'<video src="data:video/mp4;base64,([^"]*)"', fragment)
    assert base64.b64decode(source) == path.read_bytes()
    assert source in path._repr_html_()  # type: ignore[attr-defined]  # what awaiting a job returns shows itself, too


@pytest.mark.parametrize("status", JobStatus)
@pytest.mark.parametrize("progress", [0.0, 45.4, 100.0])
def test_every_status_can_be_shown(status: JobStatus, progress: float) -> None:
    """Its name is there, and nothing that others wrote becomes a tag or turns the text around."""
    request = VideoRequest(prompt=BAD).to_json()
    record = JobRecord(key=BAD, status=status, task_id=BAD, request=request, error=BAD, cost=1.5, paths=("a.mp4",))
    fragment = job_html(record, progress, [Path("/nowhere") / BAD], None)
    assert str(status).replace("_", " ") in shown(fragment)
    assert "<img" not in fragment
    assert "\u202e" not in fragment
    assert "$1.50" in fragment


@pytest.mark.parametrize("error", [JobFailed("it is <b>blocked</b>"), ParentFailed("no parent")])
def test_the_error_of_a_job_is_shown(error: Exception) -> None:
    """The outcome says more than the record."""
    fragment = job_html(JobRecord(key="k", status=JobStatus.FAILED), 0.0, [], error)
    assert str(error) in shown(fragment)
    assert "<b>blocked" not in fragment


def test_a_task_of_elsewhere_and_a_long_prompt_can_be_shown() -> None:
    """Without a request there is no prompt; of a long one the beginning is shown."""
    assert shown(job_html(JobRecord(key="k", status=JobStatus.RUNNING, task_id="task_1"), 0, [], None))
    request = VideoRequest(prompt="word " * 1000).to_json()
    assert len(job_html(JobRecord(key="k", request=request), 0, [], None)) < 1000


def test_a_large_clip_is_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the working directory by a relative link; elsewhere there is the path, and how to show it."""
    monkeypatch.setattr("omni_async.jobs.html._MAX_EMBEDDED", 100)
    (tmp_path / "clips").mkdir()
    path = clip_path(tmp_path / "clips", "50% & #1 'ü'.mp4")
    path.write_bytes(b"x" * 101)
    monkeypatch.chdir(tmp_path)
    assert '<video src="clips/50%25%20%26%20%231%20%27%C3%BC%27.mp4"' in video_html(path)
    monkeypatch.chdir(tmp_path / "clips")
    assert '<video src="50%25' in video_html(path)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert "<video" not in video_html(path)
    assert html.escape(str(path)) in video_html(path)
    path.write_bytes(b"x" * 100)
    assert "data:video/mp4" in video_html(path)
    path.unlink()
    assert "No such file" in video_html(path)


def test_the_path_of_a_clip_is_a_path(tmp_path: Path) -> None:
    """It equals an ordinary one, hashes and pickles like it, and only videos show themselves."""
    path, plain = clip_path(tmp_path, "k.mp4"), tmp_path / "k.mp4"
    assert isinstance(path, type(plain))
    assert (path, hash(path), str(path)) == (plain, hash(plain), str(plain))
    assert {path: 1}[plain] == 1
    assert pickle.loads(pickle.dumps(path)) == plain
    assert path.with_suffix(".part").name == "k.part"
    assert isinstance(path.parent, ClipPath)
    assert path.parent._repr_html_() is None
    assert sorted([path, plain, tmp_path / "a"])[0] == tmp_path / "a"


def shown(fragment: str) -> str:
    """Return the text of an HTML fragment."""
    return html.unescape(re.sub(r"<[^>]*>", "", fragment))
