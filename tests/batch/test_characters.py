"""Comments and blank lines are skipped and counted; control characters are refused with the number of their line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from omni_async import VideoRequest, batch
from tests.support.prompt_files import problems, read, write

if TYPE_CHECKING:
    from pathlib import Path

CONTROLS = [*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F, 0x80, 0x85, 0x9B, 0x9F]
# Emoji need joiners and selectors, many scripts their marks: these are allowed, like tabs.
ALLOWED = ["a\tb", "👩\u200d🚀", "❤\ufe0f", "می\u200cخواهم", "\u202bשלום\u202c", "a\u00adb", "一\u3000二"]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_comments_and_blank_lines_are_skipped_and_counted(tmp_path: Path, name: str) -> None:
    """Their lines count for the numbers of the others, and a text says how many there were."""
    one, two = ('{"prompt": "a # b"}', '{"prompt": "c"}') if name == "a.jsonl" else ("a # b", "c")
    path = write(tmp_path, name, f"# first\n\n{one}\n  # indented\n   \n#\n{two}")
    said: list[str] = []
    lines = batch.read(path, on_read=lambda reading: said.append(str(reading.note)))
    assert [(line.number, line.request.prompt) for line in lines] == [(3, "a # b"), (7, "c")]
    assert said == [f"{path}: 3 comment lines and 2 blank lines skipped"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\n", []),
        ("a\n\n", ["1 blank line skipped"]),
        ("# one\na\n", ["1 comment line skipped"]),
        ("#\n\n" * 1200 + "a", ["1,200 comment lines and 1,200 blank lines skipped"]),
    ],
)
def test_only_what_was_skipped_is_said(tmp_path: Path, text: str, said: list[str]) -> None:
    """Nothing is said of a file of which every line is a request."""
    path = write(tmp_path, "a.txt", text)
    heard: list[str] = []
    batch.read(path, on_read=lambda reading: heard.extend(filter(None, [reading.note])))
    assert heard == [f"{path}: {each}" for each in said]


def test_a_file_of_comments_contains_no_requests(tmp_path: Path) -> None:
    """It is refused rather than found complete."""
    assert problems(tmp_path, "a.txt", "# a\n\n# b\n") == [(0, "the file contains no requests")]


def test_a_hash_in_csv_is_no_comment(tmp_path: Path) -> None:
    """There it may begin any cell."""
    assert [line.request.prompt for line in read(tmp_path, "a.csv", "prompt\n# a\n")] == ["# a"]


@pytest.mark.parametrize("code", CONTROLS, ids=hex)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
@pytest.mark.parametrize("place", ["x{}y", "{}y", "x{}"])
def test_a_control_character_is_refused_with_its_line(tmp_path: Path, code: int, name: str, place: str) -> None:
    """As it is, wherever it stands; the lines around it are not to blame."""
    text = place.format(chr(code))
    lines = {
        "a.txt": f"good\n{text}\ngood too\n",
        "a.jsonl": f'{{"prompt": "good"}}\n{{"prompt": "{text}"}}\n{{"prompt": "good too"}}\n',
        "a.csv": f"prompt\n{text}\ngood\n",
    }
    ((number, reason),) = problems(tmp_path, name, lines[name])
    assert number == 2
    assert "NUL" in reason if code == 0 else f"U+{code:04X}" in reason


@pytest.mark.parametrize("code", CONTROLS, ids=hex)
@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "a@"},
        {"prompt": "a", "id": "k@"},
        {"prompt": "a", "image_urls": ["https://h/@.png"]},
        {"prompt": "a", "video_urls": ["https://h/@.mp4"]},
        {"prompt": "a", "model": "m@"},
        {"prompt": "a", "extra": {"x": ["@"]}},
        {"prompt": "a", "extra": {"@": 1}},
        {"prompt": "a", "extend_from": "k@"},
        {"prompt": "a", "extend_from_task_id": "task@"},
    ],
    ids=str,
)
def test_an_escaped_control_character_is_refused_in_every_field(
    tmp_path: Path, code: int, fields: dict[str, object]
) -> None:
    """JSON may hide it behind an escape."""
    line = json.dumps(fields).replace("@", f"\\u{code:04x}")
    found = problems(tmp_path, "a.jsonl", f'{{"prompt": "good"}}\n{line}\n')
    assert {number for number, _ in found} == {2}
    assert any(f"U+{code:04X}" in reason or "URL" in reason for _, reason in found)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_a_file_in_another_encoding_is_refused_at_its_first_odd_line(tmp_path: Path, name: str, encoding: str) -> None:
    """Not one of its lines is taken for a prompt."""
    text = {"a.txt": "a käse\n", "a.jsonl": '{"prompt": "a käse"}\n', "a.csv": "prompt\na käse\n"}[name]
    ((number, reason),) = problems(tmp_path, name, text.encode(encoding))
    assert number == (2 if (name, encoding) == ("a.csv", "latin-1") else 1)
    assert reason.endswith("save the file as UTF-8")


@pytest.mark.parametrize("prompt", ALLOWED, ids=ascii)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_what_scripts_and_emoji_need_is_allowed(tmp_path: Path, prompt: str, name: str) -> None:
    """The prompt arrives unchanged."""
    lines = {"a.txt": prompt, "a.jsonl": json.dumps({"prompt": prompt}), "a.csv": f"prompt\n{prompt}\n"}
    assert [line.request.prompt for line in read(tmp_path, name, lines[name])] == [prompt]


@pytest.mark.parametrize("code", CONTROLS, ids=hex)
def test_a_request_with_a_control_character_raises(code: int) -> None:
    """Also one that no file holds. The field and the place are named."""
    with pytest.raises(ValueError, match=rf"prompt holds the control character U\+{code:04X} at character 2"):
        VideoRequest(prompt=f"a{chr(code)}b")


def test_a_stored_request_with_a_control_character_can_be_read() -> None:
    """An older version has sent and recorded it."""
    assert VideoRequest.from_json('{"prompt":"a\\u0000b"}').prompt == "a\0b"


def test_a_prompt_may_have_several_lines() -> None:
    """Tabs and line ends are no mistake."""
    assert VideoRequest(prompt="a\n\tb\r\nc").prompt == "a\n\tb\r\nc"


INVISIBLE = ["\u200b", "\u00a0\u200b \u2060", "\u200d\u200b", "\u202e", "\ufe0f", "\u00ad"]


@pytest.mark.parametrize("prompt", INVISIBLE, ids=ascii)
def test_a_prompt_that_shows_nothing_is_none(tmp_path: Path, prompt: str) -> None:
    """Text copied from a web page has lines that look empty: they are blank lines, and no clip is paid for."""
    assert [line.request.prompt for line in read(tmp_path, "a.txt", f"a fox\n{prompt}\n")] == ["a fox"]
    for name, content in (("a.csv", f"id,prompt\n1,{prompt}\n"), ("a.jsonl", json.dumps({"prompt": prompt}))):
        [(_, reason)] = problems(tmp_path, name, content)
        assert "give a prompt" in reason
    with pytest.raises(ValidationError, match="give a prompt"):
        VideoRequest(prompt=prompt)
    assert VideoRequest.from_json(json.dumps({"prompt": prompt})).prompt == prompt  # of a ledger
