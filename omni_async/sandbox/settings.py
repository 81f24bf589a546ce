"""Every knob of the sandbox in one frozen object, checked on creation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from .faults import validate_fault

if TYPE_CHECKING:
    from collections.abc import Mapping


T = TypeVar("T")

CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "retry_after": ("seconds", "date", "none", "wrong", "huge"),
        "submit_shape": ("list", "object"),
        "url_shape": ("list", "string"),
        "progress": ("true", "guess", "none"),
    }
)


def option(default: T, says: str) -> T:
    """A field with a default and the sentence the command line shows for it."""
    made: T = field(default=default, metadata={"says": says})
    return made


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxSettings:
    """How a sandbox behaves. `SandboxSettings(per_minute=60, faults={"http_500": 0.1})`."""

    host: str = option("127.0.0.1", "address to listen on; loopback only unless told otherwise")
    port: int = option(0, "port of the API; 0 takes a free one")
    cdn_port: int = option(0, "port of the origin that serves the clips; 0 takes a free one")
    cert: str | None = option(None, "file with a certificate (PEM): serve https, API and clips")
    key: str | None = option(None, "file with the certificate's private key, if it is another one")
    api_key: str | None = option(
        None, "the only right key; without it any key is right that holds neither wrong nor invalid"
    )

    per_minute: float | None = option(None, "submits per minute and key, as a token bucket")
    burst: int = option(1, "size of that bucket")
    window: tuple[int, float] | None = option(None, "at most N submits in a fixed window of SECONDS")
    max_in_flight: int | None = option(None, "tasks at once per key")
    checks_per_second: float | None = option(None, "status requests per second and key")
    retry_after: str = option("seconds", "what the Retry-After of a 429 says")

    median: float = option(3.0, "seconds half of the tasks are done in")
    sigma: float = option(0.35, "spread of these times (lognormal)")
    speed: float = option(
        1.0, "divides every duration of tasks, their estimates and webhook pauses; limits stay in real time"
    )
    fail_rate: float = option(0.0, "share of tasks that end as failed, at no cost")
    credits: float | None = option(None, "credits on the account (10 = 1 USD); none is unlimited")
    key_credits: float | None = option(None, "credits that each key may spend of these; none is all of them")
    seed: int = option(0, "same seed, same jitter")
    latency: float = option(0.0, "seconds before each answer of the API")

    faults: Mapping[str, float] = field(
        default_factory=dict, metadata={"says": "this fault with this probability; 'list' shows all"}
    )
    foreign_parents: bool = option(False, "go on from tasks that it does not know, as of an earlier sandbox")
    idempotency: bool = option(True, "honour Idempotency-Key")
    submit_shape: str = option("list", "shape of data in the reply to a submit")
    url_shape: str = option("list", "shape of url in a result")
    progress: str = option(
        "true", "what progress tells: the share of a task's time that is over, that of the estimate, or nothing"
    )
    seconds: int | None = option(None, "length of every clip, 3 to 10; without it the model chooses")
    videos_per_task: int = option(1, "videos each task makes")

    link_lifetime: float = option(86400.0, "seconds a link to a clip lives")
    upload_lifetime: float = option(259200.0, "seconds a link to an uploaded picture lives")
    prerendered: bool = option(False, "serve one clip for all tasks, made distinct by a trailing box: for loads")
    clip_bytes: int | None = option(None, "pad every clip to this many bytes")
    cdn_rate: float | None = option(None, "bytes per second of each transfer")
    render_workers: int = option(1, "processes that render")

    def __post_init__(self) -> None:
        for each in fields(self):
            value, (fits, says) = getattr(self, each.name), RULES.get(each.name, ANYTHING)
            if not fits(value) and not (value is None and each.default is None):
                raise ValueError(f"{each.name}={value!r}: must be {says}")
        self._check_window()
        self._check_faults()
        if self.key is not None and self.cert is None:
            raise ValueError("key: a private key needs its certificate, cert=FILE")

    def _check_window(self) -> None:
        if self.window is None:
            return
        try:
            count, seconds = self.window
            right = count >= 1 and seconds > 0
        except (TypeError, ValueError):
            right = False
        if not right:
            raise ValueError(f"window={self.window!r}: must be (submits, seconds), for example (60, 60.0)")
        object.__setattr__(self, "window", (int(count), float(seconds)))

    def _check_faults(self) -> None:
        for name, chance in self.faults.items():
            validate_fault(name, chance)
        object.__setattr__(self, "faults", MappingProxyType(dict(self.faults)))

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values: `SandboxSettings(**settings.to_json())` is the same again."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {"faults": dict(self.faults)}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _chance(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


ANYTHING = (lambda _: True, "")
POSITIVE = (lambda value: _number(value) and value > 0, "a number above 0")
NOT_NEGATIVE = (lambda value: _number(value) and value >= 0, "a number, 0 or more")
AT_LEAST_ONE = (lambda value: _whole(value) and value >= 1, "a whole number, 1 or more")
PORT = (lambda value: _whole(value) and 0 <= value <= 65535, "a port, 0 to 65535 (0 takes a free one)")
FLAG = (lambda value: isinstance(value, bool), "True or False")
NAME = (lambda value: isinstance(value, str) and value != "", "a text that is not empty")

RULES: Mapping[str, tuple[Any, str]] = MappingProxyType(
    {
        "host": NAME, "port": PORT, "cdn_port": PORT, "api_key": NAME, "cert": NAME, "key": NAME,
        "per_minute": POSITIVE, "burst": AT_LEAST_ONE, "max_in_flight": AT_LEAST_ONE, "checks_per_second": POSITIVE,
        "median": NOT_NEGATIVE, "sigma": NOT_NEGATIVE, "speed": POSITIVE, "credits": NOT_NEGATIVE,
        "key_credits": NOT_NEGATIVE,
        "fail_rate": (_chance, "a probability within 0 and 1"), "latency": NOT_NEGATIVE,
        "seconds": (lambda value: _whole(value) and 3 <= value <= 10, "a whole number, 3 to 10"),
        "seed": (_whole, "a whole number"), "idempotency": FLAG, "prerendered": FLAG, "foreign_parents": FLAG,
        "videos_per_task": AT_LEAST_ONE, "render_workers": AT_LEAST_ONE,
        "link_lifetime": POSITIVE, "upload_lifetime": POSITIVE, "cdn_rate": POSITIVE, "clip_bytes": AT_LEAST_ONE,
    }
    | {
        name: (lambda value, among=among: value in among, "one of " + ", ".join(among))
        for name, among in CHOICES.items()
    }
)  # fmt: skip
