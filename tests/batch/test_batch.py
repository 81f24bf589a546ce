"""Files of requests: what is read, what is refused and why, which keys come out, and in which order lines are sent."""

from __future__ import annotations

import gc
import json
import pickle
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omni_async import batch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINK = "https://example.com/a.png"
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """Write a file of requests exactly as given."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(folder: Path, name: str, content: str | bytes) -> list[batch.Line]:
    """Read a file of this content."""
    return batch.read(write(folder, name, content))


def problems(folder: Path, name: str, content: str | bytes) -> list[tuple[int, str]]:
    """Give what is wrong with a file of this content."""
    with pytest.raises(batch.InvalidBatchFile) as caught:
        read(folder, name, content)
    assert all(isinstance(problem, batch.Problem) for problem in caught.value.problems)
    return [(problem.number, problem.reason) for problem in caught.value.problems]


def as_jsonl(*records: object) -> str:
    """Spell records as .jsonl."""
    return "".join(json.dumps(record) + "\n" for record in records)


# What is read


def test_jsonl_gives_every_field(tmp_path: Path) -> None:
    """A .jsonl line holds the fields of a VideoRequest, an id and a link to another line."""
    first, second = read(
        tmp_path,
        "a.jsonl",
        as_jsonl(
            {"id": "snow", "prompt": "now snow", "extend_from": "apple"},
            {"id": "apple", "prompt": "an apple", "image_urls": [LINK], "aspect_ratio": "9:16", "extra": {"seed": 4}},
        ),
    )
    assert (first.number, first.key, first.extend_from) == (1, "snow", "apple")
    assert second.request.to_payload() | {"model": "-"} == {
        "model": "-",
        "prompt": "an apple",
        "image_urls": [LINK],
        "aspect_ratio": "9:16",
        "seed": 4,
    }


def test_csv_gives_every_field(tmp_path: Path) -> None:
    """A .csv cell may be quoted, may hold several URLs, and may be empty, which leaves the field out."""
    text = (
        "id,prompt,image_urls,aspect_ratio,extra,extend_from\n"
        f'7,"an apple, red","{LINK} {LINK}2\n{LINK}3",9:16,"{{""seed"": 4}}",\n'
        ",a pear,,,,7\n"
    )
    apple, pear = read(tmp_path, "a.CSV", text)
    assert (apple.number, apple.key, apple.request.prompt) == (2, "7", "an apple, red")
    assert apple.request.image_urls == (LINK, f"{LINK}2", f"{LINK}3")
    assert apple.request.extra == {"seed": 4}
    assert (pear.number, pear.extend_from, pear.request.aspect_ratio) == (4, "7", None)


def test_txt_gives_a_prompt_a_line(tmp_path: Path) -> None:
    """A .txt line is a prompt, blank lines are skipped, and numbers are those of an editor."""
    lines = read(tmp_path, "a.txt", "an apple\n\n  \n  a pear  \nein Bär")
    assert [(line.number, line.request.prompt) for line in lines] == [(1, "an apple"), (4, "a pear"), (5, "ein Bär")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "an apple\nein Bär\n"),
        ("a.csv", 'prompt,aspect_ratio\n"an\napple",\nein Bär,9:16\n'),
        ("a.jsonl", as_jsonl({"prompt": "an apple"}, {"prompt": "ein Bär"})),
    ],
)
def test_marks_and_line_ends_do_not_matter(tmp_path: Path, name: str, text: str) -> None:
    """A byte order mark, CRLF line ends or a missing last one change neither requests nor keys nor numbers."""
    plain = read(tmp_path, name, text)
    assert read(tmp_path, name, b"\xef\xbb\xbf" + text.encode()) == plain
    assert read(tmp_path, name, text.replace("\n", "\r\n")) == plain
    assert read(tmp_path, name, text.rstrip("\n")) == plain


def test_null_is_left_out(tmp_path: Path) -> None:
    """What a table writer gives as null counts as left out."""
    (line,) = read(tmp_path, "a.jsonl", '{"prompt": "a", "id": null, "image_urls": null, "resolution": null}')
    assert line.request.to_payload().keys() == {"model", "prompt"}


def test_rows_of_empty_cells_are_skipped(tmp_path: Path) -> None:
    """Empty rows, as spreadsheets leave them, and missing cells at the end of a row are no faults."""
    lines = read(tmp_path, "a.csv", "prompt,id,aspect_ratio\n,,\na\n\n,,\nb,2\n")
    assert [(line.number, line.request.prompt) for line in lines] == [(3, "a"), (6, "b")]


# What is refused

BAD_LINES: list[tuple[str, str]] = [
    ('{"prompt": nope}', "the line is not JSON: Expecting value at column 12"),
    ('{"prompt": "a"', "the line is not JSON: Expecting ',' delimiter at column 15"),
    ('["a"]', "the line is a list, not an object"),
    ("null", "the line is null, not an object"),
    ("17", "the line is the number 17, not an object"),
    ('{"promt": "a"}', "unknown field 'promt'; did you mean 'prompt'?"),
    ('{"prompt": "a", "aspect ratio": "9:16"}', "unknown field 'aspect ratio'; did you mean 'aspect_ratio'?"),
    ('{"prompt": "a", "prompt": "b"}', "'prompt' stands there twice"),
    ('{"prompt": "a", "extra": {"x": 1, "x": 2}}', "'x' stands there twice"),
    ('{"prompt": "a", "extra": {"x": NaN}}', "NaN is not a JSON value; leave the field out"),
    ('{"prompt": "a", "extra": {"x": 1e999}}', "extra must be plain JSON values: Out of range float"),
    ('{"prompt": "a", "extra": {"x": null}}', "extra: x is null; leave out what is not to be sent"),
    ('{"prompt": "a", "extra": [1]}', "extra must be an object, not a list"),
    ('{"prompt": "\\ud83d"}', "the line holds half a character"),
    ('{"prompt": "a", "id": "\\udc00"}', "the line holds half a character"),
    ('{"prompt": ' + "[" * 100_000, "the line is nested too deeply"),
    ('{"prompt": "a", "extra": {"x": ' + "[" * 400 + "]" * 400 + "}}", "it cannot be written as JSON"),
    ('{"prompt": 5}', "prompt must be a text, not the number 5"),
    ('{"prompt": true}', "prompt must be a text, not true"),
    ('{"prompt": "  "}', "give a prompt, images or a video"),
    ("{}", "give a prompt, images or a video"),
    ('{"prompt": "a", "model": ""}', "model must not be empty"),
    ('{"prompt": "a", "aspect_ratio": "4:3"}', "aspect_ratio must be '16:9' or '9:16', not '4:3'"),
    ('{"prompt": "a", "resolution": 720}', "resolution must be a text, not the number 720"),
    ('{"prompt": "a", "image_urls": 5}', "image_urls must be a list of texts, not the number 5"),
    ('{"prompt": "a", "image_urls": [5]}', "image_urls must hold texts, not the number 5"),
    ('{"prompt": "a", "image_urls": ["a.png"]}', "image_urls: 'a.png' is not an http(s) URL"),
    (json.dumps({"prompt": "a", "image_urls": [LINK] * 17}), "image_urls takes at most 16, not 17"),
    (json.dumps({"prompt": "a", "video_urls": [LINK] * 2}), "video_urls takes at most 1, not 2"),
    ('{"prompt": "a", "id": true}', "id must be a text or a whole number, not true"),
    ('{"prompt": "a", "id": 1.5}', "id must be a text or a whole number, not the number 1.5"),
    ('{"prompt": "a", "id": ""}', "id must have 1 to 200 characters, not 0"),
    (json.dumps({"prompt": "a", "id": "x" * 201}), "id must have 1 to 200 characters, not 201"),
    ('{"prompt": "a", "id": "x", "extend_from": "x"}', "extends itself"),
    ('{"prompt": "a", "extend_from": "nobody"}', "extend_from 'nobody' is the id of no line"),
    ('{"prompt": "a", "extend_from": ["x"]}', "extend_from must be a text or a whole number, not a list"),
    (
        '{"prompt": "a", "extend_from": "good", "extend_from_task_id": "task_1"}',
        "extend_from and extend_from_task_id exclude each other",
    ),
]


@pytest.mark.parametrize(("bad", "reason"), BAD_LINES, ids=[reason[:40] for _, reason in BAD_LINES])
def test_a_bad_line_is_named_with_its_reason(tmp_path: Path, bad: str, reason: str) -> None:
    """A bad .jsonl line gives exactly one problem: its number as an editor shows it, and plain words."""
    ((number, text),) = problems(tmp_path, "a.jsonl", '{"prompt": "a", "id": "good"}\n\n' + bad + "\n")
    assert number == 3
    assert text.startswith(reason)
    assert "pydantic" not in text


def test_all_bad_lines_are_told_together(tmp_path: Path) -> None:
    """Every bad line is reported, in order, and so is every fault of one line."""
    text = "".join(f"{bad}\n" for bad, _ in BAD_LINES)
    found = problems(tmp_path, "a.jsonl", text + '{"prompt": 1, "aspect_ratio": "1:1", "seed": 2}\n')
    assert [number for number, _ in found] == sorted(number for number, _ in found)
    assert {number for number, _ in found} == set(range(1, len(BAD_LINES) + 2))
    assert sum(number == len(BAD_LINES) + 1 for number, _ in found) == 3


def test_an_id_is_used_once(tmp_path: Path) -> None:
    """Two lines of one id are a problem that names both; a number and its text are one id."""
    text = as_jsonl({"id": 7, "prompt": "a"}, {"id": "8", "prompt": "b"}, {"id": "7", "prompt": "c"})
    assert problems(tmp_path, "a.jsonl", text) == [(3, "id '7' is taken by line 1")]


def test_a_circle_names_all_its_lines(tmp_path: Path) -> None:
    """Lines that extend each other in a circle are told once, also if one of them has other faults; others are not."""
    text = as_jsonl(
        {"id": "a", "prompt": "a", "extend_from": "b"},
        {"id": "x", "prompt": "hangs on the circle", "extend_from": "a"},
        {"id": "b", "prompt": 5, "extend_from": "c"},
        {"id": "c", "prompt": "c", "extend_from": "a"},
        {"id": "d", "prompt": "d", "extend_from": "e"},
        {"id": "e", "prompt": "e", "extend_from": "d"},
    )
    assert problems(tmp_path, "a.jsonl", text) == [
        (1, "lines 1, 3 and 4 extend each other in a circle"),
        (3, "prompt must be a text, not the number 5"),
        (5, "lines 5 and 6 extend each other in a circle"),
    ]


BAD_FILES: list[tuple[str, str | bytes, list[tuple[int, str]]]] = [
    ("a.txt", "", [(0, "holds no requests")]),
    ("a.jsonl", "\n \n", [(0, "holds no requests")]),
    ("a.csv", "prompt,id\n", [(0, "holds no requests")]),
    ("a.json", "{}", [(0, "the name must end in .jsonl, .csv or .txt (one JSON object a line is .jsonl)")]),
    ("a", "{}", [(0, "the name must end in .jsonl, .csv or .txt")]),
    (
        "a.txt",
        "ok\nein B\xe4r\n".encode("latin-1"),
        [(2, "byte 0xe4 at column 6 is not UTF-8; save the file as UTF-8")],
    ),
    (
        "a.jsonl",
        '{"prompt": "a"}'.encode("utf-16"),
        [(1, "byte 0xff at column 1 is not UTF-8; save the file as UTF-8")],
    ),
    ("a.csv", b"prompt\nok\n\xff\n", [(3, "byte 0xff at column 1 is not UTF-8; save the file as UTF-8")]),
    ("a.csv", "prompt;id\na;b\n", [(1, "columns must be separated by commas, not by ';'")]),
    (
        "a.csv",
        "\nprompt,prompt\na,b\n",
        [(2, "the first line must name the columns: column 'prompt' stands there twice")],
    ),
    (
        "a.csv",
        "promt\na\nb\n",
        [(1, "the first line must name the columns: unknown column 'promt'; did you mean 'prompt'?")],
    ),
    (
        "a.csv",
        'id,prompt\n1,"a\nb"\n2,c,d\n3,"e\nf,g\n',
        [
            (4, "3 cells under 2 columns; a text with a comma in it needs quotes"),
            (5, "a quote that opens here is never closed"),
        ],
    ),
    ("a.csv", 'prompt\n"a"b\n', [(2, "not CSV: ',' expected after '\"'")]),
    ("a.csv", "prompt,extra\na,{\n", [(2, "extra is not JSON: Expecting property name enclosed in double quotes")]),
    ("a.csv", "prompt,extra\na,[1]\n", [(2, "extra is a list, not an object")]),
    ("a.csv", f"prompt\n{'x' * 140_000}\n", [(2, "a cell has more than 131,072 characters")]),
    ("a.csv", "prompt,aspect_ratio\na,4:3\n", [(2, "aspect_ratio must be '16:9' or '9:16', not '4:3'")]),
]


@pytest.mark.parametrize(("name", "content", "expected"), BAD_FILES)
def test_a_bad_file_is_named_with_its_reason(
    tmp_path: Path, name: str, content: str | bytes, expected: list[tuple[int, str]]
) -> None:
    """What is wrong with a file as a whole, or with its encoding or columns, is told in one clear sentence each."""
    found = problems(tmp_path, name, content)
    assert [number for number, _ in found] == [number for number, _ in expected]
    for (_, text), (_, start) in zip(found, expected, strict=True):
        assert text.startswith(start)


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    """A missing file and a folder give one problem each, and the error's text names the path."""
    (tmp_path / "folder.txt").mkdir()
    for name, reason in {"folder.txt": "is a folder, not a file", "none.txt": "cannot be read: No such file"}.items():
        with pytest.raises(batch.InvalidBatchFile, match=reason) as caught:
            batch.read(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert len(caught.value.problems) == 1


def test_a_bad_file_survives_pickling(tmp_path: Path) -> None:
    """InvalidBatchFile keeps its problems on the way to another process."""
    with pytest.raises(batch.InvalidBatchFile) as caught:
        read(tmp_path, "a.jsonl", "[]\n")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.problems) == (str(caught.value), caught.value.problems)


