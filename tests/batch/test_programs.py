"""Prompt files as programs write them, byte by byte: each is bought as it is meant, or refused with line and remedy."""

# ruff: noqa: E501 - the tables have a case on each line

from __future__ import annotations

import gzip
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import batch
from tests.support.prompt_files import problems, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BOM = b"\xef\xbb\xbf"


def utf_16(text: str, *, big: bool = False) -> bytes:
    """Return a text in UTF-16 with a byte order mark."""
    return b"\xfe\xff" + text.encode("utf-16-be") if big else b"\xff\xfe" + text.encode("utf-16-le")


@dataclass(frozen=True)
class Bought:
    """A file that is understood: its name and content, the requests that are meant, and what is said of it.

    A request is a prompt, or the fields of a line: those of `VideoRequest`, and its key as "id".
    """

    program: str
    name: str
    content: bytes
    requests: list[Any]
    said: str = ""


APPLE, BEAR = "a red apple, on a table", "ein Bär; im Schnee"
TWO = [{"id": "1", "prompt": APPLE}, {"id": "2", "prompt": BEAR}]

BOUGHT = [
    # Excel
    Bought(
        "Excel, Germany: CSV (UTF-8)",
        "p.csv",
        BOM + 'id;prompt\r\n1;a red apple, on a table\r\n2;"ein Bär; im Schnee"\r\n'.encode(),
        TWO,
        "semicolon-separated, UTF-8, 2 requests, columns id, prompt",
    ),
    Bought("Excel, USA: CSV (UTF-8)", "p.csv", BOM + f'id,prompt\r\n1,"{APPLE}"\r\n2,{BEAR}\r\n'.encode(), TWO),
    Bought(
        "Excel: Unicode text",
        "p.txt",
        utf_16(f'id\tprompt\r\n1\t"{APPLE}"\r\n2\t{BEAR}\r\n'),
        TWO,
        "tab-separated, UTF-16, 2 requests, columns id, prompt",
    ),
    Bought(
        "Excel: Unicode text, renamed to .csv",
        "p.csv",
        utf_16(f"Id\tPrompt\r\n1\t{APPLE}\r\n2\t{BEAR}\r\n"),
        TWO,
        "tab-separated, UTF-16, 2 requests, columns id, prompt, 'Id' read as id, 'Prompt' read as prompt",
    ),
    Bought(
        "Excel: semicolons and UTF-16",
        "p.csv",
        utf_16(f'prompt;id\r\n{APPLE};1\r\n"{BEAR}";2\r\n'),
        TWO,
        "semicolon-separated, UTF-16, 2 requests, columns prompt, id",
    ),
    Bought("Excel: text (tab)", "p.tsv", f'id\tprompt\r\n1\t"{APPLE}"\r\n2\t{BEAR}\r\n'.encode(), TWO, "tab-separated"),
    Bought(
        "Excel: a sep= line",
        "p.csv",
        b"sep=;\r\nid;prompt\r\n1;a red apple, on a table\r\n",
        TWO[:1],
        "semicolon-separated, UTF-8, 1 request, columns id, prompt, sep= line",
    ),
    Bought("Excel: sep= and a tab", "p.csv", f"SEP=\t\r\nid\tprompt\r\n1\t{APPLE}\r\n".encode(), TWO[:1], "sep= line"),
    Bought("Excel: a sep= line that was saved", "p.csv", f'"sep=;";\nid;prompt\n1;{APPLE}\n'.encode(), TWO[:1], "sep="),
    Bought("Excel: sep= for one column", "p.csv", f"sep=;\nprompt\n{APPLE}\n".encode(), [APPLE], "semicolon"),
    Bought(
        "Excel: empty rows and columns at the end",
        "p.csv",
        b"id,prompt,,\r\n1,an apple,,\r\n,,,\r\n,,,\r\n",
        [{"id": "1", "prompt": "an apple"}],
    ),
    Bought("Excel: a comma at the end of rows only", "p.csv", b"id,prompt\r\n1,an apple,\r\n", [{"id": "1"}]),
    Bought(
        "Excel: a title with spaces",
        "p.csv",
        b"Prompt;Aspect Ratio;Image URLs;Duration\r\nan apple;9:16;https://h/a.png https://h/b.png;\r\n",
        [{"prompt": "an apple", "aspect_ratio": "9:16", "image_urls": ("https://h/a.png", "https://h/b.png")}],
        "'Aspect Ratio' read as aspect_ratio",
    ),
    Bought(
        "Excel: ratios that became times",
        "p.csv",
        b"prompt,aspect_ratio\r\na,16:09\r\nb,09:16:00\r\nc,16:9\r\n",
        [{"aspect_ratio": "16:9"}, {"aspect_ratio": "9:16"}, {"aspect_ratio": "16:9"}],
        "'16:09' read as 16:9, '09:16:00' read as 9:16",
    ),
    Bought("Excel: a cell of two lines", "p.csv", b'prompt,id\r\n"an apple\nin snow",1\r\n', [{"prompt": "an apple\nin snow"}]),
    Bought("Excel for Mac, old: CR line ends", "p.csv", b"id,prompt\r1,an apple\r2,a pear\r", [{"id": "1"}, {"id": "2"}]),
    Bought("Excel: vertical bars", "p.csv", f"id|prompt\r\n1|{APPLE}\r\n".encode(), TWO[:1], "pipe-separated"),
    Bought("Excel: a sep= line in a text", "p.txt", b"sep=;\r\nprompt\r\nan apple, red\r\n", ["an apple, red"], "semicolon"),
    Bought("Two byte order marks", "p.csv", BOM + BOM + b"prompt,id\r\nan apple,1\r\n", [{"id": "1"}], "read as prompt"),
    Bought("cat: two files with marks", "p.txt", BOM + b"an apple\r\n" + BOM + b"a pear\r\n" + BOM, ["an apple", "a pear"], "1 blank line"),
    Bought("cat: two files of JSON lines", "p.jsonl", BOM + b'"an apple"\n' + BOM + b'"a pear"\n', ["an apple", "a pear"]),
    Bought("A column that some cells name", "p.csv", b"prompt,id\nprompt,1\nvideo,\n", ["prompt", "video"]),
    # LibreOffice, Google Sheets, Numbers
    Bought("LibreOffice: every cell quoted", "p.csv", b'"id";"prompt"\n"1";"an apple"\n', [{"id": "1"}], "semicolon"),
    Bought("LibreOffice: UTF-16", "p.csv", utf_16('"id","prompt"\n1,"käse"\n'), [{"prompt": "käse"}], "UTF-16"),
    Bought("Google Sheets: CSV", "p.csv", f'id,prompt\r\n1,"{APPLE}"'.encode(), TWO[:1]),
    Bought(
        "Google Sheets: TSV does not quote",
        "p.tsv",
        b'id\tprompt\r\n1\tthe 12" record, "spinning"',
        [{"id": "1", "prompt": 'the 12" record, "spinning"'}],
        "tab-separated",
    ),
    Bought("Numbers: empty columns", "p.csv", b"prompt,id,\r\nan apple,1,\r\n", [{"id": "1", "prompt": "an apple"}]),
    # pandas and R
    Bought(
        "pandas: to_csv with its index",
        "p.csv",
        f',prompt,resolution\n0,"{APPLE}",\n1,{BEAR},720p\n'.encode(),
        [{"prompt": APPLE, "resolution": None}, {"prompt": BEAR, "resolution": "720p"}],
        "the first column has no name and is ignored",
    ),
    Bought("pandas: an index written twice", "p.csv", b"Unnamed: 0,prompt\n0,an apple\n7,a pear\n", ["an apple", "a pear"], "ignored"),
    Bought(
        "pandas: numbers beside empty cells, and truth values",
        "p.csv",
        b"prompt,model,duration,nsfw_check\na,Omni-Flash-Ext,8.0,True\nb,,,False\n",
        [{"duration": 8, "nsfw_check": True}, {"duration": None, "nsfw_check": False}],
    ),
    Bought("pandas: to_csv(sep=tab), gzip", "p.tsv.gz", gzip.compress(b"prompt\tid\nan apple\t1\n"), [{"id": "1"}], "gzip, tab"),
    Bought("pandas: to_csv, gzip", "P.CSV.GZ", gzip.compress(b"prompt,id\nan apple,1\n"), [{"id": "1"}], "gzip, comma"),
    Bought(
        "pandas: to_json(orient='records')",
        "p.json",
        rb'[{"id":1,"prompt":"k\u00e4se","image_urls":["https:\/\/h\/a.png"]},{"id":2,"prompt":"b","image_urls":null}]',
        [{"id": "1", "prompt": "käse", "image_urls": ("https://h/a.png",)}, {"id": "2", "image_urls": ()}],
        "JSON array, UTF-8, 2 requests",
    ),
    Bought("pandas: to_json(lines=True)", "p.jsonl", b'{"prompt":"a"}\n{"prompt":"b"}\n', ["a", "b"]),
    Bought("pandas: to_json(lines=True), gzip", "p.ndjson.gz", gzip.compress(b'{"prompt":"a"}\n'), ["a"], "gzip, JSON lines"),
    Bought("R: write.csv", "p.csv", b'"","prompt"\n"1","an apple"\n"2","a pear"\n', ["an apple", "a pear"], "ignored"),
    Bought("pandas: two indices", "p.csv", b",Unnamed: 0,prompt\n0,0,an apple\n", ["an apple"], "the first 2 columns have no name and are ignored"),
    Bought("A table named .txt", "p.txt", b"id,prompt\n1,an apple\n", [{"id": "1"}], "comma-separated, UTF-8, 1 request, columns id, prompt"),
    Bought("Commas in a .tsv", "p.tsv", b"id,prompt\n1,an apple\n", [{"id": "1"}], "comma-separated"),
    # JSON
    Bought("jq: objects of several lines", "p.json", b'{\n  "id": 1,\n  "prompt": "a"\n}\n{\n  "prompt": "b"\n}\n', [{"id": "1"}, "b"], "JSON objects"),
    Bought("jq: the same, named .jsonl", "p.jsonl", b'# from jq\n{\n  "prompt": "a"\n}\n# more\n{\n  "prompt": "b"\n}', ["a", "b"], "2 comment lines"),
    Bought("jq -s: an array of several lines", "p.json", b'[\n  {\n    "prompt": "a"\n  },\n  {\n    "prompt": "b"\n  }\n]\n', ["a", "b"], "JSON array"),
    Bought("jq -c .prompt: strings", "p.jsonl", b'"a \\"b\\""\n"c"\n', ['a "b"', "c"]),
    Bought("json.dump: a list of strings", "p.json", json.dumps(["a", "käse"]).encode(), ["a", "käse"], "JSON array"),
    Bought("An array named .jsonl", "p.jsonl", b'[{"prompt": "a"},\n{"prompt": "b"}]\n', ["a", "b"], "JSON array"),
    Bought("One line per object, named .json", "p.json", b'{"prompt": "a"}\n{"prompt": "b"}\n', ["a", "b"]),
    Bought("One line per object, named .ndjson", "p.ndjson", b'{"prompt": "a"}\r\n{"prompt": "b"}\r\n', ["a", "b"]),
    Bought("PowerShell 5: ConvertTo-Json >", "p.json", utf_16('[\r\n    {\r\n        "prompt":  "käse"\r\n    }\r\n]\r\n'), ["käse"], "JSON array, UTF-16"),
    # PowerShell, Notepad, editors
    Bought("PowerShell 5: Export-Csv", "p.csv", b'#TYPE System.Object\r\n"id","prompt"\r\n"1","an apple"\r\n', [{"id": "1"}], ""),
    Bought("PowerShell 5: text >", "p.txt", utf_16("an apple\r\nein Bär\r\n"), ["an apple", "ein Bär"], "one prompt per line, UTF-16"),
    Bought("PowerShell 5: JSON lines >", "p.jsonl", utf_16('{"prompt": "käse"}\r\n'), ["käse"], "JSON lines, UTF-16"),
    Bought("Notepad: Unicode", "p.txt", utf_16("ein Bär\r\n一只熊"), ["ein Bär", "一只熊"], "UTF-16"),
    Bought("Notepad: Unicode big endian", "p.txt", utf_16("ein Bär\r\n", big=True), ["ein Bär"], "UTF-16"),
    Bought("Notepad: UTF-8", "p.txt", BOM + "ein Bär\r\n".encode(), ["ein Bär"]),
    Bought("vim: text, gzip", "p.txt.gz", gzip.compress(b"# mine\nan apple\n"), ["an apple"], "gzip, one prompt per line"),
    Bought("gzip in two parts", "p.txt.gz", gzip.compress(b"a\n") + gzip.compress(b"b\n"), ["a", "b"], "gzip"),
    Bought("A browser that unpacked the file", "p.csv.gz", b"prompt,id\nan apple,1\n", [{"id": "1"}]),
]  # fmt: skip


