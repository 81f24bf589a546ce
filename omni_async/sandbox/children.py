"""The environment of the processes that the sandbox starts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Variables that no child needs: the API key of the real service. A renderer decodes media that others have made.
_SECRETS = frozenset({"APIMART_API_KEY"})


def child_environment(home: Path) -> dict[str, str]:
    """Return this process's environment without secrets, with `home` as the first folder of `PYTHONPATH`."""
    paths = [str(home), *filter(None, [os.environ.get("PYTHONPATH")])]
    kept = {name: value for name, value in os.environ.items() if name.upper() not in _SECRETS}
    return kept | {"PYTHONPATH": os.pathsep.join(paths)}