# Models

NEW, EXT = "gemini-omni-1.1-flash", "Omni-Flash-Ext"


def test_csv_cells_become_what_the_field_is(tmp_path: Path) -> None:
    """A duration in a cell is a number in the request."""
    (line,) = read(tmp_path, "a.csv", f"prompt,model,duration,resolution\na,{EXT},8,1080p\n")
    assert line.request.to_payload() == {"model": EXT, "prompt": "a", "duration": 8, "resolution": "1080p"}


def test_a_line_is_checked_by_the_model_that_it_takes_over(tmp_path: Path) -> None:
    """A line that extends another is of its model unless it names one, however far up that is named, in any order."""
    lines = read(
        tmp_path,
        "a.jsonl",
        as_jsonl(
            {"id": "c", "prompt": "c", "extend_from": "b", "resolution": "4k"},
            {"id": "b", "prompt": "b", "extend_from": "a"},
            {"id": "a", "prompt": "a", "model": NEW, "resolution": "1080p"},
            {"id": "d", "prompt": "d", "extend_from": "c", "model": "gemini-omni-flash-preview"},
        ),
    )
    assert [(line.key, line.number) for line in lines] == [("c", 1), ("b", 2), ("a", 3), ("d", 4)]
    client = FakeClient()
    list(feed(client, lines))
    assert client.fields["b"] == {"model": NEW, "resolution": "1080p"}
    assert client.fields["c"] == {"model": NEW, "resolution": "4k"}
    assert client.fields["d"] == {"model": "gemini-omni-flash-preview"}


