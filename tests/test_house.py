"""The walls of the house: what is pure stays pure, imports run one way, and the checkout holds what it may hold."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "omni_async"


EXTRAS = {"typer", "click", "rich", "jinja2", "av", "PIL", "opentelemetry"}
HOUSE = {"pyproject.toml", "README.md", "omni_async", "tests", "benchmarks", "examples"}

LONGEST_FILE = 400
LONGEST_FUNCTION = 50


# Reading the house


@cache
def modules() -> dict[str, Path]:
    """Give every module of the package by its full name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree_of(path: Path) -> ast.Module:
    """Give the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(name: str) -> Iterator[tuple[str, int]]:
    """Give every module that a module of the package imports, wherever it does so, with the line."""
    path = modules()[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{source}.{alias.name}"
                yield (full if full in modules() else source), node.lineno


def inner_imports(name: str) -> Iterator[tuple[str, int]]:
    """Give the modules of this package that one of them imports, with the line."""
    return ((target, line) for target, line in imports(name) if target.split(".")[0] == "omni_async")


@cache
def tracked() -> list[Path]:
    """Give the files that git tracks and that are there; before the first commit, those that it would."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    for others in ([], ["--others", "--exclude-standard"]):
        command = ["git", "ls-files", "-z", "--cached", *others]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout
        if listed:
            return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]
    pytest.skip("git tracks nothing here")


_ALL = pytest.mark.parametrize("name", modules())


# The walls


def test_no_imports_run_in_a_circle() -> None:
    """Not even late imports, or those for types alone, make a cycle."""
    uses = {name: sorted({target for target, _ in inner_imports(name)} - {name}) for name in modules()}
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for target in uses[name]:
                walk(target, [*way, name])
            done.add(name)

    for name in uses:
        walk(name, [])


@_ALL
def test_side_rooms_keep_to_themselves(name: str) -> None:
    """Nobody but the command line's own door builds on the command line, and nothing builds on `testing`."""
    targets = {".".join(target.split(".")[:2]) for target, _ in inner_imports(name)}
    if not name.startswith(("omni_async.cli", "omni_async.__main__")):
        assert "omni_async.cli" not in targets
    assert name.startswith("omni_async.testing") or "omni_async.testing" not in targets


# Sizes and words


def test_no_file_is_too_long() -> None:
    """A room of more than 400 lines lacks a noun."""
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


@_ALL
def test_every_module_says_what_it_is_for(name: str) -> None:
    """It opens with a docstring."""
    assert ast.get_docstring(tree_of(modules()[name]))


@pytest.mark.parametrize("word", ["utils", "helpers", "manager", "base", "common", "misc"])
def test_no_room_has_an_empty_name(word: str) -> None:
    """Every module is named after what it is about."""
    assert [name for name in modules() if word in name.split(".")[-1].strip("_").split("_")] == []


def _sort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, each by name: the order that ruff keeps."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name.lstrip("_")[:1].isupper() else 2
    return kind, name


def _public_names(name: str) -> list[str] | None:
    for node in tree_of(modules()[name]).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            names = ast.literal_eval(node.value)
            assert isinstance(names, list | tuple)
            return list(names)
    return None


@pytest.mark.parametrize("name", [name for name in modules() if _public_names(name) is not None])
def test_what_a_door_promises_is_there(name: str) -> None:
    """`__all__` is sorted, names nothing twice, and every name of it is real."""
    names = _public_names(name) or []
    assert names == sorted(set(names), key=_sort_key)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name in EXTRAS:
            pytest.skip(f"needs {error.name}")
        raise
    assert [public for public in names if not hasattr(module, public)] == []


def test_the_front_door_has_every_error() -> None:
    """Whatever a user may have to catch can be imported from `omni_async`."""
    door, errors = importlib.import_module("omni_async"), importlib.import_module("omni_async.errors")
    families = [
        name for name, thing in vars(errors).items() if isinstance(thing, type) and issubclass(thing, Exception)
    ]
    assert len(families) > 10
    assert [name for name in families if getattr(door, name, None) is not getattr(errors, name)] == []
    assert set(families) <= set(door.__all__)


def test_the_front_door_holds_names_only() -> None:
    """`__init__` imports and lists; it does nothing."""
    body = tree_of(PACKAGE / "__init__.py").body
    kinds = {type(node).__name__ for node in body}
    assert kinds <= {"Expr", "ImportFrom", "Import", "Assign"}
    assert [ast.unparse(node.targets[0]) for node in body if isinstance(node, ast.Assign)] == ["__all__"]


# A fresh interpreter


