"""What the pytest plugin builds its fixtures from; usable without pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omni_async import OmniClient, Polling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import pytest

    from .sandbox_thread import SandboxThread


# A sandbox's tasks take about 0.05 s by default, and its checks cost nothing. With the normal settings (a first check
# after seconds) most of a test's time would be waiting. Half of these values loads the sandbox without finishing tests
# noticeably earlier; double makes each job up to 0.05 s slower. Chosen, not measured.
FAST_POLLING = Polling(min_interval=0.05, max_interval=0.5, check_cost=0.05)


def client_factory(sandbox: SandboxThread, folder: Path) -> Callable[..., OmniClient]:
    """Return a function that creates clients for a sandbox.

    The clients poll often and write to `folder`. Keyword arguments of the function are those of `OmniClient` and
    override this; `api_key` is the sandbox's unless given.
    """

    def make_client(**settings: Any) -> OmniClient:
        defaults: dict[str, Any] = {"base_url": sandbox.base_url, "output_dir": folder, "polling": FAST_POLLING}
        return OmniClient(settings.pop("api_key", sandbox.api_key), **defaults | settings)

    return make_client


def settings_from_markers(markers: Iterable[pytest.Mark]) -> dict[str, Any]:
    """Return the sandbox settings that markers name. `markers` starts with the one nearest to the test, which wins.

    Raises `TypeError` for a marker with positional arguments.
    """
    settings: dict[str, Any] = {}
    for marker in markers:
        if marker.args:
            raise TypeError(f"omni_sandbox{marker.args}: pass its settings by name, as in omni_sandbox(median=2.0)")
        settings = {**marker.kwargs, **settings}
    return settings
