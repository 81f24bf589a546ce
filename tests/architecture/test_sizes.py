"""Modules and functions stay small, and modules say what they are about."""

from __future__ import annotations

import ast

import pytest

from .source import ROOT, modules, tree_of

LONGEST_FILE = 400
LONGEST_FUNCTION = 50


def test_no_file_is_too_long() -> None:
    """A module of more than 400 lines is about two things."""
    sizes = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in modules().values()}
    assert {name: size for name, size in sizes.items() if size > LONGEST_FILE} == {}


def test_no_function_is_too_long() -> None:
    """A function of more than 50 lines does more than one thing."""
    sizes = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in modules().values()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: size for name, size in sizes.items() if size > LONGEST_FUNCTION} == {}


def test_every_module_says_what_it_is_for() -> None:
    """It opens with a docstring."""
    assert [name for name, path in modules().items() if not ast.get_docstring(tree_of(path))] == []


@pytest.mark.parametrize("word", ["utils", "helpers", "manager", "base", "common", "misc"])
def test_no_module_has_an_empty_name(word: str) -> None:
    """Every module is named after what it is about."""
    assert [name for name in modules() if word in name.split(".")[-1].strip("_").split("_")] == []
