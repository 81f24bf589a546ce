"""One word for one thing: words of an earlier vocabulary stay away, and a class name is used once."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from .source import ROOT, modules, tree_of

# Wrong in every sense here. Joined from halves, so that this file does not contain them.
BANNED = [
    left + right
    for left, right in [
        ("ros", "ter"),
        ("out", "look"),
        ("fore", "sight"),
        ("fore", "told"),
        ("mis", "deed"),
        ("mis", "chief"),
        ("par", "cel"),
        ("di", "ce"),
        ("tw", "in"),
        ("who", "ever"),
        ("of which ", "nobody"),
        ("front ", "door"),
        ("for ", "ever"),
        ("in ", "doubt"),
    ]
]
# Two things may share a name: the API's task, and the sandbox's.
SHARED = {"Task"}


def texts() -> dict[str, str]:
    """Return every source and documentation file of the project by its name."""
    files = [
        *(path for folder in ("omni_async", "tests", "benchmarks", "examples") for path in (ROOT / folder).rglob("*")),
        *(ROOT / ".github").glob("*.md"),
        ROOT / "README.md",
    ]
    endings = {".py", ".md", ".js", ".css", ".j2", ".jsonl"}
    return {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in files if path.suffix in endings}


@pytest.mark.parametrize("word", BANNED)
def test_no_text_uses_a_banned_word(word: str) -> None:
    """Neither names nor prose contain it, in whatever case and number."""
    spaced = re.escape(word).replace(r"\ ", r"[\s_]+")
    pattern = re.compile(rf"(?<![a-z]){spaced}(?:s|es)?(?![a-z])", re.IGNORECASE)
    found = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}"
        for name, text in texts().items()
        for match in pattern.finditer(text)
    ]
    assert found == []


def test_one_class_name_means_one_thing() -> None:
    """No two modules define a class of the same name."""
    homes = defaultdict(list)
    for name, path in modules().items():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(name)
    assert {name: found for name, found in homes.items() if len(found) > 1 and name not in SHARED} == {}


def test_the_search_reads_the_project() -> None:
    """The texts that are searched are there, this file among them."""
    assert {"README.md", "omni_async/errors.py", str(Path(__file__).relative_to(ROOT))} <= set(texts())
