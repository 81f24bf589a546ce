"""The removal of the API key from text."""

from __future__ import annotations

import pickle

import pytest

from omni_async.api.redaction import Redactor, Secret, unredacted

KEY = "sk-A1b2C3/d4+e5=f6"


@pytest.mark.parametrize(
    "written",
    [
        KEY,
        "sk\\u002dA1b2C3\\u002Fd4\\u002be5=f6",
        "".join(f"\\u{ord(character):04x}" for character in KEY),
        "sk-A1b2C3%2Fd4%2be5%3Df6",
        "sk&#45;A1b2C3&#x2f;d4&#x2B;e5=f6",
    ],
)
@pytest.mark.parametrize("around", ["{}", "Bearer {} is wrong", "x{}x", "{0}{0}", "a\n{}\n"])
def test_a_key_is_removed_however_it_is_written(written: str, around: str) -> None:
    """As it is, or with the escapes of JSON, URLs and HTML; alone or within a word."""
    assert Redactor(Secret(KEY))(around.format(written)) == around.replace("{0}", "{}").format(*["***"] * 2)


@pytest.mark.parametrize(
    ("key", "text", "shown"),
    [
        ("k", "the key k is kept", "the key *** is kept"),
        ("data", "no data in database, my-data", "no *** in database, my-data"),
        ("200", "HTTP 200: 12000", "HTTP ***: 12000"),
        ("completed", "uncompleted", "un***"),
    ],
)
def test_a_short_key_is_removed_where_it_stands_alone(key: str, text: str, shown: str) -> None:
    """A key of fewer than eight characters is no secret, and would garble every text."""
    assert Redactor(Secret(key))(text) == shown


def test_a_redactor_does_not_show_the_key() -> None:
    """Neither its repr nor a pickle, which is refused."""
    redactor = Redactor(Secret(KEY))
    assert "A1b2" not in repr(redactor)
    with pytest.raises(TypeError):
        pickle.dumps(redactor)
    assert unredacted(KEY) == KEY
