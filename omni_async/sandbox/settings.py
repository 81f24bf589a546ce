"""The settings of a sandbox: one frozen object, checked on creation.

`Sandbox`, `SandboxProcess` and `omni_async.testing.SandboxThread` take them as keyword arguments. The command line has
an option for each, with the help text that follows the default here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from .faults import validate_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


T = TypeVar("T")

CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "retry_after": ("seconds", "date", "none", "wrong", "huge", "body"),
        "submit_shape": ("list", "object"),
        "url_shape": ("list", "string"),
        "progress": ("true", "guess", "none"),
    }
)


def option(default: T, help_text: str) -> T:
    """Return a dataclass field with a default and the help text that the command line shows for it."""
    made: T = field(default=default, metadata={"help": help_text})
    return made


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxSettings:
    """How a sandbox behaves. Durations are in seconds. Raises `ValueError` for a value that makes no sense.

    Example::

        from omni_async.sandbox import SandboxSettings

        settings = SandboxSettings(per_minute=60, faults={"http_500": 0.1})
        assert SandboxSettings(**settings.to_json()) == settings
    """

    host: str = option("127.0.0.1", "address to listen on; 127.0.0.1 accepts connections from this machine only")
    port: int = option(0, "port of the API; 0 takes a free one")
    cdn_port: int = option(0, "port of the second server, which serves the clips; 0 takes a free one")
    cert: str | None = option(None, "file with a certificate (PEM); the API and the clips are then served over https")
    key: str | None = option(None, "file with the private key of the certificate, if it is not in the same file")
    api_key: str | None = option(
        None, "the only API key accepted; by default any key that does not contain 'wrong' or 'invalid'"
    )

    per_minute: float | None = option(None, "submits per minute for each API key, as a token bucket")
    burst: int = option(1, "capacity of the token bucket: submits accepted in a burst")
    window: tuple[int, float] | None = option(None, "at most N submits in each fixed window of SECONDS")
    max_in_flight: int | None = option(None, "unfinished tasks for each API key")
    checks_per_second: float | None = option(None, "status requests per second for each API key")
    retry_after: str = option("seconds", "form of the Retry-After header of a 429, or its JSON body says it")

    median: float = option(3.0, "median duration of a task, in seconds")
    sigma: float = option(0.35, "spread of the durations: sigma of their lognormal distribution")
    speed: float = option(
        1.0, "divides the durations and estimates of tasks and the delays of webhooks; limits stay in real time"
    )
    fail_rate: float = option(0.0, "share of tasks that fail; they cost nothing")
    credits: float | None = option(None, "credits of the account (10 credits = 1 USD); unlimited by default")
    key_credits: float | None = option(
        None, "credits that each API key may spend; by default as much as the account has"
    )
    usage_unavailable: bool = option(False, "answer questions about the bill with a 503 usage_unavailable")
    seed: int = option(0, "seed of all random numbers: the same seed gives the same durations and faults")
    latency: float = option(0.0, "delay of every response of the API, in seconds")

    faults: Mapping[str, float] = field(
        default_factory=dict,
        metadata={"help": "inject this fault with probability P, 1 without a P; --fault list shows all faults"},
    )
    retired_model: str | None = option(
        None, "a model that is no longer served: not listed, and its submits get a 503 model_not_found"
    )
    foreign_parents: bool = option(
        False, "accept extensions of tasks it does not know, such as those of an earlier sandbox"
    )
    idempotency: bool = option(True, "honour the Idempotency-Key header")
    declare_idempotency: bool | None = option(
        None, "declare the Idempotency-Key header in the schemas of the models; by default if it is honoured"
    )
    submit_shape: str = option("list", "shape of data in the response to a submit")
    url_shape: str = option("list", "shape of url in the result of a task")
    progress: str = option(
        "true",
        "what progress reports: the real share of the duration (true), that of the estimate (guess), or nothing (none)",
    )
    seconds: int | None = option(None, "length of every clip, 3 to 10; by default the model chooses")
    videos_per_task: int = option(1, "videos that each task produces")

    link_lifetime: float = option(86400.0, "seconds until the URL of a clip expires")
    upload_lifetime: float = option(259200.0, "seconds until the URL of an uploaded image expires")
    prerendered: bool = option(
        False, "serve the same clip for every task, made distinct by a trailing box; for load tests"
    )
    clip_bytes: int | None = option(None, "pad every clip to this many bytes")
    cdn_rate: float | None = option(None, "bytes per second of each download")
    render_workers: int = option(1, "number of rendering processes")

    def __post_init__(self) -> None:
        for each in fields(self):
            value, (is_valid, requirement) = getattr(self, each.name), CHECKS.get(each.name, ANYTHING)
            is_default_none = value is None and each.default is None
            if not is_default_none and not is_valid(value):
                raise ValueError(f"{each.name}={value!r}: must be {requirement}")
        self._check_window()
        self._check_faults()
        if self.key is not None and self.cert is None:
            raise ValueError("key: a private key needs its certificate, cert=FILE")

    def _check_window(self) -> None:
        if self.window is None:
            return
        try:
            count, seconds = self.window
            is_valid = count >= 1 and seconds > 0
        except (TypeError, ValueError):
            is_valid = False
        if not is_valid:
            raise ValueError(f"window={self.window!r}: must be (submits, seconds), for example (60, 60.0)")
        # A list after a round trip through JSON becomes a tuple again, so that equal settings compare equal.
        object.__setattr__(self, "window", (int(count), float(seconds)))

    def _check_faults(self) -> None:
        for name, probability in self.faults.items():
            validate_fault(name, probability)
        object.__setattr__(self, "faults", MappingProxyType(dict(self.faults)))

    @property
    def declares_idempotency(self) -> bool:
        """Whether the schemas of the models declare the Idempotency-Key header."""
        return self.idempotency if self.declare_idempotency is None else self.declare_idempotency

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain JSON values. `SandboxSettings(**settings.to_json())` equals the original."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {"faults": dict(self.faults)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_probability(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# A check of a value, with the requirement that its error message states.
Check: TypeAlias = "tuple[Callable[[Any], bool], str]"
ANYTHING: Check = (lambda _: True, "")
POSITIVE: Check = (lambda value: _is_number(value) and value > 0, "a number above 0")
NOT_NEGATIVE: Check = (lambda value: _is_number(value) and value >= 0, "a number, 0 or more")
AT_LEAST_ONE: Check = (lambda value: _is_integer(value) and value >= 1, "a whole number, 1 or more")
PORT: Check = (lambda value: _is_integer(value) and 0 <= value <= 65535, "a port, 0 to 65535 (0 takes a free one)")
FLAG: Check = (lambda value: isinstance(value, bool), "True or False")
NAME: Check = (lambda value: isinstance(value, str) and value != "", "a string that is not empty")

CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "host": NAME, "port": PORT, "cdn_port": PORT, "api_key": NAME, "retired_model": NAME, "cert": NAME, "key": NAME,
        "per_minute": POSITIVE, "burst": AT_LEAST_ONE, "max_in_flight": AT_LEAST_ONE, "checks_per_second": POSITIVE,
        "median": NOT_NEGATIVE, "sigma": NOT_NEGATIVE, "speed": POSITIVE, "credits": NOT_NEGATIVE,
        "key_credits": NOT_NEGATIVE,
        "fail_rate": (_is_probability, "a probability from 0 to 1"), "latency": NOT_NEGATIVE,
        # The lengths of the model's page.
        "seconds": (lambda value: _is_integer(value) and 3 <= value <= 10, "a whole number, 3 to 10"),
        "seed": (_is_integer, "a whole number"), "idempotency": FLAG, "declare_idempotency": FLAG,
        "prerendered": FLAG, "foreign_parents": FLAG,
        "videos_per_task": AT_LEAST_ONE, "render_workers": AT_LEAST_ONE,
        "link_lifetime": POSITIVE, "upload_lifetime": POSITIVE, "cdn_rate": POSITIVE, "clip_bytes": AT_LEAST_ONE,
    }
    | {
        name: (lambda value, choices=choices: value in choices, "one of " + ", ".join(choices))
        for name, choices in CHOICES.items()
    }
)  # fmt: skip
