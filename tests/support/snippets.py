"""Run Python code out of the documentation: complete programs, and fragments that need a client or a job.

A fragment may use `await` at its top level, every public name, and the names in `_PROVIDED`. It runs against the
server that the environment variables name, in the current folder. ``python -m tests.support.snippets FILE...`` runs
several fragments in one namespace, as a reader runs the blocks of a page one after the other.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import importlib
import inspect
import re
import ssl
import sys
import textwrap
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

import omni_async
from omni_async.testing.fixtures import FAST_POLLING

if TYPE_CHECKING:
    from collections.abc import Callable

_MODULES = ("asyncio", "batch", "gallery", "otel", "sandbox", "testing")
_LEDGER = Path("clips", "ledger.db")


def blocks(text: str) -> list[str]:
    """Return the ```python blocks of a Markdown text."""
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def example(documented: object) -> str | None:
    """Return the example of a docstring: the indented block after a line that ends in ``::``. None if it has none."""
    doc = inspect.getdoc(documented) or ""
    found = re.search(r"::\n\n?((?:[ ]{4}.*\n|\n)+)", f"{doc}\n")
    return textwrap.dedent(found.group(1)).strip() + "\n" if found else None


def run(code: str, namespace: dict[str, Any] | None = None, name: str = "<example>") -> None:
    """Run a program or fragment in a namespace, which keeps what it defines."""
    namespace = {"__name__": "__main__"} if namespace is None else namespace
    tree = compile(code, name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    compiled = compile(tree, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    missing = _free_names(tree) - namespace.keys()
    is_fragment = missing & _PROVIDED.keys() or compiled.co_flags & inspect.CO_COROUTINE or _reads_ledger(code)
    if "asyncio.run(" in code or not is_fragment:
        namespace.update(_imported(missing))
        exec(compiled, namespace)
    else:
        asyncio.run(_run_in_loop(compiled, code, missing, namespace))


async def _run_in_loop(compiled: Any, code: str, missing: set[str], namespace: dict[str, Any]) -> None:
    if _reads_ledger(code) and not _LEDGER.exists():
        async with _client() as client:
            await client.submit("a lighthouse at dusk", key="lighthouse")
    async with AsyncExitStack() as stack:
        provided: dict[str, Any] = {}
        if missing & {"client", "job", "jobs"}:
            provided["client"] = await stack.enter_async_context(_client())
        for name in missing & _PROVIDED.keys():
            provided[name] = provided.get(name) or _PROVIDED[name](provided.get("client"))
        namespace.update(_imported(missing) | provided)
        result = eval(compiled, namespace)
        if compiled.co_flags & inspect.CO_COROUTINE:
            await result
        for name in provided:  # they end with this fragment; another one gets new ones
            namespace.pop(name, None)


def _reads_ledger(code: str) -> bool:
    """Return whether the code expects a ledger in the folder "clips"."""
    return "LedgerReader(" in code or _LEDGER.as_posix() in code


def _client() -> omni_async.OmniClient:
    return omni_async.OmniClient(output_dir="clips", polling=FAST_POLLING)


# What a fragment may use without defining it. Each function is called with the open client, if the fragment needs one.
_PROVIDED: dict[str, Callable[[Any], Any]] = {
    "client": lambda client: client,
    "job": lambda client: client.submit("a red apple on a wooden table"),
    "jobs": lambda client: [client.submit("a red apple"), client.submit("a green pear")],
    "prompts": lambda _: ["a blue butterfly, macro", "a harbour at dawn"],
    "requests": lambda _: ["a blue butterfly, macro", "a harbour at dawn"],
    "app": lambda _: web.Application(),
    "ssl_context": lambda _: ssl.create_default_context(),
}


def _free_names(tree: Any) -> set[str]:
    """Return the names that the code uses and does not define anywhere."""
    used, defined = set(), set(dir(builtins))
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case ast.Name(id=name) | ast.arg(arg=name):
                defined.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                defined.add(name)
            case ast.ExceptHandler(name=str(name)):
                defined.add(name)
            case ast.alias(name=name, asname=alias):
                defined.add(alias or name.partition(".")[0])
    return used - defined


def _imported(names: set[str]) -> dict[str, Any]:
    """Return those of the names that a reader would import: public ones, and a few modules."""
    found = {name: getattr(omni_async, name) for name in names & set(omni_async.__all__)}
    for name in names & set(_MODULES):
        found[name] = importlib.import_module(name if name == "asyncio" else f"omni_async.{name}")
    if "Sandbox" in names:
        found["Sandbox"] = importlib.import_module("omni_async.sandbox").Sandbox
    return found | ({"Path": Path} if "Path" in names else {})


if __name__ == "__main__":
    shared: dict[str, Any] = {"__name__": "__main__"}
    for path in sys.argv[1:]:
        run(Path(path).read_text(encoding="utf-8"), shared, path)
