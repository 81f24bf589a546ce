"""Looks at local files that requests refer to. All of it waits for the disk: `find_fault` a moment, the rest longer."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..api.parsing import encode_json
from ..errors import InvalidReference
from ..models import reference_files as references

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..models.request import VideoRequest


_CHUNK = 1024 * 1024
_TRIPLES = 3 * 256 * 1024  # bytes: whole triples become base64 without padding

Signature = tuple[int, int, int]
Judge: TypeAlias = "Callable[[int, bytes], str]"
Seen: TypeAlias = "dict[tuple[str, Path], InvalidReference | None]"


@dataclass(frozen=True, slots=True)
class FileContent:
    """What a file holds: its SHA-256, and the length of a video in seconds, where that can be told."""

    signature: Signature
    digest: str
    seconds: float | None = None


def resolve_references(request: VideoRequest, folder: Path | None = None) -> VideoRequest:
    """Give a request that names its local files by absolute paths: one file, one name, wherever it is asked for from.

    Relative paths are relative to `folder`, else to the current one. A link that stands for a file is not followed.
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
    except (OSError, RuntimeError):  # links in a circle: nothing is there
        return whole.absolute()


def first_reference_error(request: VideoRequest) -> InvalidReference | None:
    """Give what is wrong with the first bad local file of a request, as far as its first bytes and its size tell."""
    if not request.images and request.video is None:  # as mostly, and every submit comes by here
        return None
    return next(filter(None, (_fault(*file) for file in _files(request))), None)


def check_references(request: VideoRequest, *, seen: Seen | None = None) -> list[InvalidReference]:
    """Give what is wrong with the local files that a request refers to, an error for each; [] if all is well.

    Looks at sizes and first bytes, and at the length of a video where the extra `media` is installed. Blocking. Who
    checks many requests gives one dict as `seen` for all of them, so that each file is looked at just once.
    """
    seen = {} if seen is None else seen
    for field, path, judge in _files(request):
        if (field, path) not in seen:
            fault = _fault(field, path, judge)
            seen[field, path] = _length_fault(path) if fault is None and field == "video" else fault
    return [fault for field, path, _ in _files(request) if (fault := seen[field, path]) is not None]


def _files(request: VideoRequest) -> list[tuple[str, Path, Judge]]:
    """Give each local file of a request once, with the field that names it, and who judges it."""
    files: list[tuple[str, Path, Judge]] = [
        ("images", path, references.image_error) for path in dict.fromkeys(request.image_files)
    ]
    if request.video_file is not None:
        files.append(("video", request.video_file, references.video_error))
    return files


def _fault(field: str, path: Path, judge: Judge) -> InvalidReference | None:
    try:
        _look(path, judge)
    except InvalidReference as fault:
        return InvalidReference(f"{field}: {fault}", path=fault.path)
    return None


def _length_fault(path: Path) -> InvalidReference | None:
    try:
        _check_length(path, length_of(path))
    except InvalidReference as fault:
        return InvalidReference(f"video: {fault}", path=fault.path)
    return None


def check_image(path: Path) -> None:
    """Raise `InvalidReference` for what cannot be uploaded as a picture."""
    _look(path, references.image_error)


def _look(path: Path, judge: Judge) -> None:
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise InvalidReference(f"{path} is no file", path=str(path))
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(references.HEADER_BYTES)
    except FileNotFoundError:
        raise InvalidReference(f"there is no file {path}", path=str(path)) from None
    except (OSError, ValueError) as error:  # a name with a null character is a ValueError
        raise InvalidReference(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}", path=str(path)
        ) from None
    if fault := judge(size, head):
        raise InvalidReference(f"{path} {fault}", path=str(path))


def is_missing(fault: InvalidReference) -> bool:
    """Tell whether what is wrong with a file is that there is none."""
    try:
        return not Path(fault.path).exists()
    except (OSError, ValueError):
        return False


# Reading it all


def signature_of(path: Path) -> Signature:
    """Give what changes when a file does, short of reading it."""
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns, facts.st_ino


def read_image(path: Path) -> FileContent:
    """Check a picture and give its content's hash. Raises `InvalidReference`."""
    check_image(path)
    return _read(path)


def read_video(path: Path) -> FileContent:
    """Check a video, also its length where that can be told, and give its content's hash. Raises `InvalidReference`."""
    _look(path, references.video_error)
    content = _read(path)
    seconds = length_of(path)
    _check_length(path, seconds)
    return FileContent(content.signature, content.digest, seconds)


def _read(path: Path) -> FileContent:
    try:
        signature, whole = signature_of(path), hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                whole.update(chunk)
    except OSError as error:
        raise InvalidReference(f"{path} cannot be read: {error.strerror or error}", path=str(path)) from None
    return FileContent(signature, whole.hexdigest())


def length_of(path: Path) -> float | None:
    """Give how many seconds a video lasts; None where `av` is not installed. Raises `InvalidReference`."""
    if importlib.util.find_spec("av") is None:
        return None
    import av  # noqa: PLC0415 - of an extra

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InvalidReference(f"{path} holds no video", path=str(path))
            stream = container.streams.video[0]
            if stream.duration and stream.time_base:
                return float(stream.duration * stream.time_base)
            return container.duration / av.time_base if container.duration else None
    except (av.error.FFmpegError, OSError) as error:
        raise InvalidReference(f"{path} is a video that cannot be read: {error}", path=str(path)) from None


def _check_length(path: Path, seconds: float | None) -> None:
    if seconds is not None and (fault := references.video_length_error(seconds)):
        raise InvalidReference(f"{path} {fault}", path=str(path))


def body_with_video(request: VideoRequest, links: Sequence[str], digest: str, more: dict[str, str]) -> bytes | None:
    """Give the bytes of a request's body with its local video in it; None if that is not what it was any more.

    The video is put between the two halves of the body, piece by piece: as one text it would be in memory four times,
    and to write that as JSON would hold up every other thread.
    """
    path = request.video_file
    assert path is not None
    try:
        with path.open("rb") as file:
            kind = references.video_media_type(file.read(references.HEADER_BYTES))
            file.seek(0)
            pieces: list[bytes] = []
            whole = hashlib.sha256()
            while (chunk := file.read(_TRIPLES)) and len(pieces) * _TRIPLES < references.MAX_VIDEO_BYTES:
                whole.update(chunk)
                pieces.append(base64.b64encode(chunk))
    except OSError:
        return None
    if whole.hexdigest() != digest:
        return None
    head, mark = f"data:{kind};base64,", f'{digest}"'
    before, found, after = encode_json(request.to_payload(links, head + digest) | more).partition(
        f"{head}{mark}".encode()
    )
    assert found
    return b"".join([before, head.encode(), *pieces, b'"', after])