def _run(*command: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


_PACKAGES = ["omni_async", "omni_async.batch", "omni_async.gallery", "omni_async.sandbox", "omni_async.testing"]


@pytest.mark.parametrize("name", _PACKAGES)
def test_no_extra_is_imported_without_need(name: str) -> None:
    """In a fresh interpreter, the library brings in nothing that only an extra installs."""
    done = _run(sys.executable, "-c", f"import sys, {name}; print(*sorted(sys.modules))", timeout=60)
    assert done.returncode == 0, done.stderr
    loaded = {module.split(".")[0] for module in done.stdout.split()}
    assert "omni_async" in loaded
    assert loaded & EXTRAS == set()


def test_no_server_is_imported_without_need() -> None:
    """Who asks for no webhooks pays for no web server."""
    done = _run(sys.executable, "-c", "import sys, omni_async; print('aiohttp.web' in sys.modules)", timeout=60)
    assert done.stdout.strip() == "False", done.stderr


def test_importing_starts_nothing() -> None:
    """The import leaves no thread, no event loop and no output behind."""
    code = "import omni_async, threading; assert threading.active_count() == 1"
    done = _run(sys.executable, "-W", "error", "-c", code, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# The tools


def _tool(name: str) -> list[str]:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: pip install 'omni-async[dev]'")
    return [sys.executable, "-m", name]


def test_ruff_has_nothing_to_say() -> None:
    """The whole checkout is free of what the linter looks for."""
    done = _run(*_tool("ruff"), "check", "--no-cache", ".")
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_would_format_nothing() -> None:
    """The whole checkout is formatted."""
    done = _run(*_tool("ruff"), "format", "--no-cache", "--check", ".")
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_is_content() -> None:
    """Everything that runs is typed, strictly."""
    folders = [name for name in ("omni_async", "tests", "examples", "benchmarks") if any((ROOT / name).rglob("*.py"))]
    done = _run(*_tool("mypy"), "--strict", *folders)
    assert done.returncode == 0, done.stdout + done.stderr


# The checkout


def test_the_checkout_holds_the_house_and_nothing_else() -> None:
    """At the top level stand the names of the design, and dot files."""
    names = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {name for name in names if not name.startswith(".")} <= HOUSE
    assert "omni_async" in names


_MUST_NOT_STAND = {
    "a registry": r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|(?:extra-)?index-url\s*[=:]|proxy\.golang\.org",
    "a key": r"\bsk-[A-Za-z0-9]{20,}|\bAKIA[0-9A-Z]{16}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bAIza[0-9A-Za-z_-]{35}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY|[Bb]earer [A-Za-z0-9_.-]{24,}|APIMART_API_KEY\s*=\s*[\"']?[A-Za-z0-9-]{24,}",
    "a path of somebody's machine": r"(?<![\w.])/(?:home|Users)/\w+|/root[/]|[A-Z]:\\+Users\\|/work/(?:main|shared)"
    r"|/tmp/(?:v|brief)/",
}


@pytest.mark.parametrize("what", _MUST_NOT_STAND)
def test_no_file_holds_what_must_not_be_told(what: str) -> None:
    """No registry's address, nothing that looks like a secret, and no path of a developer's machine."""
    pattern = re.compile(_MUST_NOT_STAND[what])
    found = []
    for path in tracked():
        text = path.read_bytes().decode("utf-8", "replace")
        found += [
            f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()[:20]}"
            for match in pattern.finditer(text)
        ]
    assert found == []


def test_what_must_not_be_told_would_be_found() -> None:
    """The patterns find what they are for, put together here so that this file does not hold it."""
    samples = {
        "a registry": ["https://" + "pypi." + "org/simple", "index-" + "url = x"],
        "a key": ["sk-" + "a1" * 12, "Bearer " + "x" * 30, "-----BEGIN " + "RSA PRIVATE KEY-----"],
        "a path of somebody's machine": ["/ho" + "me/ann/x", "C:\\" + "Users\\ann", "/ro" + "ot/.cache"],
    }
    for what, texts in samples.items():
        assert all(re.search(_MUST_NOT_STAND[what], text) for text in texts), what


def test_the_readme_and_the_metadata_agree() -> None:
    """The version and the Python that the metadata name are there, and the dependencies are those of the design."""
    lines = (ROOT / "pyproject.toml").read_text("utf-8").splitlines()
    start = lines.index("dependencies = [") + 1
    listed = [
        re.split(r"[><=~!\[ ]", line.strip(' ",'))[0] for line in takewhile(lambda line: line != "]", lines[start:])
    ]
    assert sorted(listed) == ["aiohttp", "aiolimiter", "anyio", "pydantic"]
    assert 'requires-python = ">=3.11"' in lines
