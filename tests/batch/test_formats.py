"""How each format is read, and how errors of the format, the encoding and the columns are reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from omni_async import batch
from tests.support.prompt_files import as_jsonl, problems, read

if TYPE_CHECKING:
    from pathlib import Path

LINK = "https://example.com/a.png"


def test_jsonl_has_every_field(tmp_path: Path) -> None:
    """A .jsonl line has the fields of a VideoRequest, an id, and the id of the line that it extends."""
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


def test_csv_has_every_field(tmp_path: Path) -> None:
    """A .csv cell may be quoted and may contain several URLs; an empty cell leaves the field out."""
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


def test_txt_has_one_prompt_per_line(tmp_path: Path) -> None:
    """Each .txt line is a prompt; blank lines are skipped but counted, as an editor counts them."""
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
def test_byte_order_marks_and_line_ends_do_not_matter(tmp_path: Path, name: str, text: str) -> None:
    """A byte order mark, CRLF line ends or a missing last line end change no request, key or number."""
    plain = read(tmp_path, name, text)
    assert read(tmp_path, name, b"\xef\xbb\xbf" + text.encode()) == plain
    assert read(tmp_path, name, text.replace("\n", "\r\n")) == plain
    assert read(tmp_path, name, text.rstrip("\n")) == plain


def test_null_counts_as_left_out(tmp_path: Path) -> None:
    """A field that is null, as programs that write tables produce it, is left out of the request."""
    (line,) = read(tmp_path, "a.jsonl", '{"prompt": "a", "id": null, "image_urls": null, "resolution": null}')
    assert line.request.to_payload().keys() == {"model", "prompt"}


def test_empty_rows_and_missing_last_cells_are_accepted(tmp_path: Path) -> None:
    """Empty rows, as spreadsheets leave them, are skipped; missing cells at the end of a row are left out."""
    lines = read(tmp_path, "a.csv", "prompt,id,aspect_ratio\n,,\na\n\n,,\nb,2\n")
    assert [(line.number, line.request.prompt) for line in lines] == [(3, "a"), (6, "b")]


def test_csv_cells_are_converted_to_the_type_of_the_field(tmp_path: Path) -> None:
    """A duration in a cell becomes a number in the request."""
    (line,) = read(tmp_path, "a.csv", "prompt,model,duration,resolution\na,Omni-Flash-Ext,8,1080p\n")
    assert line.request.to_payload() == {"model": "Omni-Flash-Ext", "prompt": "a", "duration": 8, "resolution": "1080p"}


BAD_FILES: list[tuple[str, str | bytes, list[tuple[int, str]]]] = [
    ("a.txt", "", [(0, "the file contains no requests")]),
    ("a.jsonl", "\n \n", [(0, "the file contains no requests")]),
    ("a.csv", "prompt,id\n", [(0, "the file contains no requests")]),
    ("a.json", "{}", [(1, "give a prompt, images or a video")]),
    ("a", "{}", [(0, "the file name must end in .jsonl, .ndjson, .json, .csv, .tsv or .txt")]),
    (
        "a.txt",
        "ok\nein B\xe4r\n".encode("latin-1"),
        [(2, "byte 0xe4 at column 6 is not UTF-8; save the file as UTF-8")],
    ),
    (
        "a.jsonl",
        '{"prompt": "a"}'.encode("utf-32"),
        [(1, "the file is in UTF-32; save the file as UTF-8")],
    ),
    ("a.csv", b"prompt\nok\n\xff\n", [(3, "byte 0xff at column 1 is not UTF-8; save the file as UTF-8")]),
    ("a.csv", "promt;id\na;b\n", [(1, "the first line must name the columns: unknown column 'promt'; did you mean")]),
    (
        "a.csv",
        "\nprompt,prompt\na,b\n",
        [(2, "the first line must name the columns: column 'prompt' appears twice")],
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
            (4, "the row has 3 cells, but there are 2 columns; put text that contains a comma in quotes"),
            (5, "a quotation mark opens a cell here and is never closed"),
        ],
    ),
    ("a.csv", 'prompt\n"a"b\n', [(2, "the row is not valid CSV: ',' expected after '\"'")]),
    (
        "a.csv",
        "prompt,extra\na,{\n",
        [(2, "extra is not valid JSON: Expecting property name enclosed in double quotes")],
    ),
    ("a.csv", "prompt,extra\na,[1]\n", [(2, "extra must be a JSON object, not a list")]),
    ("a.csv", f"prompt\n{'x' * 140_000}\n", [(2, "a cell has more than 131,072 characters")]),
    ("a.csv", "prompt,aspect_ratio\na,4:3\n", [(2, "aspect_ratio must be '16:9' or '9:16', not '4:3'")]),
]


@pytest.mark.parametrize(("name", "content", "expected"), BAD_FILES)
def test_an_invalid_file_is_reported_with_line_and_reason(
    tmp_path: Path, name: str, content: str | bytes, expected: list[tuple[int, str]]
) -> None:
    """Errors of the file as a whole, its encoding or its columns have one problem each, with line and reason."""
    found = problems(tmp_path, name, content)
    assert [number for number, _ in found] == [number for number, _ in expected]
    for (_, text), (_, start) in zip(found, expected, strict=True):
        assert text.startswith(start)


def test_a_missing_file_and_a_folder_are_reported(tmp_path: Path) -> None:
    """A missing file and a folder have one problem each, and the error message names the path."""
    (tmp_path / "folder.txt").mkdir()
    for name, reason in {
        "folder.txt": "this is a folder; give a file",
        "none.txt": "the file cannot be read: No such file",
        f"{'x' * 5000}.txt": "the file cannot be read: File name too long",
    }.items():
        with pytest.raises(batch.InvalidBatchFile, match=reason) as caught:
            batch.read(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert len(caught.value.problems) == 1