def test_what_a_models_rules_say_is_told_with_its_line(tmp_path: Path) -> None:
    """The rules of the model, its own or that of the line above it, are kept before anything is sent."""
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
        (3, "video_urls and extend_from_task_id exclude each other: a clip goes on from the one or from the other"),
        (4, "duration must be 4, 6, 8 or 10, not 5"),
        (5, "it cannot go on from another task; name a model that can"),
        (6, "it cannot go on from another task; name a model that can"),
        (7, "extend_from 'nobody' is the id of no line"),
        (8, "duration must be a whole number, not 'long'"),
        (9, "model must be a text, not the number 5"),
    ]


def test_long_chains_of_a_model_are_checked_quickly(tmp_path: Path) -> None:
    """Each line's model is looked up once: twenty thousand lines, last first, are no trouble."""
    count = 20_000
    records = [{"id": i, "prompt": "p", **({"extend_from": i - 1} if i else {"model": NEW})} for i in range(count)]
    lines = read(tmp_path, "a.jsonl", as_jsonl(*reversed(records)))
    assert {line.request.model for line in lines} == {NEW}


# Keys

PROMPTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), min_size=1)


@QUICK
@given(prompts=PROMPTS, data=st.data())
def test_keys_are_unique_and_stable(tmp_path: Path, prompts: list[str], data: st.DataObject) -> None:
    """Any list of prompts gives a key of its own to each, the same ones every time and in every order."""
    records = [{"prompt": prompt} for prompt in prompts]
    lines = read(tmp_path, "a.jsonl", as_jsonl(*records))
    assert len({line.key for line in lines}) == len(prompts)
    moved = read(tmp_path, "b.jsonl", as_jsonl(*data.draw(st.permutations(records))))
    assert {(line.key, line.request.prompt) for line in moved} == {(line.key, line.request.prompt) for line in lines}