@pytest.mark.parametrize("file", BOUGHT, ids=[f"{file.program}: {file.name}" for file in BOUGHT])
def test_a_file_is_bought_as_meant(tmp_path: Path, file: Bought) -> None:
    """Each request has the fields that the program's user sees, and what may be misread is said."""
    said: list[batch.Reading] = []
    lines = batch.read(write(tmp_path, file.name, file.content), on_read=said.append)
    assert len(lines) == len(file.requests)
    for line, meant in zip(lines, file.requests, strict=True):
        fields = {"prompt": meant} if isinstance(meant, str) else meant
        got = {name: line.key if name == "id" else getattr(line.request, name) for name in fields}
        assert got == fields
    (reading,) = said
    assert reading.note.startswith(f"{tmp_path / file.name}: ") if file.said else ", " not in reading.note
    assert file.said in reading.note


REFUSED: list[tuple[str, str, bytes, int, str]] = [
    ("Excel: no delimiter is right", "p.csv", b"prompt:id\r\na:1\r\n", 1, "unknown column 'prompt:id'"),
    ("Excel: old CSV (Windows-1252)", "p.csv", "prompt\r\nein Bär\r\n".encode("cp1252"), 2, "save the file as UTF-8"),
    ("Excel, Japan: CSV (Shift-JIS)", "p.csv", "prompt\r\n林檎\r\n".encode("cp932"), 2, "save the file as UTF-8"),
    ("Excel: a workbook named .csv", "p.csv", b"PK\x03\x04\x14\0\x06\0", 1, "export it as CSV (UTF-8)"),
    ("Excel: a workbook", "p.xlsx", b"PK\x03\x04", 0, "export it as CSV (UTF-8)"),
    ("Excel: an old workbook named .csv", "p.csv", b"\xd0\xcf\x11\xe0\xa1\xb1", 1, "export it as CSV (UTF-8)"),
    ("Excel: a prompt that became a formula", "p.csv", b"prompt\r\na\r\n#NAME?\r\n", 3, "the error of a spreadsheet cell"),
    ("Excel, Germany: the same", "p.csv", b"prompt;id\r\n#BEZUG!;1\r\n", 2, "the error of a spreadsheet cell"),
    ("Excel: a comma in one column", "p.csv", b"prompt\r\na, b\r\n", 2, "put text that contains a comma in quotes"),
    ("Excel: a column without a name", "p.csv", b"prompt,,id\r\na,note,1\r\n", 2, "name it in the first line, or remove it"),
    ("Excel: prompts in the column without a name", "p.csv", b",aspect_ratio\r\nan apple,16:9\r\n", 2, "column 1 has no name"),
    ("Excel: sep= with a word", "p.csv", b"sep=tab\r\nprompt\r\n", 1, "does not name one character"),
    ("Excel: sep= that is wrong", "p.csv", b"sep=,\r\nprompt;id\r\na;1\r\n", 2, "unknown column 'prompt;id'"),
    ("Excel: a column twice", "p.csv", b"Prompt;prompt\r\na;b\r\n", 1, "column 'prompt' appears twice"),
    ("cat: two tables", "p.csv", b"prompt,id\r\na,1\r\nprompt,id\r\nb,2\r\n", 3, "names the columns again"),
    ("cat: two tables of one column", "p.csv", b"prompt\na\nPrompt\nb\n", 3, "names the columns again"),
    ("cat: two tables with marks", "p.csv", BOM + b'"prompt"\na\n' + BOM + b'"prompt"\nb\n', 3, "names the columns again"),
    ("cat: two tables with other columns", "p.csv", b"prompt,id\na,1\nID,Prompt\n2,b\n", 3, "names the columns again"),
    ("cat: the last line without an end", "p.txt", BOM + b"a fox" + BOM + b"a cat\n", 1, "another file was joined here"),
    ("Numbers: the name of the table", "p.csv", b"Table 1\r\nprompt,id\r\na,1\r\n", 1, "unknown column 'Table 1'"),
    ("Numbers: a document", "p.numbers", b"PK\x03\x04", 0, "export it as CSV"),
    ("pandas: an index of words", "p.csv", b",prompt\napple,an apple\n", 2, "column 1 has no name, but holds 'apple'"),
    ("pandas: to_json()", "p.json", b'{"prompt":{"0":"a"}}', 1, "prompt must be a string, not an object"),
    ("pandas: no header", "p.csv", b"0,a red apple\n1,a pear\n", 1, "the first line must name the columns"),
    ("jq: an object that is cut off", "p.json", b'{\n "prompt": "a"\n}\n{\n "prompt": "b"\n', 6, "is not valid JSON"),
    ("jq: an array that is cut off", "p.json", b'[\n{"prompt": "a"},\n{"prompt": "b"', 3, "is not valid JSON"),
    ("jq --seq", "p.json", b'\x1e{"prompt": "a"}\n', 1, "control character U+001E"),
    ("Two arrays", "p.json", b'[{"prompt": "a"}]\n[{"prompt": "b"}]\n', 2, "there is text after the array"),
    ("An array with a number", "p.json", b'["a",\n 5]', 2, "the item must be a JSON object, not the number 5"),
    ("An array with a comma too many", "p.json", b'["a",\n"b",\n]', 3, "is not valid JSON"),
    ("An array without a comma", "p.json", b'[{"prompt": "a"}\n{"prompt": "b"}]', 2, "',' or ']' expected"),
    ("An array with a name twice", "p.json", b'["ok",\n{"prompt": "a", "prompt": "b"}]', 2, "appears twice"),
    ("A list in an object", "p.json", b'{"prompts": ["a", "b"]}', 1, "did you mean 'prompt'?"),
    ("PowerShell: appended with another encoding", "p.txt", utf_16("an apple\r\n") + b"a pear on a table\r\n", 2, "text in another encoding"),
    ("cmd: appended UTF-16", "p.txt", b"an apple\r\n" + "a pear\r\n".encode("utf-16-le"), 2, "seems to be in UTF-16"),
    ("UTF-16 without a mark", "p.csv", "prompt\r\na\r\n".encode("utf-16-le"), 1, "seems to be in UTF-16"),
    ("UTF-16 with a NUL", "p.txt", utf_16("a\nb\0c\n"), 2, "the character NUL at column 2: remove it"),
    ("UTF-16 with a control character", "p.jsonl", utf_16('{"prompt": "a"}\n{"prompt": "\x1b"}\n'), 2, "U+001B"),
    ("UTF-16 with an escaped control character", "p.csv", utf_16("prompt;id\na;\x9b\n"), 2, "U+009B"),
    ("UTF-16 that is cut off", "p.txt", utf_16("an apple\nein Bär")[:-1], 2, "not valid UTF-16 here"),
    ("UTF-16 with half a character", "p.txt", utf_16("a\n") + b"\x00\xd8a\x00\n\x00", 2, "not valid UTF-16 here"),
    ("UTF-32", "p.txt", "a\n".encode("utf-32"), 1, "in UTF-32; save the file as UTF-8"),
    ("TextEdit: formatted text", "p.txt", b"{\\rtf1\\ansi an apple}", 1, "save it as plain text"),
    ("Word", "p.docx", b"PK\x03\x04", 0, "save it as plain text, one prompt per line"),
    ("A web page", "p.txt", b"<!DOCTYPE html>\n<html>", 1, "a web page"),
    ("JSON lines with an id first", "p.txt", b'{"id": "a", "prompt": "x"}\n', 1, "hold JSON"),
    ("JSON named .txt", "p.txt", b'{"prompt": "an apple"}\n', 1, "name it .json, or add --format txt"),
    ("JSON of several lines named .txt", "p.txt", b'{\n  "prompt": "an apple"\n}\n', 1, "name it .json, or add --format txt"),
    ("An array named .txt", "p.txt", b'["an apple",\n"a pear"]', 1, "name it .json, or add --format txt"),
    ("A column named .txt", "p.txt", b"Prompt\r\nan apple\r\n", 1, "name the file .csv, or add --format txt"),
    ("gzip that is cut off", "p.txt.gz", gzip.compress(b"an apple\n" * 99)[:-9], 0, "gzip data is damaged or incomplete"),
    ("gzip with a wrong sum", "p.txt.gz", gzip.compress(b"a\n")[:-8] + b"\0" * 8, 0, "gzip data is damaged or incomplete"),
    ("gzip with a control character", "p.csv.gz", gzip.compress(b"prompt\na\nb\x07\n"), 3, "U+0007"),
    ("zstd", "p.jsonl", b"\x28\xb5\x2f\xfd\x00", 1, "decompress it, or use gzip"),
    ("An unknown ending", "p.yaml", b"- prompt: a\n", 0, "the file name must end in .jsonl"),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=[each[0] for each in REFUSED])
