"""Files are written only where nothing else is: no link, pipe or device is written through."""

from __future__ import annotations

import errno
import os
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import files
from omni_async.files import NameTaken, has_content_of, make_folder, open_regular, publish, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _link_twice(path: Path, target: Path) -> None:
    path.with_name("hop").symlink_to(target)
    path.symlink_to("hop")


THINGS: dict[str, Callable[[Path, Path], object]] = {
    "a link": lambda path, target: path.symlink_to(target),
    "a relative link": lambda path, target: path.symlink_to(target.name),
    "a link to a link": _link_twice,
    "a dangling link": lambda path, _: path.symlink_to(path.with_name("nowhere")),
    "a link to itself": lambda path, _: path.symlink_to(path),
    "a link to a device": lambda path, _: path.symlink_to("/dev/full"),
    "a link to a folder": lambda path, _: path.symlink_to(path.parent),
    "a pipe": lambda path, _: os.mkfifo(path),
    "a folder": lambda path, _: path.mkdir(),
}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return a file that must stay as it is, which things lead to."""
    target = tmp_path / "target"
    target.write_text("mine")
    return target


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """Return the result of work, or fail if it takes too long: opening a pipe may never return."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(work())
        except OSError as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert results, "it waits"
    return results[0]


@pytest.mark.parametrize("has_nofollow", [True, False], ids=["", "without O_NOFOLLOW"])
@pytest.mark.parametrize("thing", THINGS)
def test_nothing_but_a_regular_file_is_opened(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, thing: str, has_nofollow: bool
) -> None:
    """The error names the file and the remedy; what it leads to is unchanged, and nothing is created."""
    if not has_nofollow:
        monkeypatch.setattr(files, "_SAFE", files._SAFE & ~os.O_NOFOLLOW)
    path = tmp_path / "file"
    THINGS[thing](path, target)
    before = sorted(tmp_path.iterdir())
    error = within(5, lambda: open_regular(path))
    assert isinstance(error, OSError)
    assert error.filename == str(path)
    assert "remove it" in str(error.strerror)
    assert isinstance(within(5, lambda: open_regular(path, exclusive=True)), NameTaken)
    assert target.read_text() == "mine"
    assert sorted(tmp_path.iterdir()) == before


def test_a_link_that_appears_after_the_look_is_not_followed(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system itself refuses it."""
    path = tmp_path / "file"
    path.symlink_to(target)
    monkeypatch.setattr(files, "_check_regular", lambda *_: None)
    with pytest.raises(OSError, match="symbolic link"):
        open_regular(path)


def test_a_regular_file_is_opened_as_it_is(tmp_path: Path) -> None:
    """An existing file keeps its content and mode; a new one has the mode that was asked for."""
    path = tmp_path / "file"
    path.write_text("kept")
    path.chmod(0o640)
    os.close(open_regular(path, mode=0o600))
    assert path.read_text() == "kept"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    os.close(open_regular(tmp_path / "new", mode=0o600))
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


@pytest.fixture(params=[None, errno.EPERM, errno.ENOTSUP, errno.EXDEV, errno.EACCES])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the file system have hard links, or not."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(request.param, "refused")

    if request.param is not None:
        monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("thing", [*THINGS, "a file", "an empty file"])
def test_publishing_replaces_nothing(tmp_path: Path, target: Path, thing: str) -> None:
    """Whatever has the name stays, and the finished file too."""
    source, path = tmp_path / "clip.part", tmp_path / "clip"
    source.write_text("clip")
    things = THINGS | {"a file": lambda *_: path.write_text("theirs"), "an empty file": lambda *_: path.touch()}
    things[thing](path, target)
    before = path.lstat()
    with pytest.raises(NameTaken, match="clip"):
        publish(source, path)
    assert path.lstat() == before
    assert source.read_text() == "clip"
    assert target.read_text() == "mine"


@pytest.mark.usefixtures("links")
def test_publishing_gives_the_name(tmp_path: Path) -> None:
    """Afterwards there is one file, under its final name."""
    source, path = tmp_path / "clip.part", tmp_path / "clip"
    source.write_text("clip")
    publish(source, path)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("clip", "clip")]
    assert path.stat().st_nlink == 1


@pytest.mark.parametrize("thing", [thing for thing in THINGS if thing != "a folder"])
def test_a_page_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path, target: Path, thing: str) -> None:
    """`write_atomically` puts a new file in its place."""
    path = tmp_path / "page"
    THINGS[thing](path, target)
    write_atomically(path, lambda file: file.write(b"page"))
    assert path.read_text() == "page"
    assert not path.is_symlink()
    assert target.read_text() == "mine"
    assert not list(tmp_path.glob(".*"))


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """The old page stays, and no temporary file."""

    def fail(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "page"
    path.write_text("old")
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, fail)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("page", "old")]


@pytest.mark.parametrize("thing", [thing for thing in THINGS if thing != "a folder"])
def test_a_folder_that_is_a_link_is_refused(tmp_path: Path, target: Path, thing: str) -> None:
    """Also one that leads to a folder: what is written there would be written elsewhere."""
    path = tmp_path / "folder"
    THINGS[thing](path, target)
    with pytest.raises(OSError, match="remove it"):
        make_folder(path)


def test_a_folder_is_created_or_kept(tmp_path: Path) -> None:
    """Making it twice changes nothing."""
    for _ in range(2):
        make_folder(tmp_path / "folder")
        assert (tmp_path / "folder").is_dir()


@pytest.mark.parametrize(("other", "is_same"), [("clip", True), ("clap", False), ("cli", False), ("clips", False)])
def test_the_same_content_is_recognised(tmp_path: Path, other: str, is_same: bool) -> None:
    """Byte for byte; a link to it is not the same file."""
    source, path = tmp_path / "a", tmp_path / "b"
    source.write_text("clip")
    path.write_text(other)
    assert has_content_of(path, source) is is_same
    (tmp_path / "link").symlink_to(source)
    assert not has_content_of(tmp_path / "link", source)
    assert not has_content_of(tmp_path / "missing", source)
