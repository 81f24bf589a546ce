"""What was meant by a command or an option that does not exist: the nearest name, or the word for it here."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Words that other programs use for the same. Similarity does not find them.
_COMMANDS = {
    **dict.fromkeys(("create", "make", "new", "prompt"), "generate"),
    **dict.fromkeys(("run", "submit", "bulk"), "batch"),
    **dict.fromkeys(("ls", "list", "jobs", "show", "ps", "watch", "info"), "status"),
    **dict.fromkeys(("continue", "restart", "retry"), "resume"),
    **dict.fromkeys(("download", "get", "pull", "attach"), "fetch"),
    **dict.fromkeys(("page", "html", "view", "open"), "gallery"),
    **dict.fromkeys(("credit", "credits", "money"), "balance"),
    **dict.fromkeys(("usage", "bill", "billing", "costs", "audit"), "reconcile"),
    **dict.fromkeys(("doctor", "ping", "test", "whoami", "login", "auth", "verify"), "check"),
    **dict.fromkeys(("serve", "server", "mock", "fake"), "sandbox"),
    **dict.fromkeys(("dataset", "dump", "save"), "export"),
    **dict.fromkeys(("help", "version"), ""),
}

_OPTIONS = {
    **dict.fromkeys(
        ("--out", "--dir", "--folder", "--output-dir", "--outdir", "--output-folder", "--dest"), "--output"
    ),
    **dict.fromkeys(("--concurrency", "--parallel", "--workers", "--jobs", "--threads"), "--max-in-flight"),
    **dict.fromkeys(("--rate", "--rate-limit", "--rpm", "--qps"), "--per-minute"),
    **dict.fromkeys(("--budget", "--limit", "--max-price", "--max-usd"), "--max-cost"),
    **dict.fromkeys(("--url", "--api-base", "--endpoint", "--host", "--server"), "--base-url"),
    **dict.fromkeys(("--insecure", "--no-verify", "--http"), "--allow-insecure"),
    **dict.fromkeys(("--cacert", "--ca", "--cert", "--ca-bundle"), "--ca-file"),
    **dict.fromkeys(("--silent",), "--quiet"),
    **dict.fromkeys(("--debug",), "--verbose"),
    **dict.fromkeys(("--format", "--output-format"), "--json"),
    **dict.fromkeys(("--follow", "--live"), "--watch"),
    **dict.fromkeys(("--state", "--filter"), "--status"),
    **dict.fromkeys(("--ratio", "--aspect", "--size"), "--aspect-ratio"),
    **dict.fromkeys(("--seconds", "--length"), "--duration"),
}

# How similar an option must be to be suggested. At 0.6, the default of difflib, --json suggests --version.
_LIKENESS = 0.7

_KEY_OPTIONS = {"--api-key", "--key", "--token", "--apikey"}


def suggest_command(typed: str, names: Iterable[str]) -> str:
    """Return the sentence that follows "No such command"; "" if nothing is near."""
    known = sorted(names)
    word = typed.lower()
    if word in {"help", "version"}:
        return f" Did you mean '--{word}'?"
    near = [_COMMANDS[word]] if _COMMANDS.get(word) in known else get_close_matches(word, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else " See omni-async --help"


def suggest_option(typed: str, names: Iterable[str]) -> str:
    """Return the sentence that follows "No such option"; "" if nothing is near."""
    known = sorted(name for name in names if name.startswith("--"))
    word = typed.lower().replace("_", "-")
    if word in _KEY_OPTIONS:
        return " The key is never an option, which every user of a machine can see: set APIMART_API_KEY"
    meant = _OPTIONS.get(word)
    near = [meant] if meant in known else get_close_matches(word, known, n=1, cutoff=_LIKENESS)
    near = near or [name for name in known if len(word) > len("--x") and name.startswith(word)]
    return f" Did you mean {' or '.join(near)}?" if near else ""
