"""What others may put in a folder, a reply, a redirect or the environment, through the command line as users run it.

The siblings of this file hold the rest: text (`test_hostile_text`), ledgers (`test_hostile_ledgers`) and crowds
(`test_hostile_crowds`); `tests/cli/test_trust.py` has prompt files and requests of others. Each rule has its own tests
beside its module.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from omni_async.testing import SandboxThread
from tests.support.fakes import mp4
from tests.support.http_servers import web_server
from tests.support.markers import slow_after
from tests.support.processes import ROOT
from tests.support.shell import Shell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

KEY = "sk-of-the-user"
CLIP = mp4("a clip", 1000)


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


@pytest.fixture
def sandbox() -> Iterator[SandboxThread]:
    """Serve an API on this machine."""
    with SandboxThread(api_key=KEY) as thread:
        yield thread


# A folder full of links

THINGS: dict[str, Callable[[Path, Path], object]] = {
    "link": lambda path, outside: path.symlink_to(outside / "mine"),
    "dangling link": lambda path, outside: path.symlink_to(outside / "new"),
    "link to a folder": lambda path, outside: path.symlink_to(outside),
    "hard link": lambda path, outside: path.hardlink_to(outside / "mine"),
    "pipe": lambda path, _: os.mkfifo(path),
    "device": lambda path, _: path.symlink_to("/dev/full"),
    "folder": lambda path, _: path.mkdir(),
}
NAMES = (
    *("ledger.db", "ledger.db.lock", "ledger.db-wal", "ledger.db-shm", "ledger.db-journal", "index.html"),
    *("1.mp4", "1.mp4.part", "1-2.mp4", ".posters", ".1.mp4.part"),
)


def _content_of(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "thing"), slow_after(6, [(name, thing) for thing in THINGS for name in NAMES]), ids=str
)
async def test_nothing_is_written_outside_of_a_folder(
    sandbox: SandboxThread, tmp_path: Path, name: str, thing: str
) -> None:
    """Whatever stands in the place of a file that is written: what it leads to stays, and no traceback is printed."""
    shell = Shell(tmp_path, sandbox.environment)
    outside, clips = tmp_path / "outside", tmp_path / "clips"
    outside.mkdir()
    clips.mkdir()
    (outside / "mine").write_text("mine")
    THINGS[thing](clips / name, outside)
    shell.write("p.jsonl", '{"id": "1", "prompt": "a"}\n')
    for command in (("batch", "p.jsonl"), ("resume", "clips"), ("gallery", "clips"), ("status", "clips")):
        assert (await shell.omni(*command)).status in {0, 1, 2, 3}
    assert _content_of(outside) == {"mine": b"mine"}


# Links and redirects, through a proxy that plays every host

API, CLIP_HOST = "93.184.216.34", "93.184.216.35"
NOT_PUBLIC = {
    "loopback": "127.0.0.1",
    "short": "127.1",
    "decimal": "2130706433",
    "octal": "0177.0.0.1",
    "name": "localhost",
    "sub-domain": "a.localhost",
    "IPv6 loopback": "[::1]",
    "mapped": "[::ffff:127.0.0.1]",
    "NAT64": "[64:ff9b::7f00:1]",
    "private": "10.0.0.1",
    "unique local": "[fd00::1]",
    "link-local": "169.254.169.254",
    "IPv6 link-local": "[fe80::1]",
    "shared": "100.64.0.1",
    "unspecified": "0.0.0.0",
    "user": "user:word@10.0.0.1",
}


@dataclass
class Internet:
    """The API and all other hosts. `links` are where a clip is, and where its host redirects to, in turn."""

    links: list[str] = field(default_factory=list)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)  # host, path, key
    url: str = ""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request to any host."""
        host = request.headers["Host"]
        self.requests.append((host, request.path, request.headers.get("Authorization")))
        if request.path.endswith("/generations"):
            return web.json_response({"code": 200, "data": [{"task_id": "task_1"}]})
        if request.path.startswith("/v1/tasks/"):
            task = {"status": "completed", "result": {"videos": [{"url": [self.links[0]]}]}}
            return web.json_response({"code": 200, "data": task})
        if request.path.startswith("/v1/"):
            return web.json_response({"error": {"message": "page not found", "type": "x"}}, status=404)
        step = int(request.path.removeprefix("/").partition("-")[0])
        if step + 1 < len(self.links):
            return web.Response(status=302, headers={"Location": self.links[step + 1]})
        return web.Response(body=CLIP, content_type="video/mp4")

    def asked_for_clips(self) -> list[str]:
        """Return the hosts that were asked for a clip."""
        return [host for host, path, _ in self.requests if not path.startswith("/v1/")]