def test_the_same_request_has_the_same_key_in_every_format(tmp_path: Path) -> None:
    """A key comes from what is asked for, not from how the file spells it."""
    first = read(tmp_path, "a.txt", "a pear\nan apple\n")[1]
    second = read(tmp_path, "a.csv", "aspect_ratio,prompt\n,an apple\n")[0]
    third = read(tmp_path, "a.jsonl", '{"image_urls": [], "prompt": "an apple"}')[0]
    assert first.key == second.key == third.key
    assert first.key.startswith("an-apple-")


def test_equal_lines_are_numbered(tmp_path: Path) -> None:
    """Equal lines get one key each; a line that extends another is not equal to one that does not."""
    same = {"prompt": "an apple"}
    lines = read(
        tmp_path, "a.jsonl", as_jsonl(same, {"prompt": "p", "id": "p"}, same, {**same, "extend_from": "p"}, same)
    )
    first, _, second, extending, third = (line.key for line in lines)
    assert (second, third) == (f"{first}~2", f"{first}~3")
    assert extending not in {first, second, third}
    assert "~" not in extending


def test_a_made_key_never_takes_an_id(tmp_path: Path) -> None:
    """Where an id looks just like a made key, the made key gives way, wherever the id stands."""
    made = read(tmp_path, "a.txt", "an apple\n")[0].key
    records = [{"prompt": "an apple"}, {"prompt": "other", "id": made}, {"prompt": "third", "id": f"{made}~2"}]
    for order in (records, records[::-1]):
        keys = {line.request.prompt: line.key for line in read(tmp_path, "a.jsonl", as_jsonl(*order))}
        assert keys == {"an apple": f"{made}~3", "other": made, "third": f"{made}~2"}


