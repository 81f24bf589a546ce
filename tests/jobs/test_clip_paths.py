"""The path of a clip in every encoding that a file system may have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from omni_async.jobs.clip_paths import clip_path

PROGRAM = """
import json, os, sys
from pathlib import Path
from omni_async.jobs.clip_paths import clip_path
print(json.dumps([sys.getfilesystemencoding(), os.fsencode(clip_path(Path("x"), sys.argv[1].encode().decode(
    "unicode_escape"))).hex()]))
"""


@pytest.mark.parametrize("name", ["plain.mp4", "Käse.mp4", "日本語.mp4"])
def test_a_name_is_itself_where_the_file_system_has_its_letters(name: str) -> None:
    """With UTF-8, as almost everywhere, nothing is changed."""
    assert clip_path(Path("x"), name) == Path("x") / name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain.mp4", "Käse.mp4", "日本語.mp4"])
@pytest.mark.parametrize("utf8", ["0", "1"])
def test_a_file_has_the_same_bytes_in_every_locale(name: str, utf8: str) -> None:
    """In the locale C without UTF-8 mode Python knows no letter beyond ASCII; the file is named in UTF-8."""
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": utf8, "PYTHONCOERCECLOCALE": "0"}
    escaped = name.encode("unicode_escape").decode()
    command = [sys.executable, "-c", PROGRAM, escaped]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)
    _, path = json.loads(done.stdout)
    assert bytes.fromhex(path).decode() == f"x/{name}"
