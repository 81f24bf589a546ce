"""File names are safe on every file system, short enough, and unique per key."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omni_async.jobs.filenames import FileNames, stem, stem_with_hash
from omni_async.models.request import _slug

_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{number}" for port in ("com", "lpt") for number in "123456789¹²³"
}


def _problems(name: str) -> list[str]:
    """Return what a file system rejects in this name (Windows: the rules of `os.path.isreserved`)."""
    found = {
        "empty": not name,
        "a character": any(ord(character) < 32 or character in '/\\:*?"<>|\x7f' for character in name),
        "its end": name.endswith((".", " ")),
        "its start": name.startswith((".", " ")),
        "a device": name.partition(".")[0].rstrip(" ").lower() in _DEVICES,
        "not NFC": unicodedata.normalize("NFC", name) != name,
        "half a character": name.encode("utf-8", "replace").decode() != name,
    }
    return [fault for fault, is_so in found.items() if is_so]


_KEYS = st.one_of(
    st.text(min_size=1, max_size=40),
    st.text(alphabet="aA.-_2 /\\", min_size=1, max_size=6),
    st.sampled_from(
        ["con", "CON", "Con.txt", "nul .x", "com1", "LPT¹", "clip", "Clip", "clip-2", "..", "é", "e\u0301"]
    ),
    st.text(min_size=1, max_size=8).map(lambda text: text * 40),
)

_ODD = [
    pytest.param("..", id="the folder above"),
    pytest.param(".", id="the folder itself"),
    pytest.param("../../etc/passwd", id="parent folders"),
    pytest.param("a/b\\c", id="separators"),
    pytest.param("/etc/passwd", id="an absolute path"),
    pytest.param("C:\\x", id="a drive"),
    pytest.param("a:b", id="a stream"),
    pytest.param(".hidden", id="hidden"),
    pytest.param("x.", id="a dot at the end"),
    pytest.param(" x ", id="white space"),
    pytest.param("\u00a0x\u2003", id="white space of other kinds"),
    pytest.param("a\nb\x00c\x7f", id="control characters"),
    pytest.param('*?"<>|', id="wildcards"),
    pytest.param("con", id="con"),
    pytest.param("CON.mp4", id="con with an ending"),
    pytest.param("nul .txt", id="nul with a space"),
    pytest.param("COM1", id="com1"),
    pytest.param("lpt³", id="lpt³"),
    pytest.param("CONIN$", id="conin$"),
    pytest.param("conout$", id="conout$"),
    pytest.param("e\u0301", id="decomposed"),
    pytest.param("\ud800", id="half a character"),
    pytest.param("x" * 101, id="101 bytes"),
    pytest.param("語" * 34, id="102 bytes of three each"),
    pytest.param("con." + "x" * 200, id="a long device"),
    pytest.param("nul" + " " * 200 + "x", id="much white space"),
    pytest.param("-", id="a hyphen"),
    pytest.param("👩‍👩‍👧‍👦" * 9, id="families"),
]


@pytest.mark.parametrize("key", _ODD)
def test_unusual_keys_give_safe_names(key: str) -> None:
    """The name of every key is valid on every file system, and stays within the folder."""
    for name in (stem(key), stem_with_hash(key), FileNames().claim(key).removesuffix(".mp4")):
        assert _problems(name) == []
        assert len(name.encode()) <= 100


@given(_KEYS)
def test_any_key_gives_a_safe_name(key: str) -> None:
    """Any text is a valid key. Further videos and the part file add only a suffix."""
    assert _problems(stem(key)) == []
    assert _problems(stem_with_hash(key)) == []
    assert max(len(stem(key).encode()), len(stem_with_hash(key).encode())) <= 100
    for index in (0, 1, 99):
        name = FileNames().claim(key, index)
        assert name.endswith(".mp4")
        assert _problems(name) == []
        assert len(name.encode()) <= 100 + len("-100.mp4")


@pytest.mark.parametrize(
    "key", ["a", "red-apple-1f2e", "Übermut", "語", "a b", "x" * 100, "task_01KS1H7ZYSJWH1N779S2FSHTKA"]
)
def test_a_safe_key_is_its_file_name(key: str) -> None:
    """The file is named exactly like the key."""
    assert FileNames().claim(key) == f"{key}.mp4"
    assert FileNames().claim(key, 1) == f"{key}-2.mp4"


@given(st.lists(st.tuples(_KEYS, st.integers(0, 2)), unique=True, max_size=12))
@example([("clip", 0), ("Clip", 0), ("CLIP", 0)])
@example([("clip-2", 0), ("clip", 1)])
@example([("é", 0), ("e\u0301", 0)])
@example([("ß", 0), ("ss", 0), ("SS", 0)])
@example([("a/b", 0), ("a_b", 0), (stem_with_hash("a/b"), 0)])
@example([("x" * 200, 0), ("x" * 201, 0)])
@example([("\ud800", 0), ("\ud801", 0), ("?", 0)])
def test_no_two_videos_share_a_name(videos: list[tuple[str, int]]) -> None:
    """Different keys and videos never share a file, not even on a case-insensitive file system."""
    names = FileNames()
    claimed = [names.claim(key, index) for key, index in videos]
    assert len({name.casefold() for name in claimed}) == len(videos)
    assert [names.claim(key, index) for key, index in videos] == claimed


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a red apple on a wooden table, short cinematic clip", "a-red-apple-on-a-wooden-table-short-cine"),
        ("A Blue Butterfly!", "a-blue-butterfly"),
        ("../../etc", "etc"),
        ("", "clip"),
        ("!?", "clip"),
        ("🍎", "clip"),
        ("赤いりんご", "赤いりんご"),
        ("snake_case", "snake-case"),
    ],
)
def test_a_prompt_gives_a_readable_name(text: str, name: str) -> None:
    """It is made of the first words, joined by hyphens."""
    assert _slug(text) == name


@given(st.text())
def test_any_text_gives_a_short_safe_name(text: str) -> None:
    """It has 1 to 40 bytes, and starts and ends with a safe character."""
    name = _slug(text)
    assert 0 < len(name.encode()) <= 40
    assert not {"its start", "its end", "a character", "empty", "half a character"} & set(_problems(name))
    assert not name.startswith("-")
    assert not name.endswith("-")
