"""Several clips for one line, each a job of its own, and names for the files of clips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from omni_async import batch
from omni_async.jobs.filenames import FileNames, stem_of_name
from tests.support.prompt_files import as_jsonl, write

if TYPE_CHECKING:
    from pathlib import Path

CHAIN = as_jsonl({"id": "a", "prompt": "a"}, {"prompt": "b"}, {"id": "c", "prompt": "c", "extend_from": "a"})


def test_the_first_sample_keeps_the_key(tmp_path: Path) -> None:
    """With more samples, those that were there keep their keys and requests: only the new ones are submitted."""
    path = write(tmp_path, "a.jsonl", CHAIN)
    one, two, five = (batch.read(path, samples=number) for number in (1, 2, 5))
    assert one == batch.read(path)
    assert (one, two) == (two[:3], five[:6])
    assert len({line.key for line in five}) == 15
    assert [line.key for line in two[3:]] == ["a~s2", f"{one[1].key}~s2", "c~s2"]
    assert {line.number for line in two[3:]} == {1, 2, 3}


def test_a_sample_extends_the_same_sample(tmp_path: Path) -> None:
    """Each sample of a chain is a chain of its own."""
    lines = batch.read(write(tmp_path, "a.jsonl", CHAIN), samples=3)
    assert [(line.key, line.extend_from) for line in lines if line.extend_from] == [
        ("c", "a"),
        ("c~s2", "a~s2"),
        ("c~s3", "a~s3"),
    ]


def test_equal_lines_have_samples_of_their_own(tmp_path: Path) -> None:
    """The number of an equal line and that of a sample are never mixed up."""
    lines = batch.read(write(tmp_path, "a.txt", "a\na\n"), samples=2)
    first = lines[0].key
    assert [line.key for line in lines] == [first, f"{first}~2", f"{first}~s2", f"{first}~2~s2"]


def test_an_id_that_is_the_key_of_a_sample_is_a_problem(tmp_path: Path) -> None:
    """It names both lines."""
    path = write(tmp_path, "a.jsonl", as_jsonl({"id": "a", "prompt": "a"}, {"id": "a~s2", "prompt": "b"}))
    with pytest.raises(batch.InvalidBatchFile, match="sample 2 would have the key 'a~s2', the id of line 2"):
        batch.read(path, samples=2)
    assert len(batch.read(path)) == 2


@pytest.mark.parametrize("samples", [0, -1, 1.5, "2", True])
def test_a_number_of_samples_that_cannot_be_meant_raises(tmp_path: Path, samples: int) -> None:
    """It is a whole number from 1."""
    with pytest.raises(ValueError, match="samples must be a whole number from 1"):
        batch.read(write(tmp_path, "a.txt", "a\n"), samples=samples)


# Names


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{prompt}-{n}", ["an apple-1", "an apple-2"]),
        ("{prompt}-{index}", ["an apple-0", "an apple-1"]),
        ("{id}_{n:03}", ["x_001", "x_002"]),
        (
            "{model} {resolution}{duration} {n}",
            ["gemini-omni-flash-preview 720p 1", "gemini-omni-flash-preview 720p 2"],
        ),
        ("{{{n}}}", ["{1}", "{2}"]),
        ("a/b:{n}", ["a_b_1", "a_b_2"]),
        ("../{n}", ["__1", "__2"]),
    ],
)
def test_a_name_is_made_from_the_fields_of_a_request(tmp_path: Path, pattern: str, names: list[str]) -> None:
    """Fields, the id and the number of the sample, made safe for every file system."""
    path = write(tmp_path, "a.jsonl", as_jsonl({"id": "x", "prompt": "an apple", "resolution": "720p"}))
    lines = batch.read(path, samples=2, name=pattern)
    assert [line.name for line in lines] == names
    assert [line.key for line in lines] == ["x", "x~s2"]


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("{promt}-{n}", "{promt} is unknown; use {id}, {n}, {index}, {model}, {prompt}"),
        ("{prompt.__class__}-{n}", "is unknown; use"),
        ("{prompt[0]}-{n}", "is unknown; use"),
        ("{prompt!r}-{n}", "is unknown; use"),
        ("{extra}-{n}", "is unknown; use"),
        ("{}-{n}", "is unknown; use"),
        ("{prompt", "expected '}'"),
        ("", "must not be empty"),
        ("{prompt}", "gives all samples of a line one name; add {n} or {index}"),
    ],
)
def test_a_pattern_that_cannot_be_used_raises(tmp_path: Path, pattern: str, reason: str) -> None:
    """Before the file is read, with what may be used."""
    with pytest.raises(ValueError, match="name") as caught:
        batch.read(write(tmp_path, "a.txt", "a\n"), samples=2, name=pattern)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("text", "pattern", "numbers"),
    [
        ("a\nb\na\n", "{prompt}", [3]),
        ("A\na\n", "{prompt}", [2]),
        ("a/b\na:b\n", "{prompt}", [2]),
        ("a\nb\n", "clip", [2]),
    ],
)
def test_two_clips_never_have_one_name(tmp_path: Path, text: str, pattern: str, numbers: list[int]) -> None:
    """Names that differ in case only, or once they are safe, are the same; the line that was first is named."""
    with pytest.raises(batch.InvalidBatchFile) as caught:
        batch.read(write(tmp_path, "a.txt", text), name=pattern)
    assert [problem.number for problem in caught.value.problems] == numbers
    assert "the same name as that of line 1" in caught.value.problems[0].reason


def test_a_long_name_is_kept_as_long_as_files_can_be() -> None:
    """Benchmarks look for whole prompts: 200 bytes stay, more are cut and end in a hash."""
    prompt = "A boat sailing along the Seine with the Eiffel Tower in the background, in the style of " + "x" * 110
    assert stem_of_name(prompt) == prompt
    assert len(prompt.encode()) > 190
    long = stem_of_name("é" * 150)
    assert long.startswith("é" * 90)
    assert len(long.encode()) <= 200
    assert stem_of_name("é" * 151) != long
    assert stem_of_name(long) == long
    assert [stem_of_name(name) for name in ("con", "...", "a\x1b\u202eb", "x.")] == ["_con", "_", "a__b", "x_"]


def test_names_are_claimed_for_one_key_each() -> None:
    """Two jobs that want one name get two, whatever the case; further videos are numbered."""
    names = FileNames()
    first, second = names.claim("k1", name="Fox"), names.claim("k2", name="fox")
    assert first == "Fox.mp4"
    assert second.startswith("fox-")
    assert second.casefold() != first.casefold()
    assert names.claim("k1", 1, name="Fox") == "Fox-2.mp4"
    assert names.claim("k1", name="Fox") == first
    assert names.claim("Fox").startswith("Fox-")