@pytest.fixture
async def internet() -> AsyncIterator[Internet]:
    """Serve all hosts."""
    internet = Internet()
    async with web_server(internet.answer) as internet.url:
        yield internet


@pytest.fixture
def shell(internet: Internet, tmp_path: Path) -> Shell:
    """Return an environment in which the API is a public host, which the proxy of the environment reaches."""
    addresses = {"APIMART_BASE_URL": f"http://{API}", "http_proxy": internet.url}
    return Shell(tmp_path, {"APIMART_API_KEY": KEY} | addresses)


THIS_MACHINE = {
    *("loopback", "short", "decimal", "octal", "name", "sub-domain", "IPv6 loopback", "mapped", "NAT64", "unspecified"),
}
GENERATE = ("generate", "a", "--allow-insecure")


@pytest.mark.parametrize("is_redirect", [False, True], ids=["link", "redirect"])
@pytest.mark.parametrize("name", slow_after(4, NOT_PUBLIC))
async def test_a_private_address_is_asked_only_with_the_option(
    internet: Internet, shell: Shell, name: str, is_redirect: bool
) -> None:
    """A link or redirect of a public API to it ends the download, with the option in the message that allows it."""
    public = [f"http://{CLIP_HOST}/0-clip"] if is_redirect else []
    internet.links = [*public, f"http://{NOT_PUBLIC[name]}/{len(public)}-clip"]
    refused = await shell.omni(*GENERATE)
    assert refused.status in {1, 3}
    assert "--allow-private-links" in refused.err
    assert set(internet.asked_for_clips()) <= {CLIP_HOST}
    if name not in THIS_MACHINE:  # it is asked directly, and not through the proxy
        allowed = await shell.omni("resume", "--allow-insecure", "--allow-private-links")
        assert allowed.status == 0, allowed.err
        assert internet.asked_for_clips()[-1] == NOT_PUBLIC[name].rpartition("@")[2]
    assert not any(KEY in (key or "") for host, _, key in internet.requests if host != API)


@pytest.mark.parametrize(
    "hosts",
    [(CLIP_HOST, API), (CLIP_HOST, CLIP_HOST, API), (CLIP_HOST, API, CLIP_HOST, API), (API, CLIP_HOST, API)],
    ids=len,
)
async def test_no_key_after_the_origin_was_left(internet: Internet, shell: Shell, hosts: tuple[str, ...]) -> None:
    """Not even where a redirect leads back to the API."""
    internet.links = [f"http://{host}/{step}-clip" for step, host in enumerate(hosts)]
    result = await shell.omni(*GENERATE)
    assert result.status == 0, result.err
    asked = [(host, key) for host, path, key in internet.requests if not path.startswith("/v1/")]
    assert tuple(host for host, _ in asked) == hosts
    left = next(index for index, host in enumerate(hosts) if host != API)
    assert [key for _, key in asked[left:]] == [None] * (len(hosts) - left)


