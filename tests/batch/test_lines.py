"""How lines are checked, what their problems say, and which keys they get."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omni_async import batch
from tests.support.prompt_files import as_jsonl, problems, read

if TYPE_CHECKING:
    from pathlib import Path

LINK = "https://example.com/a.png"
NEW, EXT = "gemini-omni-1.1-flash", "Omni-Flash-Ext"
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

INVALID_LINES: list[tuple[str, str]] = [
    ('{"prompt": nope}', "the line is not valid JSON: Expecting value at column 12"),
    ('{"prompt": "a"', "the line is not valid JSON: Expecting ',' delimiter at column 15"),
    ('["a"]', "the line must be a JSON object, not a list"),
    ("null", "the line must be a JSON object, not null"),
    ("17", "the line must be a JSON object, not the number 17"),
    ('{"promt": "a"}', "unknown field 'promt'; did you mean 'prompt'?"),
    ('{"prompt": "a", "aspect ratio": "9:16"}', "unknown field 'aspect ratio'; did you mean 'aspect_ratio'?"),
    ('{"prompt": "a", "prompt": "b"}', "'prompt' appears twice; remove one"),
    ('{"prompt": "a", "extra": {"x": 1, "x": 2}}', "'x' appears twice; remove one"),
    ('{"prompt": "a", "extra": {"x": NaN}}', "NaN is not a JSON value; leave the field out"),
    ('{"prompt": "a", "extra": {"x": 1e999}}', "extra must be plain JSON values: Out of range float"),
    ('{"prompt": "a", "extra": {"x": null}}', "extra: x is null; leave out fields that should not be sent"),
    ('{"prompt": "a", "extra": [1]}', "extra must be an object, not a list"),
    ('{"prompt": "\\ud83d"}', "the line contains half a character"),
    ('{"prompt": "a", "id": "\\udc00"}', "the line contains half a character"),
    ('{"prompt": ' + "[" * 100_000, "the line is not valid JSON: it is nested too deeply"),
    ('{"prompt": "a", "extra": {"x": ' + "[" * 400 + "]" * 400 + "}}", "it cannot be written as JSON"),
    ('{"prompt": 5}', "prompt must be a string, not the number 5"),
    ('{"prompt": true}', "prompt must be a string, not true"),
    ('{"prompt": "  "}', "give a prompt, images or a video"),
    ("{}", "give a prompt, images or a video"),
    ('{"prompt": "a", "model": ""}', "model must not be empty"),
    ('{"prompt": "a", "aspect_ratio": "4:3"}', "aspect_ratio must be '16:9' or '9:16', not '4:3'"),
    ('{"prompt": "a", "resolution": 720}', "resolution must be a string, not the number 720"),
    ('{"prompt": "a", "image_urls": 5}', "image_urls must be a list of strings, not the number 5"),
    ('{"prompt": "a", "image_urls": [5]}', "image_urls must contain strings, not the number 5"),
    ('{"prompt": "a", "image_urls": ["a.png"]}', "image_urls: 'a.png' is not an http(s) URL"),
    (json.dumps({"prompt": "a", "image_urls": [LINK] * 17}), "image_urls takes at most 16, not 17"),
    (json.dumps({"prompt": "a", "video_urls": [LINK] * 2}), "video_urls takes at most 1, not 2"),
    ('{"prompt": "a", "id": true}', "id must be a string or a whole number, not true"),
    ('{"prompt": "a", "id": 1.5}', "id must be a string or a whole number, not the number 1.5"),
    ('{"prompt": "a", "id": ""}', "id must have 1 to 200 characters, not 0"),
    (json.dumps({"prompt": "a", "id": "x" * 201}), "id must have 1 to 200 characters, not 201"),
    (
        '{"prompt": "a", "id": "x", "extend_from": "x"}',
        "extend_from names the line itself; name an earlier clip or leave it out",
    ),
    ('{"prompt": "a", "extend_from": "nobody"}', "extend_from names 'nobody', but no line has this id"),
    ('{"prompt": "a", "extend_from": ["x"]}', "extend_from must be a string or a whole number, not a list"),
    (
        '{"prompt": "a", "extend_from": "good", "extend_from_task_id": "task_1"}',
        "extend_from and extend_from_task_id cannot be combined; keep one of them",
    ),
]


@pytest.mark.parametrize(("invalid", "reason"), INVALID_LINES, ids=[reason[:40] for _, reason in INVALID_LINES])
def test_an_invalid_line_is_reported_with_number_and_reason(tmp_path: Path, invalid: str, reason: str) -> None:
    """An invalid .jsonl line has exactly one problem: its number as an editor shows it, and the reason."""
    ((number, text),) = problems(tmp_path, "a.jsonl", '{"prompt": "a", "id": "good"}\n\n' + invalid + "\n")
    assert number == 3
    assert text.startswith(reason)
    assert "pydantic" not in text


def test_all_invalid_lines_are_reported_together(tmp_path: Path) -> None:
    """Every invalid line is reported, in order, and so is every problem of one line."""
    text = "".join(f"{line}\n" for line, _ in INVALID_LINES)
    found = problems(tmp_path, "a.jsonl", text + '{"prompt": 1, "aspect_ratio": "1:1", "seed": 2}\n')
    assert [number for number, _ in found] == sorted(number for number, _ in found)
    assert {number for number, _ in found} == set(range(1, len(INVALID_LINES) + 2))
    assert sum(number == len(INVALID_LINES) + 1 for number, _ in found) == 3


def test_an_id_may_be_used_once(tmp_path: Path) -> None:
    """Two lines with one id are a problem that names both; a number and its digits are the same id."""
    text = as_jsonl({"id": 7, "prompt": "a"}, {"id": "8", "prompt": "b"}, {"id": "7", "prompt": "c"})
    assert problems(tmp_path, "a.jsonl", text) == [(3, "id '7' is already used by line 1; give each line its own id")]


def test_the_rules_of_the_model_are_checked(tmp_path: Path) -> None:
    """Each line is checked against the rules of its model, named or inherited, before anything is sent."""
    text = as_jsonl(
        {"id": "a", "prompt": "a"},
        {"id": "b", "prompt": "b", "extend_from": "a", "resolution": "1080p"},
        {"id": "c", "prompt": "c", "extend_from": "a", "video_urls": [LINK]},
        {"id": "d", "prompt": "d", "model": EXT, "duration": 5},
        {"id": "e", "prompt": "e", "extend_from": "d"},
        {"id": "f", "prompt": "f", "model": EXT, "extend_from": "a"},
        {"id": "g", "prompt": "g", "extend_from": "nobody", "resolution": "1080p"},
        {"id": "h", "prompt": "h", "model": EXT, "duration": "long"},
        {"id": "i", "prompt": "i", "model": 5, "duration": 5},
    )
    assert [(number, reason.partition(" (")[0]) for number, reason in problems(tmp_path, "a.jsonl", text)] == [
        (2, "resolution must be '720p', not '1080p'"),
        (3, "video_urls and extend_from_task_id exclude each other: a clip extends either a video or a task"),
        (4, "duration must be 4, 6, 8 or 10, not 5"),
        (5, "this model cannot extend another task; use one that can"),
        (6, "this model cannot extend another task; use one that can"),
        (7, "extend_from names 'nobody', but no line has this id"),
        (8, "duration must be a whole number, not 'long'"),
        (9, "model must be a string, not the number 5"),
    ]


def test_an_invalid_batch_file_can_be_pickled(tmp_path: Path) -> None:
    """InvalidBatchFile keeps its message and problems when it is passed to another process."""
    with pytest.raises(batch.InvalidBatchFile) as caught:
        read(tmp_path, "a.jsonl", "[]\n")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.problems) == (str(caught.value), caught.value.problems)


# Keys

PROMPTS = st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip), min_size=1)


@FEW
@given(prompts=PROMPTS, data=st.data())
def test_keys_are_unique_and_stable(tmp_path: Path, prompts: list[str], data: st.DataObject) -> None:
    """Every prompt of a list gets its own key, the same every time and in every order."""
    records = [{"prompt": prompt} for prompt in prompts]
    lines = read(tmp_path, "a.jsonl", as_jsonl(*records))
    assert len({line.key for line in lines}) == len(prompts)
    shuffled = read(tmp_path, "b.jsonl", as_jsonl(*data.draw(st.permutations(records))))
    assert {(line.key, line.request.prompt) for line in shuffled} == {(line.key, line.request.prompt) for line in lines}


def test_a_request_has_the_same_key_in_every_format(tmp_path: Path) -> None:
    """A generated key depends on the request, not on how the file writes it."""
    first = read(tmp_path, "a.txt", "a pear\nan apple\n")[1]
    second = read(tmp_path, "a.csv", "aspect_ratio,prompt\n,an apple\n")[0]
    third = read(tmp_path, "a.jsonl", '{"image_urls": [], "prompt": "an apple"}')[0]
    assert first.key == second.key == third.key
    assert first.key.startswith("an-apple-")


def test_equal_lines_are_numbered(tmp_path: Path) -> None:
    """Equal lines get numbered keys; a line that extends another is not equal to one that does not."""
    same = {"prompt": "an apple"}
    lines = read(
        tmp_path, "a.jsonl", as_jsonl(same, {"prompt": "p", "id": "p"}, same, {**same, "extend_from": "p"}, same)
    )
    first, _, second, extending, third = (line.key for line in lines)
    assert (second, third) == (f"{first}~2", f"{first}~3")
    assert extending not in {first, second, third}
    assert "~" not in extending


def test_a_generated_key_never_equals_an_id(tmp_path: Path) -> None:
    """Where an id equals a generated key, the generated key gets a number, wherever the id is."""
    generated = read(tmp_path, "a.txt", "an apple\n")[0].key
    records = [
        {"prompt": "an apple"},
        {"prompt": "other", "id": generated},
        {"prompt": "third", "id": f"{generated}~2"},
    ]
    for order in (records, records[::-1]):
        keys = {line.request.prompt: line.key for line in read(tmp_path, "a.jsonl", as_jsonl(*order))}
        assert keys == {"an apple": f"{generated}~3", "other": generated, "third": f"{generated}~2"}