# Jobs


class FakeJob:
    """Stands for a job: remembers its key, and hands extensions to its client."""

    def __init__(self, client: FakeClient, key: str) -> None:
        self.client = client
        self.key = key

    def extend(self, prompt: str, *, key: str, **fields: Any) -> FakeJob:
        """Submit what goes on from this job."""
        return self.client.take(key, f"{self.key}>{prompt}", fields)


class FakeClient:
    """Takes what is submitted, in order, and keeps no job alive."""

    def __init__(self) -> None:
        self.stopped: Exception | None = None
        self.sent: list[tuple[str, str]] = []
        self.fields: dict[str, dict[str, Any]] = {}
        self.alive: weakref.WeakSet[FakeJob] = weakref.WeakSet()

    def submit(self, request: Any, *, key: str) -> FakeJob:
        """Submit a request."""
        return self.take(key, request.prompt, {})

    def take(self, key: str, text: str, fields: dict[str, Any]) -> FakeJob:
        """Note what was submitted."""
        self.sent.append((key, text))
        self.fields[key] = fields
        job = FakeJob(self, key)
        self.alive.add(job)
        return job


def feed(client: FakeClient, lines: list[batch.Line]) -> Iterator[FakeJob]:
    """Feed lines to the fake client."""
    return batch.submit_lines(client, lines)  # type: ignore[arg-type, return-value]


