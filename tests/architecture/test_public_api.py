"""What is public is listed, is real, and costs nothing before it is used."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys

import pytest

from .source import PACKAGE, ROOT, modules, tree_of

EXTRAS = {"typer", "click", "rich", "jinja2", "av", "PIL", "opentelemetry"}
PACKAGES = ["omni_async", "omni_async.batch", "omni_async.gallery", "omni_async.sandbox", "omni_async.testing"]


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


# In a fresh interpreter


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", PACKAGES)
def test_no_extra_is_imported_without_need(name: str) -> None:
    """Importing the library loads nothing that only an extra installs."""
    done = _run(sys.executable, "-c", f"import sys, {name}; print(*sorted(sys.modules))")
    assert done.returncode == 0, done.stderr
    loaded = {module.split(".")[0] for module in done.stdout.split()}
    assert "omni_async" in loaded
    assert loaded & EXTRAS == set()


def test_no_server_is_imported_without_need() -> None:
    """Programs without webhooks do not load `aiohttp.web`."""
    done = _run(sys.executable, "-c", "import sys, omni_async; print('aiohttp.web' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr


def test_importing_starts_nothing() -> None:
    """The import leaves no thread, no event loop and no output behind."""
    code = "import omni_async, threading; assert threading.active_count() == 1"
    done = _run(sys.executable, "-W", "error", "-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
