"""Checks, reads and hashes the local files of requests. `check_references` and `resolve_references` are public.

Everything here blocks on the disk: `first_reference_error` briefly, the rest for longer, so the stages call it in a
thread.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..api.parsing import encode_json
from ..errors import InvalidReference
from ..exhaustion import is_out_of_resources
from ..models import reference_files as references

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..models.request import VideoRequest


_CHUNK = 1024 * 1024  # bytes that are read at a time
# Bytes of a video that are encoded at a time. A multiple of three, because only whole triples become base64 without
# padding between the pieces.
_BASE64_CHUNK = 3 * 256 * 1024

Signature = tuple[int, int, int]
Checker: TypeAlias = "Callable[[int, bytes], str]"
Seen: TypeAlias = "dict[tuple[str, Path], InvalidReference | None]"


@dataclass(frozen=True, slots=True)
class FileContent:
    """What a file contains: its SHA-256, and for a video its length in seconds, None if unknown."""

    signature: Signature
    digest: str
    seconds: float | None = None


def resolve_references(request: VideoRequest, folder: Path | None = None) -> VideoRequest:
    """Return the request with absolute paths of its local files, so that they name the same files from anywhere.

    Relative paths are relative to `folder`; by default to the current folder. A symbolic link that stands for a file is
    not followed.
    """
    if not request.image_files and request.video_file is None:
        return request
    home = folder or Path()
    images = [_absolute(home, image) if isinstance(image, Path) else image for image in request.images]
    fields = {name: getattr(request, name) for name in request.model_fields_set} | {"images": images}
    if request.video_file is not None:
        fields["video"] = _absolute(home, request.video_file)
    return type(request)(**fields)


def _absolute(folder: Path, path: Path) -> Path:
    whole = folder / path
    try:
        return whole.parent.resolve() / whole.name
    except (OSError, RuntimeError):  # a loop of symbolic links: there is no such file
        return whole.absolute()


def first_reference_error(request: VideoRequest) -> InvalidReference | None:
    """Return what is wrong with the first bad local file, by size and first bytes; None if all are good."""
    if not request.images and request.video is None:  # the usual case, and every submit passes here
        return None
    return next(filter(None, (_file_error(*file) for file in _files(request))), None)


def check_references(request: VideoRequest, *, seen: Seen | None = None) -> list[InvalidReference]:
    """Return an error for each local file of a request that cannot be sent; [] if all of them can.

    Checks sizes and first bytes, and the length of a video if the extra `media` is installed. Blocks on the disk. Pass
    one dict as `seen` for many requests, so that each file is checked once.
    """
    seen = {} if seen is None else seen
    for field, path, check in _files(request):
        if (field, path) not in seen:
            error = _file_error(field, path, check)
            seen[field, path] = _length_error(path) if error is None and field == "video" else error
    return [error for field, path, _ in _files(request) if (error := seen[field, path]) is not None]


def _files(request: VideoRequest) -> list[tuple[str, Path, Checker]]:
    """Return each local file of a request once, with the field that names it and the check for it."""
    files: list[tuple[str, Path, Checker]] = [
        ("images", path, references.image_error) for path in dict.fromkeys(request.image_files)
    ]
    if request.video_file is not None:
        files.append(("video", request.video_file, references.video_error))
    return files


def _file_error(field: str, path: Path, check: Checker) -> InvalidReference | None:
    try:
        _check_file(path, check)
    except InvalidReference as error:
        return InvalidReference(f"{field}: {error}", path=error.path)
    except OSError:  # a shortage of this machine: the file is read again before it is sent
        return None
    return None


def _length_error(path: Path) -> InvalidReference | None:
    try:
        _check_length(path, length_of(path))
    except InvalidReference as error:
        return InvalidReference(f"video: {error}", path=error.path)
    except OSError:
        return None
    return None


def check_image(path: Path) -> None:
    """Raise `InvalidReference` for a file that cannot be uploaded as an image."""
    _check_file(path, references.image_error)


def _check_file(path: Path, check: Checker) -> None:
    try:
        if path.exists() and not path.is_file():  # opening a pipe would block
            raise InvalidReference(f"{path} is not a file", path=str(path))
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(references.HEADER_BYTES)
    except FileNotFoundError:
        raise InvalidReference(f"there is no file {path}", path=str(path)) from None
    except (OSError, ValueError) as error:  # a name with a null character is a ValueError
        if is_out_of_resources(error):
            raise
        raise InvalidReference(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}", path=str(path)
        ) from None
    if problem := check(size, head):
        raise InvalidReference(f"{path} {problem}", path=str(path))


def is_missing(error: InvalidReference) -> bool:
    """Return whether the problem is that the file does not exist."""
    try:
        return not Path(error.path).exists()
    except (OSError, ValueError):
        return False


# Reading whole files


def signature_of(path: Path) -> Signature:
    """Return what changes when a file changes, without reading it."""
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns, facts.st_ino


def read_image(path: Path) -> FileContent:
    """Check an image and return its hash. Raise `InvalidReference`, or `OSError` if this machine is short of files."""
    check_image(path)
    return _read(path)


def read_video(path: Path) -> FileContent:
    """Check a video, and its length if the extra `media` is installed; return its hash.

    Raise `InvalidReference`, or `OSError` if this machine is short of files.
    """
    _check_file(path, references.video_error)
    content = _read(path)
    seconds = length_of(path)
    _check_length(path, seconds)
    return FileContent(content.signature, content.digest, seconds)


def _read(path: Path) -> FileContent:
    try:
        signature, digest = signature_of(path), hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        if is_out_of_resources(error):
            raise
        raise InvalidReference(f"{path} cannot be read: {error.strerror or error}", path=str(path)) from None
    return FileContent(signature, digest.hexdigest())


def length_of(path: Path) -> float | None:
    """Return the length of a video in seconds; None if unknown or without `av`. Raise `InvalidReference`."""
    if importlib.util.find_spec("av") is None:
        return None
    import av  # noqa: PLC0415 - of an extra

    try:
        # Only the demuxer of the format that the file begins with: hundreds of others would read foreign bytes, too.
        with av.open(str(path), format=_demuxer_of(path)) as container:
            if not container.streams.video:
                raise InvalidReference(f"{path} contains no video", path=str(path))
            stream = container.streams.video[0]
            if stream.duration and stream.time_base:
                return float(stream.duration * stream.time_base)
            return container.duration / av.time_base if container.duration else None
    except (av.error.FFmpegError, OSError) as error:
        if is_out_of_resources(error):
            raise
        raise InvalidReference(f"{path} is a video that cannot be read: {error}", path=str(path)) from None


def _demuxer_of(path: Path) -> str:
    with path.open("rb") as file:
        kind = references.video_media_type(file.read(references.HEADER_BYTES))
    return {"video/webm": "matroska", "video/quicktime": "mov"}.get(kind, "mp4")


def _check_length(path: Path, seconds: float | None) -> None:
    if seconds is not None and (problem := references.video_length_error(seconds)):
        raise InvalidReference(f"{path} {problem}", path=str(path))


def body_with_video(request: VideoRequest, urls: Sequence[str], digest: str, added: dict[str, str]) -> bytes | None:
    """Return the body of a request with its local video as a data URI; None if the video has changed since.

    The video is put between the two halves of the body, piece by piece. As one string it would be in memory four times,
    and encoding that as JSON would hold up every other thread.
    """
    path = request.video_file
    assert path is not None
    try:
        with path.open("rb") as file:
            kind = references.video_media_type(file.read(references.HEADER_BYTES))
            file.seek(0)
            pieces: list[bytes] = []
            found_digest = hashlib.sha256()
            while (chunk := file.read(_BASE64_CHUNK)) and len(pieces) * _BASE64_CHUNK < references.MAX_VIDEO_BYTES:
                found_digest.update(chunk)
                pieces.append(base64.b64encode(chunk))
    except OSError:
        return None
    if found_digest.hexdigest() != digest:
        return None
    head, mark = f"data:{kind};base64,", f'{digest}"'
    before, found, after = encode_json(request.to_payload(urls, head + digest) | added).partition(
        f"{head}{mark}".encode()
    )
    assert found
    return b"".join([before, head.encode(), *pieces, b'"', after])