FAMILY = [
    {"id": "c", "prompt": "3", "extend_from": "b", "aspect_ratio": "9:16"},
    {"id": "x", "prompt": "alone"},
    {"id": "b", "prompt": "2", "extend_from": "a"},
    {"id": "a", "prompt": "1"},
    {"id": "d", "prompt": "4", "extend_from": "b"},
]


def test_parents_come_before_children(tmp_path: Path) -> None:
    """A line is sent through the job of the line that it extends, which is sent first; every line is sent once."""
    client = FakeClient()
    keys = [job.key for job in feed(client, read(tmp_path, "a.jsonl", as_jsonl(*FAMILY)))]
    assert client.sent == [("a", "1"), ("b", "a>2"), ("c", "b>3"), ("x", "alone"), ("d", "b>4")]
    assert keys == ["a", "b", "c", "x", "d"]
    assert client.fields["c"] == {"aspect_ratio": "9:16"}
    assert client.fields["b"] == {}


def test_jobs_are_submitted_as_they_are_asked_for(tmp_path: Path) -> None:
    """Nothing is submitted before it is asked for, and nothing once the client has stopped."""
    client = FakeClient()
    jobs = feed(client, read(tmp_path, "a.txt", "a\nb\nc\n"))
    assert client.sent == []
    next(jobs)
    assert len(client.sent) == 1
    client.stopped = RuntimeError("no credit")
    assert list(jobs) == []
    assert len(client.sent) == 1


def test_only_parents_are_kept(tmp_path: Path) -> None:
    """Jobs handed out are let go, but for those that a later line extends."""
    client = FakeClient()
    kept = []
    for job in feed(client, read(tmp_path, "a.jsonl", as_jsonl(*FAMILY))):
        latest = job.key
        del job
        gc.collect()
        kept.append({job.key for job in client.alive} - {latest})
    assert kept == [set(), set(), {"b"}, {"b"}, set()]


def test_a_line_without_its_parent_is_refused(tmp_path: Path) -> None:
    """Lines picked out of a file without the one that they extend are refused by number."""
    lines = read(tmp_path, "a.jsonl", as_jsonl(*FAMILY))
    with pytest.raises(ValueError, match="line 1 extends 'b'"):
        list(feed(FakeClient(), lines[:1]))


def test_a_long_chain_is_no_trouble(tmp_path: Path) -> None:
    """A chain of thousands of lines, written last first, is checked and sent in order."""
    records = [{"id": i, "prompt": "p", **({"extend_from": i - 1} if i else {})} for i in reversed(range(5000))]
    client = FakeClient()
    assert [job.key for job in feed(client, read(tmp_path, "a.jsonl", as_jsonl(*records)))] == [
        str(i) for i in range(5000)
    ]
