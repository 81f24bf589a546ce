"""The pytest plugin: the fixtures `omni_sandbox` and `omni_client`.

It imports the library only when a test uses a fixture. It is installed as a top-level module beside the package: pytest
imports every plugin when it starts, and importing a module of a package would import the package. Test runs that do not
use it must not start more slowly because omni_async is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from omni_async import OmniClient
    from omni_async.testing import SandboxThread

_MARKER = "omni_sandbox(**settings): settings of omni_async.sandbox.Sandbox for the fixture omni_sandbox"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def omni_sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxThread]:
    """Start a sandbox for this test. Every OmniClient() without a `base_url` connects to it."""
    from omni_async.testing import SandboxThread, settings_from_markers

    with SandboxThread(**settings_from_markers(request.node.iter_markers("omni_sandbox"))) as sandbox:
        for name, value in sandbox.environment.items():
            monkeypatch.setenv(name, value)
        yield sandbox


@pytest.fixture
def omni_client(omni_sandbox: SandboxThread, tmp_path: Path) -> Callable[..., OmniClient]:
    """Return a function that creates clients of `omni_sandbox`.

    Use it as ``async with omni_client() as client``. Clips are written to ``tmp_path / "clips"``. Keyword arguments
    are those of `OmniClient`.
    """
    from omni_async.testing import client_factory

    return client_factory(omni_sandbox, tmp_path / "clips")
