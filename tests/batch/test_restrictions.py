"""Lines that name files of other folders or webhooks are refused, however they are written, unless that is allowed."""

from __future__ import annotations

import json
import os
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any, cast

import pytest
from PIL import Image

from omni_async import batch
from omni_async.batch import restrictions
from tests.support.prompt_files import as_jsonl, problems, write

if TYPE_CHECKING:
    from collections.abc import Callable

EVIL = "https://evil.example/collect"


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """Return the folder of a prompt file with a picture; a private picture lies outside."""
    folder = tmp_path / "orders"
    (folder / "images").mkdir(parents=True)
    for path in (folder / "cat.png", folder / "images" / "cat.png", tmp_path / "private.png"):
        Image.new("RGB", (8, 8)).save(path)
    return folder


def _link(folder: Path, target: str | Path, name: str = "linked.png") -> str:
    (folder / name).symlink_to(target)
    return name


OUTSIDE: dict[str, Callable[[Path], str]] = {
    "parent": lambda _: "../private.png",
    "down and up": lambda _: "images/../../private.png",
    "absolute": lambda folder: str(folder.parent / "private.png"),
    "similar name": lambda folder: f"../{folder.name}-2/cat.png",
    "the folder itself": lambda _: "..",
    "link": lambda folder: _link(folder, "../private.png"),
    "absolute link": lambda folder: _link(folder, folder.parent / "private.png"),
    "link to a link": lambda folder: _link(folder, _link(folder, "../private.png", "first.png")),
    "linked folder": lambda folder: _link(folder, "..", "up") + "/private.png",
    "dangling link": lambda folder: _link(folder, "../later.png"),
    "missing": lambda _: "../missing.png",
    "process": lambda _: "/proc/self/cwd/private.png",
    "environment": lambda _: "/proc/self/environ",
    "standard input": lambda _: "/dev/stdin",
    "device": lambda _: "/dev/zero",
    "double slash": lambda folder: f"/{folder.parent}/private.png",
}


