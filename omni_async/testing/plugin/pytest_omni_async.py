"""The pytest plugin: fixtures `omni_sandbox` and `omni_client`. It imports the library only when a test asks for one.

It is installed at the top level, beside the package, because pytest imports every plugin at its start, and importing a
module of a package imports the package: nobody's tests should start a second later because omni_async is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from omni_async import OmniClient
    from omni_async.testing import SandboxThread

_MARKER = "omni_sandbox(**settings): what the fixture omni_sandbox is started with, as of omni_async.sandbox.Sandbox"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def omni_sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxThread]:
    """A sandbox of the test's own, to which every OmniClient() goes that names no other address."""
    from omni_async.testing import SandboxThread, settings_of_markers

    with SandboxThread(**settings_of_markers(request.node.iter_markers("omni_sandbox"))) as sandbox:
        for name, value in sandbox.environment.items():
            monkeypatch.setenv(name, value)
        yield sandbox


@pytest.fixture
def omni_client(omni_sandbox: SandboxThread, tmp_path: Path) -> Callable[..., OmniClient]:
    """Makes clients of `omni_sandbox`: ``async with omni_client() as client``; clips go to ``tmp_path / "clips"``."""
    from omni_async.testing import client_factory

    return client_factory(omni_sandbox, tmp_path / "clips")