@pytest.mark.parametrize(
    "link", ["file:///etc/passwd", "ftp://{}/0", "data:video/mp4;base64,AAAA", "javascript:0", "//"]
)
async def test_other_schemes_are_never_followed(internet: Internet, shell: Shell, link: str) -> None:
    """Neither in a link nor after a redirect."""
    for public in ([], [f"http://{CLIP_HOST}/0-clip"]):
        internet.links = [*public, link.format(CLIP_HOST)]
        result = await shell.omni(*GENERATE, "-o", f"clips {len(public)}")
        assert result.status in {1, 3}
        assert shell.clips(f"clips {len(public)}") == []


# An environment full of proxies

PASSWORD = "pa55w0rd"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@pytest.mark.parametrize(
    "no_proxy", slow_after(2, ["", "*", "127.0.0.1", ".example.com, localhost", "10.0.0.0/8", "::1"])
)
async def test_an_api_on_this_machine_is_asked_directly(
    internet: Internet, sandbox: SandboxThread, tmp_path: Path, no_proxy: str
) -> None:
    """Whatever proxies the environment names, none of them sees the key; nor does any text show a proxy's password."""
    proxy = internet.url.replace("://", f"://user:{PASSWORD}@")
    environment = {**sandbox.environment, **dict.fromkeys(VARIABLES, proxy), "NO_PROXY": no_proxy, "no_proxy": no_proxy}
    shell = Shell(tmp_path, environment)
    for command in (("generate", "a", "-v"), ("balance", "-v"), ("check",)):
        result = await shell.omni(*command)
        assert result.status == 0, result.err
        assert PASSWORD not in result.out + result.err
    assert internet.requests == []


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_fails_keeps_its_password(tmp_path: Path, scheme: str) -> None:
    """Not in errors, with -v, for an API elsewhere."""
    proxy = f"http://user:{PASSWORD}@127.0.0.1:1"
    environment = {"APIMART_API_KEY": KEY, "APIMART_BASE_URL": f"{scheme}://{API}"} | dict.fromkeys(VARIABLES, proxy)
    shell = Shell(tmp_path, environment)
    for command in (("balance", "-v", "--allow-insecure"), ("check", "--allow-insecure")):
        result = await shell.omni(*command)
        assert result.status != 0
        assert PASSWORD not in result.out + result.err
        assert KEY not in result.out + result.err


# Ceilings


@pytest.mark.parametrize("size", [100_000, pytest.param(9_000_000, marks=pytest.mark.slow)])
async def test_what_a_server_says_has_a_ceiling(tmp_path: Path, size: int) -> None:
    """Messages, codes and ids of any length end the job in a few lines, on the screen and in the ledger."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        text = "x" * size
        if request.path.endswith("/generations") and request.headers["Idempotency-Key"] in seen:
            return web.json_response({"code": 200, "data": [{"task_id": text}]})
        seen.add(request.headers.get("Idempotency-Key", ""))
        return web.json_response({"error": {"message": text, "code": text, "type": text}}, status=400)

    seen: set[str] = set()
    async with web_server(answer) as url:
        shell = Shell(tmp_path, {"APIMART_API_KEY": KEY, "APIMART_BASE_URL": url})
        for command in (("generate", "a", "-v"), ("status", "--all"), ("status", "--json"), ("balance",)):
            result = await shell.omni(*command)
            assert result.status in {0, 1, 2, 3}
            assert len(result.out + result.err) < 40_000
    assert (tmp_path / "clips" / "ledger.db").stat().st_size < 200_000


def test_the_lowest_versions_have_no_published_hole() -> None:
    """The bounds of the dependencies are those whose releases fixed them."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    project = tomllib.loads(text)["project"]
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    bound = re.compile(r"([a-z0-9_-]+)(?:\[\w+\])?>=([0-9.]+)", re.IGNORECASE)
    found = [match for each in (*project["dependencies"], *extras) if (match := bound.match(each))]
    bounds = {match[1]: tuple(map(int, match[2].split("."))) for match in found}
    for name, lowest in {"aiohttp": (3, 14, 5), "jinja2": (3, 1, 6), "pillow": (11, 3)}.items():
        assert bounds[name] >= lowest
