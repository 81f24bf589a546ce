"""`one_line` shows every character that steers a terminal, hides text or begins a line, and changes no other."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async.plain_text import is_harmless, one_line, replace_harmful

TEXTS = st.text(st.one_of(st.characters(), st.sampled_from("\x1b\n\u202e\u200d\ufe0f\ud800😀❤1\u20e3 ")))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("\x7f\x08\x00", r"\x7f\x08\x00"),
        ("a\nb\r\nc\td", r"a\nb\r\nc\td"),
        ("a\x0bb\x0cc\x85d\u2028e\u2029f", r"a\x0bb\x0cc\x85d\u2028e\u2029f"),
        ("\u202a\u202e\u2066\u2069\u200e\u200f\u061c", r"\u202a\u202e\u2066\u2069\u200e\u200f\u061c"),
        ("a\u200bb\u200cc\u200dd\u2060e\ufefff\xadg", r"a\u200bb\u200cc\u200dd\u2060e\ufefff\xadg"),
        ("tag\U000e0041\U000e0100", r"tag\U000e0041\U000e0100"),
        ("blank\u2800\u3164\u115f\uffa0", r"blank\u2800\u3164\u115f\uffa0"),
        ("file\udcff\ud800", r"file\udcff\ud800"),
        ("a\ufe0fb", r"a\ufe0fb"),
    ],
)
def test_a_harmful_character_is_shown_as_its_escape(text: str, shown: str) -> None:
    """Escape sequences, line breaks, directions, invisible and blank characters, and half characters."""
    assert one_line(text) == shown
    assert not is_harmless(text)
    assert is_harmless(replace_harmful(text, "_"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red apple, 12 €",
        "  two  spaces ",
        r"C:\temp\x1b",
        "赤いりんご　三つ",
        "تفاحة",
        "Ångström e\u0301",
        "[red]markup[/red]",
        "👩🏽\u200d💻 ❤\ufe0f ☎\ufe0e 1\ufe0f\u20e3 🏳\ufe0f\u200d🌈",
    ],
)
def test_any_other_text_is_shown_as_it_is(text: str) -> None:
    """Spaces, backslashes, scripts, accents, and emoji with what chooses and joins them."""
    assert one_line(text) == text
    assert is_harmless(text)
    assert replace_harmful(text, "_") == text


@pytest.mark.parametrize("text", ["😀\u200dx", "x\u200d😀", "😀\ufe0f\ufe0f", "\u200d😀", "7\ufe0f"])
def test_what_joins_emoji_is_kept_nowhere_else(text: str) -> None:
    """A joiner or a variation selector that joins and chooses nothing is as invisible as any other."""
    assert one_line(text) != text


def test_no_character_of_a_harmful_kind_is_printed() -> None:
    """Of all characters of Unicode, none of the control, format, separator and surrogate kinds passes."""
    kinds = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    harmful = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) in kinds]
    assert [f"{ord(each):x}" for each in harmful if is_harmless(f"a{each}b")] == []
    ascii_only = [each for each in harmful if not one_line(f"a{each}b").isascii()]
    assert ascii_only == []


@given(TEXTS)
def test_the_result_is_one_harmless_line(text: str) -> None:
    """Whatever the text, its result is one line, can be written as UTF-8, and does not change again."""
    shown = one_line(text)
    assert len(f"{shown}|".splitlines()) == 1
    shown.encode()
    assert is_harmless(shown)
    assert one_line(shown) == shown
    assert is_harmless(replace_harmful(text, "_"))


@given(TEXTS, st.integers(10, 50))
def test_a_limit_holds_for_what_is_shown(text: str, limit: int) -> None:
    """A long text ends in dots. Escapes count as what they are: several characters."""
    shown = one_line(text, limit=limit)
    assert len(shown) <= limit
    assert one_line(shown, limit=limit) == shown
    if shown != one_line(text):
        assert shown.endswith("...")
