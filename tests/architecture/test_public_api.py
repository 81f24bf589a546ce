"""What is public is listed, is real, and costs nothing before it is used."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys

import pytest

from .source import PACKAGE, ROOT, modules, tree_of

EXTRAS = {"typer", "click", "rich", "jinja2", "av", "PIL", "opentelemetry", "IPython"} | {
    *("psycopg", "psycopg_pool", "procrastinate", "obstore")
}
PACKAGES = [
    *("omni_async", "omni_async.batch", "omni_async.dataset", "omni_async.gallery"),
    *("omni_async.progress", "omni_async.sandbox", "omni_async.testing"),
]


def public_names(name: str) -> list[str] | None:
    """Return the `__all__` of a module, None if it has none."""
    for node in tree_of(modules()[name]).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            names = ast.literal_eval(node.value)
            assert isinstance(names, list | tuple)
            return list(names)
    return None


def _sort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, each by name: the order that ruff keeps."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name.lstrip("_")[:1].isupper() else 2
    return kind, name


@pytest.mark.parametrize("name", [name for name in modules() if public_names(name) is not None])
def test_what_is_listed_exists(name: str) -> None:
    """`__all__` is sorted, lists nothing twice, and every name in it is real."""
    names = public_names(name) or []
    assert names == sorted(set(names), key=_sort_key)
    try:
        module = importlib.import_module(f"omni_async.{name}".rstrip("."))
    except ModuleNotFoundError as error:
        if error.name in EXTRAS:
            pytest.skip(f"needs {error.name}")
        raise
    assert [public for public in names if not hasattr(module, public)] == []


def test_every_error_is_public() -> None:
    """Whatever a user may have to catch can be imported from `omni_async`."""
    public, errors = importlib.import_module("omni_async"), importlib.import_module("omni_async.errors")
    classes = [name for name, thing in vars(errors).items() if isinstance(thing, type) and issubclass(thing, Exception)]
    assert len(classes) > 10
    assert [name for name in classes if getattr(public, name, None) is not getattr(errors, name)] == []
    assert set(classes) <= set(public.__all__)


def test_the_package_itself_holds_names_only() -> None:
    """`omni_async/__init__.py` imports and lists; it does nothing."""
    body = tree_of(PACKAGE / "__init__.py").body
    assert {type(node).__name__ for node in body} <= {"Expr", "ImportFrom", "Import", "Assign"}
    assert [ast.unparse(node.targets[0]) for node in body if isinstance(node, ast.Assign)] == ["__all__"]


# In a fresh interpreter, one package after the other


@pytest.fixture(scope="module")
def imports() -> list[tuple[str, int, set[str]]]:
    """Import each package. Return its name, the number of threads, and the modules that are loaded by then."""
    steps = [f"import {name}; print({name!r}, threading.active_count(), *sys.modules)" for name in PACKAGES]
    command = [sys.executable, "-W", "error", "-c", "\n".join(["import sys, threading", *steps])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    return [(name, int(threads), set(names)) for name, threads, *names in lines]


def test_no_extra_is_imported_without_need(imports: list[tuple[str, int, set[str]]]) -> None:
    """Importing the library loads nothing that only an extra installs."""
    for name, _, loaded in imports:
        assert name in loaded
        assert {module.split(".")[0] for module in loaded} & EXTRAS == set(), name


def test_no_http_library_is_imported_without_need(imports: list[tuple[str, int, set[str]]]) -> None:
    """A program that imports the package, for its types say, loads aiohttp only when it makes a client."""
    name, _, loaded = imports[0]
    assert (name, "aiohttp" in loaded) == ("omni_async", False)


def test_no_server_is_imported_without_need() -> None:
    """Programs without webhooks do not load `aiohttp.web`."""
    code = "import sys, omni_async; omni_async.OmniClient('sk-x', base_url='http://127.0.0.1:9'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "aiohttp" in loaded.split()
    assert "aiohttp.web" not in loaded.split()


def test_importing_starts_nothing(imports: list[tuple[str, int, set[str]]]) -> None:
    """The import leaves no thread, no event loop and no output behind."""
    assert [(name, threads) for name, threads, _ in imports] == [(name, 1) for name in PACKAGES]
