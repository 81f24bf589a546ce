"""The static page: self-contained, no markup from data, complete, and posters that are made once."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async import DEFAULT_MODEL, JobRecord, JobStatus, LedgerError, LedgerReader, gallery
from omni_async.gallery.entry import job_entry
from omni_async.gallery.page import render

DATA: dict[str, Any] = {"folder": "clips", "written_at": 1.0, "is_sandbox": False, "poster_hint": "", "is_live": False}


class Page(HTMLParser):
    """A page parsed as a browser would: its elements, and the text inside scripts and style."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._is_inside = False
        self.feed(content.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record the start of an element."""
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")
        self._is_inside = True

    def handle_endtag(self, tag: str) -> None:
        """Record the end of an element."""
        self._is_inside = False

    def handle_data(self, data: str) -> None:
        """Record text inside an element."""
        if self._is_inside:
            self.texts[-1] += data

    def inside(self, tag: str) -> list[str]:
        """Return the text inside each element with a tag."""
        return [text for (name, _), text in zip(self.elements, self.texts, strict=True) if name == tag]

    @property
    def data(self) -> Any:
        """The JSON data of the page."""
        return json.loads(self.inside("script")[0])

    @property
    def jobs(self) -> dict[str, dict[str, Any]]:
        """The jobs of the page by key."""
        return {job["key"]: job for job in self.data["jobs"]}

    @property
    def policy(self) -> str:
        """The Content-Security-Policy of the page."""
        return next(attributes["content"] or "" for _, attributes in self.elements if "http-equiv" in attributes)


def digest(text: str) -> str:
    """Return the source expression of a policy that allows a text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def copy_to(folder: Path, *paths: Path) -> None:
    """Copy files to a folder."""
    for path in paths:
        (folder / path.name).write_bytes(path.read_bytes())


def test_the_page_loads_nothing_from_other_origins() -> None:
    """The policy allows the page's own style and script by digest, and media beside it; the page has no other URL."""
    page = Page(render(DATA | {"jobs": []}))
    (style,), (_, script) = page.inside("style"), page.inside("script")
    rules = dict(rule.split(" ", 1) for rule in page.policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["style-src"] == digest(style)
    assert rules["script-src"] == digest(script)
    assert not re.search(r"unsafe|\*|https?:", page.policy)
    links = [attributes[name] for _, attributes in page.elements for name in ("src", "href") if name in attributes]
    assert [link.partition(",")[0] for link in links if link] == ["data:image/svg+xml"]
    assert "style" not in {name for _, attributes in page.elements for name in attributes}
    urls = set(re.findall(r"https?://[^\s\"'`]+", style + script))
    assert urls == {"http://www.w3.org/2000/svg"}  # an XML namespace, which is never requested
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", script)


@given(st.text(), st.text())
def test_no_text_becomes_markup(prompt: str, folder: str) -> None:
    """No text of a job or a folder name becomes an element of the page, and each text arrives unchanged."""
    texts = [prompt, "</script><script>alert(1)</script><!--", "\u2028\u2029 & \u0000", "\ud800"]
    empty, page = Page(render(DATA | {"jobs": []})), Page(render(DATA | {"folder": folder, "jobs": texts}))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in empty.elements]
    assert page.data["jobs"] == texts
    assert page.data["folder"] == folder
    assert page.inside("script")[1] == empty.inside("script")[1]


@pytest.mark.slow
def test_the_page_contains_what_the_ledger_records(clips: Path) -> None:
    """Every job has its prompt, model, cost, task_id, parent, error, clip and poster; links name existing files."""
    result = gallery.write(clips)
    assert result.path == clips / "gallery.html"
    assert (result.jobs, result.clips, result.without_poster) == (10, 8, 0)
    jobs = Page(result.path.read_bytes()).jobs
    assert jobs["turn-2"]["parent"] == "turn-1"
    assert "HTTP 400" in jobs["rejected"]["error"]
    assert not jobs["rejected"]["error"].startswith("job")
    assert jobs["lost"]["status"] == "unknown"
    for job in jobs.values():
        assert job["model"] == DEFAULT_MODEL
        if job["status"] == "completed":
            assert job["cost"] > 0
            assert job["task_id"].startswith("task_")
            is_vertical = job.get("aspect_ratio") == 0.5625
            assert (job["width"], job["height"]) == ((720, 1280) if is_vertical else (1280, 720))
            assert job["clip_seconds"] == pytest.approx(3, abs=0.2)
            for link in (*job["clips"], job["poster"]):
                assert re.fullmatch(r"[\w.%/~-]+", link), link
    posters = {path.name for path in (clips / ".posters").glob("*.jpg")}
    assert posters == {f"{path.name}.jpg" for path in clips.glob("*.mp4")}


def test_posters_are_made_once(clips: Path) -> None:
    """Writing the page again makes no poster, except for a clip that was replaced."""
    gallery.write(clips)
    assert gallery.write(clips).posters == 0
    apple = clips / "apple.mp4"
    os.utime(apple, (1, 1))
    assert gallery.write(clips).posters == 1
    assert gallery.write(clips).posters == 0


@pytest.mark.parametrize("is_folder", [True, False])
def test_no_poster_is_written_through_a_link(clips: Path, tmp_path: Path, is_folder: bool) -> None:
    """A link in the place of the folder of posters, to a folder or to nothing, is an error that says what to do."""
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "clips"
    folder.mkdir()
    copy_to(folder, *clips.glob("ledger.db*"), clips / "apple.mp4")
    if is_folder:
        elsewhere.mkdir()
        (elsewhere / "index.json").write_text("mine")
    (folder / ".posters").symlink_to(elsewhere)
    with pytest.raises(OSError, match=r"remove it.*\.posters"):
        gallery.write(folder)
    assert elsewhere.exists() is is_folder
    if is_folder:
        assert [(each.name, each.read_text()) for each in elsewhere.iterdir()] == [("index.json", "mine")]


def test_a_page_replaces_a_link(clips: Path, tmp_path: Path) -> None:
    """What the link led to stays as it is; nothing is written through links with the names of temporary files."""
    target = tmp_path / "target"
    target.write_text("mine")
    copy_to(tmp_path, *clips.glob("ledger.db*"), clips / "apple.mp4")
    (tmp_path / ".posters").mkdir()
    links = ["gallery.html", f".gallery.html.{os.getpid()}.part", ".posters/index.json", ".posters/apple.mp4.jpg"]
    for link in links:
        (tmp_path / link).symlink_to(target)
    assert gallery.write(tmp_path).posters == 1
    assert target.read_text() == "mine"
    assert not (tmp_path / "gallery.html").is_symlink()


def test_unreadable_and_missing_clips(clips: Path, tmp_path: Path) -> None:
    """An unreadable clip has no poster; a missing clip has no link, and the page says so."""
    copy_to(tmp_path, *clips.glob("ledger.db*"))
    (tmp_path / "apple.mp4").write_bytes(b"this is not a clip")
    result = gallery.write(tmp_path)
    assert (result.jobs, result.clips, result.posters, result.without_poster) == (10, 1, 0, 1)
    jobs = Page(result.path.read_bytes()).jobs
    assert (jobs["apple"]["clips"], "poster" in jobs["apple"]) == (["apple.mp4"], False)
    assert "no longer in its folder" in jobs["tower-0"]["error"]
    assert "clips" not in jobs["tower-0"]


def test_without_the_poster_library_the_page_says_how_to_install_it(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is written without posters."""
    copy_to(tmp_path, *clips.glob("ledger.db*"), clips / "apple.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    result = gallery.write(tmp_path)
    assert (result.clips, result.without_poster, result.can_make_posters) == (1, 1, False)
    assert Page(result.path.read_bytes()).data["poster_hint"] == "pip install 'omni-async[media]'"


def test_without_the_template_library_the_error_says_how_to_install_it(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing raises `RuntimeError` with the install command."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(RuntimeError, match=r"pip install 'omni-async\[cli\]'"):
        gallery.write(clips)


def test_a_reader_may_stand_for_the_ledger(clips: Path, tmp_path: Path) -> None:
    """With a reader and the folder of its clips, the page holds the same jobs, and lies in that folder."""
    copy_to(tmp_path, clips / "apple.mp4")
    with LedgerReader(clips) as reader:
        result = gallery.write(reader, folder=tmp_path)
        with pytest.raises(TypeError, match="folder="):
            gallery.write(reader)
    assert (result.path, result.jobs, result.clips) == (tmp_path / "gallery.html", 10, 1)
    assert Page(result.path.read_bytes()).jobs["apple"]["clips"] == ["apple.mp4"]


def test_without_a_ledger_nothing_is_written(tmp_path: Path) -> None:
    """Writing raises `LedgerError` and leaves the folder unchanged."""
    with pytest.raises(LedgerError, match="there is no ledger"):
        gallery.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_request_of_another_version_is_read_as_far_as_possible() -> None:
    """Unknown fields are ignored, long references are cut, and invalid JSON means no prompt."""
    video, files = "data:video/mp4;base64," + "A" * 100_000, ["a/secret/place/cat.png", "https://example.com/dog.png"]
    fields = {"prompt": "p", "later": 1, "video_urls": [video], "images": files, "aspect_ratio": "4:3"}
    request = json.dumps(fields)
    entry = job_entry(JobRecord(key="k", request=request, status=JobStatus.RUNNING), lambda _: None)
    assert entry["prompt"] == "p"
    assert entry["aspect_ratio"] == 1.3333
    assert entry["references"][:2] == ["cat.png", "https://example.com/dog.png"]  # no local path
    assert entry["references"][2:] == ["data:video/mp4;base64,AAAAAAAAAAAAAAAAAA… (100,022 characters)"]
    assert "prompt" not in job_entry(JobRecord(key="k", request="{"), lambda _: None)
    assert job_entry(JobRecord(key="k"), lambda _: None) == {"key": "k", "status": "waiting"}


@pytest.mark.parametrize(("status", "seconds"), [(JobStatus.FAILED, 2.5), (JobStatus.CANCELLED, None)])
def test_the_server_time_of_a_job_that_ended_only_here_is_unknown(status: JobStatus, seconds: float | None) -> None:
    """Without a figure from the server, it is the time from acceptance to the end, unless only the client ended it."""
    record = JobRecord(key="k", status=status, accepted_at=1.0, finished_at=3.5)
    assert job_entry(record, lambda _: None).get("server_seconds") == seconds
