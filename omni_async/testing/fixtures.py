"""What the fixtures are made with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omni_async import OmniClient, Polling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import pytest

    from .sandbox_thread import SandboxThread


QUICK = Polling(
    min_interval=0.05, max_interval=0.5, check_cost=0.05
)  # tests wait for their tasks; nobody pays for a check


def client_factory(sandbox: SandboxThread, folder: Path) -> Callable[..., OmniClient]:
    """Give what makes clients of a sandbox that look often; any argument of `OmniClient` may be given to it."""

    def make(**settings: Any) -> OmniClient:
        defaults: dict[str, Any] = {"base_url": sandbox.base_url, "output_dir": folder, "polling": QUICK}
        return OmniClient(settings.pop("api_key", sandbox.api_key), **defaults | settings)

    return make


def settings_of_markers(markers: Iterable[pytest.Mark]) -> dict[str, Any]:
    """Give the settings that markers name; those nearest to the test count most."""
    settings: dict[str, Any] = {}
    for marker in markers:
        if marker.args:
            raise TypeError(f"omni_sandbox{marker.args}: give its settings by name, such as omni_sandbox(median=2.0)")
        settings = {**marker.kwargs, **settings}
    return settings
