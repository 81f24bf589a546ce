"""The checkout holds what belongs to the project, and nothing that must not be published."""

from __future__ import annotations

import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

from .source import ROOT

TOP_LEVEL = {"pyproject.toml", "README.md", "omni_async", "tests", "benchmarks", "examples"}
README_LIMIT = 8 * 1024  # bytes

_FORBIDDEN = {
    "a registry": r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|(?:extra-)?index-url\s*[=:]|proxy\.golang\.org",
    "a key": r"\bsk-[A-Za-z0-9]{20,}|\bAKIA[0-9A-Z]{16}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bAIza[0-9A-Za-z_-]{35}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY|[Bb]earer [A-Za-z0-9_.-]{24,}|APIMART_API_KEY\s*=\s*[\"']?[A-Za-z0-9-]{24,}",
    "a path of somebody's machine": r"(?<![\w.])/(?:home|Users)/\w+|/root[/]|[A-Z]:\\+Users\\|/work/(?:main|shared)"
    r"|/tmp/(?:v|brief)/",
}


@cache
def tracked() -> list[Path]:
    """Return the files that git tracks and that exist; before the first commit, those that it would track."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    for others in ([], ["--others", "--exclude-standard"]):
        command = ["git", "ls-files", "-z", "--cached", *others]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout
        if listed:
            return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]
    pytest.skip("git tracks nothing here")


def test_the_top_level_holds_nothing_else() -> None:
    """At the top level stand the names of the layout, and names that begin with a dot."""
    names = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL
    assert "omni_async" in names


def test_the_readme_is_short() -> None:
    """What does not fit belongs to the README of a package, to a docstring or to `--help`."""
    assert (ROOT / "README.md").stat().st_size <= README_LIMIT


@pytest.mark.parametrize("what", _FORBIDDEN)
def test_no_file_holds_what_must_not_be_published(what: str) -> None:
    """No registry's address, nothing that looks like a secret, and no path of a developer's machine."""
    pattern = re.compile(_FORBIDDEN[what])
    found = []
    for path in tracked():
        text = path.read_bytes().decode("utf-8", "replace")
        found += [
            f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()[:20]}"
            for match in pattern.finditer(text)
        ]
    assert found == []


def test_the_patterns_find_what_they_are_for() -> None:
    """The samples are joined here, so that this file does not hold them."""
    samples = {
        "a registry": ["https://" + "pypi." + "org/simple", "index-" + "url = x"],
        "a key": ["sk-" + "a1" * 12, "Bearer " + "x" * 30, "-----BEGIN " + "RSA PRIVATE KEY-----"],
        "a path of somebody's machine": ["/ho" + "me/ann/x", "C:\\" + "Users\\ann", "/ro" + "ot/.cache"],
    }
    for what, texts in samples.items():
        assert all(re.search(_FORBIDDEN[what], text) for text in texts), what


def test_the_metadata_are_those_of_the_design() -> None:
    """Python 3.11 or newer, and four dependencies: all else is an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    dependencies = {re.split(r"[><=~!\[ ]", each)[0] for each in project["dependencies"]}
    assert dependencies == {"aiohttp", "pydantic", "anyio", "aiolimiter"}
    assert project["requires-python"] == ">=3.11"
