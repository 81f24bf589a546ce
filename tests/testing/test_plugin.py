"""The pytest plugin in users' projects: each style of asynchronous tests, run by a separate pytest, no warning."""

from __future__ import annotations

import tomllib
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import ROOT
from tests.support.projects import run_pytest

if TYPE_CHECKING:
    from pathlib import Path

BODY = """
    async with omni_client() as client:
        path = await client.submit("a fox", key="fox")
    assert path == tmp_path / "clips" / "fox.mp4"
    omni_sandbox.assert_paid_for(["a fox"])
    async with OmniClient(output_dir=tmp_path / "mine", on_event=None) as client:  # connects through the environment
        await client.submit("a hen")
    omni_sandbox.assert_paid_for(["a hen", "a fox"])
    omni_sandbox.assert_paid_once()
    assert omni_sandbox.submits == 2
"""
HEAD = "import asyncio, pytest\nfrom omni_async import OmniClient\n"
ARGUMENTS = "omni_client, omni_sandbox, tmp_path"

STYLES = {
    "no plugin": (
        f"{HEAD}async def work({ARGUMENTS}):{BODY}\ndef test_it({ARGUMENTS}):\n    asyncio.run(work({ARGUMENTS}))\n",
        ["-p", "no:asyncio", "-p", "no:anyio"],
    ),
    "anyio": (
        f"{HEAD}@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n\n"
        f"@pytest.mark.anyio\nasync def test_it({ARGUMENTS}):{BODY}",
        ["-p", "no:asyncio"],
    ),
    "pytest-asyncio": (
        f"{HEAD}@pytest.mark.asyncio\nasync def test_it({ARGUMENTS}):{BODY}",
        ["-p", "no:anyio", "-o", "asyncio_default_fixture_loop_scope=function"],
    ),
    "pytest-asyncio, auto": (
        f"{HEAD}async def test_it({ARGUMENTS}):{BODY}",
        ["-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
async def test_the_fixtures_work_in_every_style_of_asynchronous_tests(style: str, tmp_path: Path) -> None:
    """A test gets a sandbox and clients for it; any other client connects to it through the environment."""
    code, options = STYLES[style]
    (tmp_path / "test_it.py").write_text(code)
    status, out = await run_pytest(tmp_path, *options)
    assert (status, "1 passed" in out) == (0, True), out


@pytest.mark.slow
async def test_markers_choose_the_settings_and_messages_name_what_was_paid_twice(tmp_path: Path) -> None:
    """The nearest marker wins; messages name an unknown fault and a job that was paid for twice."""
    (tmp_path / "test_it.py").write_text(
        dedent("""
        import asyncio, pytest
        settings = {"idempotency": False, "declare_idempotency": True, "api_key": "sk-mine", "median": 5.0}
        pytestmark = pytest.mark.omni_sandbox(**settings)

        @pytest.mark.omni_sandbox(median=0.02)
        def test_twice(omni_sandbox, omni_client):
            assert (omni_sandbox.settings.median, omni_sandbox.api_key) == (0.02, "sk-mine")
            with pytest.raises(ValueError, match="unknown fault 'drop_afer'; .*drop_after"):
                omni_sandbox.fault("drop_afer")
            omni_sandbox.script("submit", ["drop_after"])

            async def work():
                async with omni_client() as client:
                    await client.submit("a fox")

            asyncio.run(work())
            omni_sandbox.assert_paid_once()
        """)
    )
    status, out = await run_pytest(tmp_path, "-p", "no:asyncio", "--strict-markers")
    assert status == 1
    assert "1 job(s) were paid for more than once:\nE" in out
    assert "'a fox' was paid for 2 times (Idempotency-Key omni-" in out


@pytest.mark.slow
async def test_an_unused_plugin_does_not_import_the_library(tmp_path: Path) -> None:
    """In a project that uses no fixture, the library is never imported, and the marker is registered."""
    (tmp_path / "test_it.py").write_text(
        dedent("""
        import sys, pytest

        @pytest.mark.omni_sandbox(median=1.0)
        def test_it(pytestconfig):
            assert pytestconfig.pluginmanager.hasplugin("pytest_omni_async")
            assert {"omni_async", "aiohttp", "pydantic"} & set(sys.modules) == set()
        """)
    )
    status, out = await run_pytest(tmp_path, "-p", "no:asyncio", "-p", "no:anyio", "--strict-markers")
    assert (status, "1 passed" in out) == (0, True), out


@pytest.mark.slow
async def test_the_example_project_passes() -> None:
    """The tests in examples/testing pass as they stand."""
    status, out = await run_pytest(ROOT / "examples" / "testing", "-p", "no:asyncio")
    assert (status, "4 passed" in out) == (0, True), out


def test_the_entry_point_names_the_plugin_file() -> None:
    """The metadata contain the entry point, and the wheel contains the module that it names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["entry-points"]["pytest11"] == {"pytest_omni_async": "pytest_omni_async"}
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    (source,) = wheel
    assert (wheel[source], (ROOT / source).is_file()) == ("pytest_omni_async.py", True)