def test_what_cannot_be_meant_is_refused(tmp_path: Path, case: tuple[str, str, bytes, int, str]) -> None:
    """There is one problem, with the line and the remedy; nothing of the file is bought."""
    _, name, content, number, reason = case
    found = problems(tmp_path, name, content)
    assert [each[0] for each in found] == [number]
    assert reason in found[0][1]


def test_an_archive_that_fills_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading ends at the ceiling, whether the text is one line or many, and whatever the encoding."""
    monkeypatch.setattr("omni_async.batch.sources._MAX_SIZE", 1 << 20)
    for text in (b"a" * (2 << 20), (b"a" * 999 + b"\n") * 2000, utf_16("a" * (1 << 20))):
        ((_, reason),) = problems(tmp_path, "p.txt.gz", gzip.compress(text))
        assert reason == "the file has more than 1 MiB; split it"


# Keys

PLAIN = {
    "a.txt": "a red apple\n# note\n\n  ein Bär im Schnee  \na red apple\n",
    "a.jsonl": (
        '{"id": "apple", "prompt": "a red apple", "aspect_ratio": "9:16"}\n'
        '{"prompt": "now snow", "extend_from": "apple"}\n'
        '{"prompt": "x", "image_urls": ["https://example.com/a.png"], "extra": {"nsfw_check": true}}\n'
        '{"prompt": "y", "model": "Omni-Flash-Ext", "duration": 8, "resolution": "1080p"}\n'
        '{"prompt": "z", "model": "gemini-omni-flash-preview"}\n'
    ),
    "a.csv": (
        'id,prompt,aspect_ratio,duration,model\n7,"an apple, red",9:16,,\n,a pear,,8,Omni-Flash-Ext\n,"two\nlines",,,\n'
    ),
}
# As computed before other formats and encodings were read: folders that exist have jobs under these keys.
KEYS = {
    "a.txt": ["a-red-apple-0c9f35beef", "ein-bär-im-schnee-b3427f3fda", "a-red-apple-0c9f35beef~2"],
    "a.jsonl": ["apple", "now-snow-d1d4fc2b3f", "x-1117a5682e", "y-b9ff0218f0", "z-7c1a575617"],
    "a.csv": ["7", "a-pear-76c79ec701", "two-lines-90bcfa0394"],
}
FORMS: dict[str, Callable[[str], bytes]] = {
    "as it was": lambda text: text.encode(),
    "gzip": lambda text: gzip.compress(text.encode()),
    "UTF-16": utf_16,
    "UTF-16 BE": lambda text: utf_16(text, big=True),
    "UTF-16, CRLF, gzip": lambda text: gzip.compress(utf_16(text.replace("\n", "\r\n"))),
    "mark, CR": lambda text: BOM + text.replace("\n", "\r").encode(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", PLAIN)
def test_keys_stay_what_they_were(tmp_path: Path, name: str, form: str) -> None:
    """The same content has the same keys in every encoding, and they are those of earlier versions."""
    path = write(tmp_path, name, FORMS[form](PLAIN[name]))
    assert [line.key for line in batch.read(path)] == KEYS[name]


def test_a_table_has_the_keys_of_the_same_requests_elsewhere(tmp_path: Path) -> None:
    """It does not matter which program wrote a request."""
    expected = KEYS["a.csv"]
    rows = [
        ["7", "an apple, red", "9:16", "", ""],
        ["", "a pear", "", "8", "Omni-Flash-Ext"],
        ["", "two\nlines", *[""] * 3],
    ]
    header = ["Id", "PROMPT", "Aspect Ratio", "duration", "model"]
    for delimiter, suffix in ((";", "csv"), ("\t", "tsv"), ("|", "csv")):
        text = "\r\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in [header, *rows])
        assert [line.key for line in batch.read(write(tmp_path, f"b.{suffix}", utf_16(text)))] == expected
    records = [
        {name: cell for name, cell in zip(PLAIN["a.csv"].split("\n")[0].split(","), row, strict=True) if cell}
        for row in rows
    ]
    records[1]["duration"] = 8  # type: ignore[assignment]
    for text in (
        json.dumps(records),
        json.dumps(records, indent=2),
        "\n".join(json.dumps(each, indent=1) for each in records),
    ):
        assert [line.key for line in batch.read(write(tmp_path, "c.json", text))] == expected


# Streams, and formats that are named


@pytest.mark.parametrize(("file_format", "text"), [("csv", "prompt;id\na;1\n"), ("json", '[{"prompt": "a", "id": 1}]')])
def test_standard_input_is_read_in_the_format_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str, text: str
) -> None:
    """It may be compressed as well, and paths in it begin in the working directory."""
    monkeypatch.chdir(tmp_path)
    for content in (text.encode(), gzip.compress(text.encode()), utf_16(text)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        (line,) = batch.read("-", format=file_format)
        assert (line.key, line.request.prompt) == ("1", "a")


def test_standard_input_needs_a_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is guessed from its content, and nothing of it is read."""
    stdin = io.TextIOWrapper(io.BytesIO(b"a\n"))
    monkeypatch.setattr("sys.stdin", stdin)
    for name in ("-", "/dev/stdin", "/dev/fd/0"):
        with pytest.raises(batch.InvalidBatchFile, match="add --format jsonl or ndjson or json or csv or tsv or txt"):
            batch.read(name)
    assert stdin.read() == "a\n"


def test_a_named_pipe_is_read_once(tmp_path: Path) -> None:
    """Its name may say the format."""
    pipe = tmp_path / "p.csv"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(pipe.write_bytes, utf_16("prompt;id\na;1\n"))
        (line,) = batch.read(pipe)
    assert (line.key, line.request.prompt) == ("1", "a")


def test_a_format_that_is_named_replaces_the_ending(tmp_path: Path) -> None:
    """With it, also a line that looks like a request is a prompt, if that is what the user says."""
    path = write(tmp_path, "p.txt", '{"prompt": "a"}\n')
    assert [line.request.prompt for line in batch.read(path, format="jsonl")] == ["a"]
    assert [line.request.prompt for line in batch.read(path, format="txt")] == ['{"prompt": "a"}']
    with pytest.raises(ValueError, match="format must be one of jsonl, ndjson, json, csv, tsv, txt, not 'xml'"):
        batch.read(path, format="xml")
