"""What the processes of the sandbox inherit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from omni_async.sandbox.children import child_environment


@pytest.mark.parametrize("name", ["APIMART_API_KEY", "Apimart_Api_Key"])
def test_a_child_does_not_inherit_the_api_key(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A renderer decodes media that others have made. Everything else is inherited."""
    monkeypatch.setenv(name, "sk-secret")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    environment = child_environment(Path("home"))
    assert "sk-secret" not in environment.values()
    assert environment["PYTHONPATH"] == os.pathsep.join(["home", "elsewhere"])
    assert environment["PATH"] == os.environ["PATH"]