@pytest.mark.parametrize("field", ["images", "video"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_file_outside_the_folder_is_refused_with_its_line(orders: Path, name: str, field: str) -> None:
    """The message has the line, the path as written, and the remedy; nothing else is said of the file."""
    path = OUTSIDE[name](orders)
    line = {"prompt": "a", field: [path] if field == "images" else path}
    ((number, reason),) = problems(orders, "p.jsonl", as_jsonl({"prompt": "good"}, line))
    assert number == 2
    assert reason.startswith(f"{field}: {path!r} leads to '/")
    assert "outside the folder of this file" in reason
    assert "--allow-outside" in reason
    assert "allow_outside=True" in reason


@pytest.mark.parametrize(
    "path",
    [
        "cat.png",
        "./cat.png",
        "images/cat.png",
        "images/../cat.png",
        "../orders/cat.png",
        "{folder}/cat.png",
        "linked.png",
        "up/orders/cat.png",
    ],
)
def test_a_file_inside_the_folder_is_accepted_however_it_is_named(orders: Path, path: str) -> None:
    """Only where a path ends matters, links included."""
    _link(orders, "images/cat.png")
    _link(orders, "..", "up")
    (line,) = batch.read(write(orders, "p.jsonl", as_jsonl({"prompt": "a", "images": [path.format(folder=orders)]})))
    assert line.request.image_files


@pytest.mark.parametrize(
    "name", ["~/private.png", "~root/private.png", "$HOME/x.png", "file:/etc/x.png", "%2e%2e/x.png"]
)
def test_nothing_in_a_path_is_expanded(orders: Path, name: str) -> None:
    """A name that a shell or a browser would expand is a name in the folder, where no such file is."""
    ((_, reason),) = problems(orders, "p.jsonl", as_jsonl({"prompt": "a", "images": [name]}))
    assert reason == f"images: there is no file {orders.resolve() / name}"


@pytest.mark.parametrize("name", ["file:///etc/x.png", "FILE:///etc/x.png", "smb://h/x.png", "data:image/png;base64,"])
def test_other_urls_are_no_files(orders: Path, name: str) -> None:
    """A URL that is not http(s) is refused before it could name a file."""
    ((_, reason),) = problems(orders, "p.jsonl", as_jsonl({"prompt": "a", "images": [name]}))
    assert "is neither a file nor an http(s) URL" in reason


def test_pipes_and_loops_in_the_folder_are_no_files(orders: Path) -> None:
    """What cannot be uploaded is reported without being opened, which would block."""
    os.mkfifo(orders / "pipe.png")
    _link(orders, "loop.png", "loop.png")
    lines = as_jsonl(*({"prompt": "a", "images": [name]} for name in ("pipe.png", "loop.png", "nul\0.png")))
    found = problems(orders, "p.jsonl", lines)
    assert [number for number, _ in found] == [1, 2, 3]
    assert "is not a file" in found[0][1]


def test_the_folder_may_be_reached_through_a_link(orders: Path) -> None:
    """The folder is where its own links lead, and absolute paths of it are inside, too."""
    alias = orders.parent / "alias"
    alias.symlink_to(orders)
    text = as_jsonl(*({"prompt": "a", "images": [str(path / "cat.png")]} for path in (orders, alias, Path())))
    assert len(batch.read(write(alias, "p.jsonl", text))) == 3


def test_a_relative_prompt_file_has_the_folder_that_it_is_in(orders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of `p.jsonl` is the working directory."""
    monkeypatch.chdir(orders)
    write(orders, "p.jsonl", as_jsonl({"prompt": "a", "images": ["cat.png"]}))
    assert len(batch.read("p.jsonl")) == 1
    write(orders, "p.jsonl", as_jsonl({"prompt": "a", "images": ["../private.png"]}))
    with pytest.raises(batch.InvalidBatchFile, match="outside"):
        batch.read("p.jsonl")


def test_a_complete_line_is_checked_too(orders: Path) -> None:
    """A ledger from the same person could say that a line is complete, so its word does not count here."""
    file = write(orders, "p.jsonl", as_jsonl({"prompt": "a", "images": ["../private.png"]}))
    with pytest.raises(batch.InvalidBatchFile, match="outside"):
        batch.read(file, is_done=lambda _: True)


def test_what_is_allowed_is_accepted(orders: Path) -> None:
    """Each permission is for one kind, and the other is still refused."""
    lines = as_jsonl({"prompt": "a", "images": ["../private.png"]}, {"prompt": "b", "extra": {"webhook": EVIL}})
    file = write(orders, "p.jsonl", lines)
    for outside, webhooks, refused in ((True, False, [2]), (False, True, [1]), (False, False, [1, 2])):
        with pytest.raises(batch.InvalidBatchFile) as caught:
            batch.read(file, allow_outside=outside, allow_webhooks=webhooks)
        assert [problem.number for problem in caught.value.problems] == refused
    first, second = batch.read(file, allow_outside=True, allow_webhooks=True)
    assert first.request.image_files == (orders.parent.resolve() / "private.png",)
    assert second.request.to_payload()["webhook"] == EVIL


def test_every_problem_of_every_line_is_reported(orders: Path) -> None:
    """Two files and a webhook of one line are three problems; the next line has its own."""
    lines = as_jsonl(
        {"prompt": "a", "images": ["../1.png", "cat.png", "../2.png"], "extra": {"webhook": EVIL}},
        {"id": "x", "prompt": "b", "images": ["../1.png"]},
        {"prompt": "c", "extend_from": "x", "extra": {"callback": EVIL}},
    )
    assert [number for number, _ in problems(orders, "p.jsonl", lines)] == [1, 1, 1, 2, 3]


def test_the_same_rules_hold_for_csv(orders: Path) -> None:
    """Cells are checked like the fields of an object."""
    text = f'prompt,images,extra\na,cat.png; ../private.png,\nb,,"{{""webhook"": ""{EVIL}""}}"\n'
    found = problems(orders, "p.csv", text)
    assert [number for number, _ in found] == [2, 3]


WEBHOOKS: list[dict[str, Any]] = [
    *({name: EVIL} for name in ("webhook", "Webhook", "WEBHOOK", "web_hook", "web-hook", "webhook_url", "webhookUrl")),
    *(
        {name: EVIL}
        for name in ("webhooks", "hook", "hook_url", "callback", "callback_url", "callBackURL", "call_back")
    ),
    *({name: EVIL} for name in ("notify_url", "notifyHook", "notification_url", "on_complete_callback", "postback")),
    *(
        {name: EVIL}
        for name in ("webhoo\u212a", "\uff57ebhook", "web\u200bhook", " webhook ", "webhook.url", "x[webhook]")
    ),
    *({name: EVIL} for name in ("push_url", "result_url", "return_url", "upload_url", "webhook_uri")),
    {"webhook": [EVIL]},
    {"webhook": {"url": EVIL}},
    {"options": {"webhook": EVIL}},
    {"options": [1, [{"deep": {"Webhook_URL": EVIL}}]]},
    {"metadata": {"webhook": "", "callback": EVIL}},
]


@pytest.mark.parametrize("extra", WEBHOOKS, ids=json.dumps)
def test_a_webhook_is_refused_in_any_spelling_and_at_any_depth(orders: Path, extra: dict[str, Any]) -> None:
    """The message has the line, the field, the address and the remedy."""
    ((number, reason),) = problems(orders, "p.jsonl", as_jsonl({"prompt": "a"}, {"prompt": "b", "extra": extra}))
    assert number == 2
    assert reason.startswith("extra: ")
    assert EVIL in reason
    assert "--allow-webhooks" in reason
    assert "allow_webhooks=True" in reason


@pytest.mark.parametrize(
    "extra",
    [
        {"nsfw_check": True},
        {"image_with_roles": [{"url": "https://example.com/a.png", "role": "style"}]},
        {"audio_url": "https://example.com/a.mp3", "source_url": "https://example.com/b.mp4"},
        {"webhook": ""},
        {"callback": False, "notify": {}, "hook": []},
        {"style": "a webhook", "negative_prompt": "callback", "hooked": "yes", "hook_text": "Watch this"},
    ],
    ids=json.dumps,
)
def test_other_fields_are_no_webhooks(orders: Path, extra: dict[str, Any]) -> None:
    """Fields that send nothing anywhere are accepted without a question."""
    (line,) = batch.read(write(orders, "p.jsonl", as_jsonl({"prompt": "a", "extra": extra})))
    assert line.request.extra == extra


@pytest.mark.parametrize("name", ["webhook", "callback_url", "Notify-URL"])
def test_a_webhook_as_a_field_of_its_own_is_unknown(orders: Path, name: str) -> None:
    """The message says where such a field belongs, and what it needs there."""
    for file, text in (("p.jsonl", as_jsonl({"prompt": "a", name: EVIL})), ("p.csv", f"prompt,{name}\na,{EVIL}\n")):
        ((_, reason),) = problems(orders, file, text)
        assert f"{name!r}; fields like this belong in extra, and need --allow-webhooks" in reason


def test_a_deeply_nested_object_is_searched_without_recursion() -> None:
    """No depth of nesting ends the search early."""
    fields: dict[str, Any] = {"webhook": EVIL}
    for _ in range(20_000):
        fields = {"x": fields}
    assert [value for _, value in restrictions.find_webhooks(fields)] == [EVIL]


@pytest.mark.parametrize(
    ("path", "is_network_path"),
    [
        ("//evil.example/share/x.png", True),
        (r"\\evil.example\share\x.png", True),
        (r"\\.\pipe\x", True),
        (r"\\?\C:\x.png", True),
        (r"D:\x.png", False),
        ("images/x.png", False),
    ],
)
def test_network_paths_of_windows_are_recognised_by_their_text(path: str, is_network_path: bool) -> None:
    """They are refused unresolved: resolving one would log in to the server that it names."""
    whole = PureWindowsPath(r"C:\orders") / path
    assert restrictions._is_network_path(cast("Path", whole)) is is_network_path
