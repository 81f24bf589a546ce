"""The page as a file: whole, closed to the outside, made of data and never of markup; posters are made once."""

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

from omni_async import DEFAULT_MODEL, JobRecord, JobStatus, LedgerError, gallery
from omni_async.gallery.entry import entry_of
from omni_async.gallery.page import render

FRAME: dict[str, Any] = {"folder": "clips", "written": 1.0, "sandbox": False, "posters": "", "live": False}


class Reader(HTMLParser):
    """Reads a page as a browser would: its elements, and what stands within scripts and style."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._is_inside = False
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take in where an element begins."""
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")
        self._is_inside = True

    def handle_endtag(self, tag: str) -> None:
        """Take in where one ends."""
        self._is_inside = False

    def handle_data(self, data: str) -> None:
        """Take in text."""
        if self._is_inside:
            self.texts[-1] += data

    def inside(self, tag: str) -> list[str]:
        """Give what stands within each element of a kind."""
        return [text for (name, _), text in zip(self.elements, self.texts, strict=True) if name == tag]

    @property
    def data(self) -> Any:
        """Give what the page is told."""
        return json.loads(self.inside("script")[0])

    @property
    def policy(self) -> str:
        """Give the page's Content-Security-Policy."""
        return next(facts["content"] or "" for _, facts in self.elements if "http-equiv" in facts)


def digest(text: str) -> str:
    """Give the name of a text in a policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_page_is_closed_to_the_outside() -> None:
    """Its policy lets in its own style and program, by their digests, and media beside it; it names no other place."""
    page = Reader(render(FRAME | {"jobs": []}))
    (style,), (_, program) = page.inside("style"), page.inside("script")
    rules = dict(rule.split(" ", 1) for rule in page.policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["style-src"] == digest(style)
    assert rules["script-src"] == digest(program)
    assert not re.search(r"unsafe|\*|https?:", page.policy)
    places = [facts[name] for _, facts in page.elements for name in ("src", "href") if name in facts]
    assert [place.partition(",")[0] for place in places if place] == ["data:image/svg+xml"]
    assert "style" not in {name for _, facts in page.elements for name in facts}
    addresses = set(re.findall(r"https?://[^\s\"'`]+", style + program))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, which nobody fetches
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", program)


@given(st.text(), st.text())
def test_whatever_a_prompt_holds_is_data(prompt: str, folder: str) -> None:
    """No text of a job or a folder becomes an element of the page, and each arrives as it was."""
    texts = [prompt, "</script><script>alert(1)</script><!--", "\u2028\u2029 & \u0000", "\ud800"]
    blank, page = Reader(render(FRAME | {"jobs": []})), Reader(render(FRAME | {"folder": folder, "jobs": texts}))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in blank.elements]
    assert page.data["jobs"] == texts
    assert page.data["folder"] == folder
    assert page.inside("script")[1] == blank.inside("script")[1]


def test_the_page_tells_what_the_ledger_knows(clips: Path) -> None:
    """Every job with its prompt, model, cost, task_id, chain, reason, clip and poster; links lead to files."""
    written = gallery.write(clips)
    assert written.path == clips / "gallery.html"
    assert (written.jobs, written.clips, written.without_poster) == (10, 8, 0)
    jobs = {job["key"]: job for job in Reader(written.path.read_bytes()).data["jobs"]}
    assert jobs["turn-2"]["parent"] == "turn-1"
    assert "HTTP 400" in jobs["refused"]["error"]
    assert not jobs["refused"]["error"].startswith("job")
    assert jobs["lost"]["status"] == "unknown"
    for job in jobs.values():
        assert job["model"] == DEFAULT_MODEL
        if job["status"] == "completed":
            assert job["cost"] > 0
            assert job["task"].startswith("task_")
            assert (job["width"], job["height"]) == ((720, 1280) if job.get("ratio") == 0.5625 else (1280, 720))
            assert job["seconds"] == pytest.approx(3, abs=0.2)
            for link in (*job["clips"], job["poster"]):
                assert re.fullmatch(r"[\w.%/~-]+", link), link
    posters = {path.name for path in (clips / ".posters").glob("*.jpg")}
    assert posters == {f"{path.name}.jpg" for path in clips.glob("*.mp4")}


def test_posters_are_made_once(clips: Path) -> None:
    """Writing the page again makes none; a clip that is another one now gets another poster."""
    gallery.write(clips)
    assert gallery.write(clips).posters == 0
    apple = clips / "apple.mp4"
    os.utime(apple, (1, 1))
    assert gallery.write(clips).posters == 1
    assert gallery.write(clips).posters == 0


def test_a_bad_clip_and_a_lost_one_are_told(clips: Path, tmp_path: Path) -> None:
    """What cannot be read has no poster; what is not there has no link, and the page says so."""
    for path in clips.glob("ledger.db*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "apple.mp4").write_bytes(b"this is no clip")
    written = gallery.write(tmp_path)
    assert (written.jobs, written.clips, written.posters, written.without_poster) == (10, 1, 0, 1)
    jobs = {job["key"]: job for job in Reader(written.path.read_bytes()).data["jobs"]}
    assert (jobs["apple"]["clips"], "poster" in jobs["apple"]) == (["apple.mp4"], False)
    assert "not in its folder" in jobs["tower-0"]["error"]
    assert "clips" not in jobs["tower-0"]


def test_without_the_library_for_posters_the_page_says_how_to_get_them(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written all the same, without posters."""
    for path in (*clips.glob("ledger.db*"), clips / "apple.mp4"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setitem(sys.modules, "av", None)
    written = gallery.write(tmp_path)
    assert (written.clips, written.without_poster, written.can_have_posters) == (1, 1, False)
    assert Reader(written.path.read_bytes()).data["posters"] == "pip install 'omni-async[media]'"


def test_without_the_library_for_pages_the_error_names_it(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that installs it is told."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(RuntimeError, match=r"pip install 'omni-async\[cli\]'"):
        gallery.write(clips)


def test_where_there_is_no_ledger_nothing_is_written(tmp_path: Path) -> None:
    """It says so, and leaves the folder as it is."""
    with pytest.raises(LedgerError, match="there is no ledger"):
        gallery.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_request_of_another_version_is_read_as_far_as_it_goes() -> None:
    """Unknown fields are passed over, long references are cut, and what is no JSON is no prompt."""
    video, files = "data:video/mp4;base64," + "A" * 100_000, ["a/secret/place/cat.png", "https://example.com/dog.png"]
    wishes = {"prompt": "p", "later": 1, "video_urls": [video], "images": files, "aspect_ratio": "4:3"}
    request = json.dumps(wishes)
    entry = entry_of(JobRecord(key="k", request=request, status=JobStatus.RUNNING), lambda _: None)
    assert entry["prompt"] == "p"
    assert entry["ratio"] == 1.3333
    assert entry["references"][:2] == ["cat.png", "https://example.com/dog.png"]  # no path of somebody's machine
    assert entry["references"][2:] == ["data:video/mp4;base64,AAAAAAAAAAAAAAAAAA… (100,022 characters)"]
    assert "prompt" not in entry_of(JobRecord(key="k", request="{"), lambda _: None)
    assert entry_of(JobRecord(key="k"), lambda _: None) == {"key": "k", "status": "waiting"}
