"""What can go wrong on purpose: every fault by name, and the jitter that decide when."""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


KINDS = ("submit", "check", "clip", "upload", "webhook")


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to misbehave: the kinds of request it befalls (or "task"), and what it does."""

    name: str
    kinds: tuple[str, ...]
    does: str


def _table(*rows: tuple[str, str, str]) -> Mapping[str, Fault]:
    return MappingProxyType({name: Fault(name, tuple(kinds.split()), does) for name, kinds, does in rows})


FAULTS = _table(
    # A submit that is not accepted.
    ("http_400", "submit", "400 invalid_request_error; not accepted"),
    ("http_401", "submit", "401 as the real service words it; not accepted"),
    ("http_402", "submit", "402 payment_required; not accepted"),
    ("http_403", "submit", "403 permission_error; not accepted"),
    ("http_429", "submit", "429 with the Retry-After that the settings ask for; not accepted"),
    ("http_500", "submit", "500 get_channel_failed; not accepted"),
    ("http_500_parameter", "submit", "500 build_request_failed, naming a parameter; never accepted"),
    ("http_502_html", "submit", "502 with an HTML page of a gateway; not accepted"),
    ("http_503", "submit", "503 service_unavailable; not accepted"),
    ("idempotency_unavailable", "submit", "503 idempotency_unavailable: the request was not executed"),
    ("idempotency_in_progress", "submit", "409 idempotency_in_progress with Retry-After: 1; not accepted"),
    (
        "idempotency_indeterminate",
        "submit",
        "409 idempotency_result_indeterminate; not accepted, but it does not say so",
    ),
    ("drop_before", "submit", "the connection is closed before acceptance"),
    ("redirect_submit", "submit", "307 to a third origin; not accepted"),
    ("error_in_200", "submit check", "an error under HTTP 200: code 429, or success false; not accepted"),
    # A submit that is accepted although it does not look so.
    ("drop_after", "submit", "accepted, then the connection is closed without a reply"),
    ("http_500_after", "submit", "accepted, then 500"),
    ("garbage_json", "submit", "accepted, and the reply breaks off in the middle of its JSON"),
    ("hang_submit", "submit", "accepted, and never answered"),
    # A check.
    ("http_401_check", "check", "401 to a check"),
    ("http_403_check", "check", "403 to a check"),
    ("http_429_check", "check", "429 to a check"),
    ("http_500_check", "check", "500 to a check"),
    ("http_502_check", "check", "502 with an HTML page"),
    ("html_check", "check", "an HTML page under 200"),
    ("garbage_check", "check", "JSON that breaks off"),
    ("drop_check", "check", "the connection is closed"),
    ("hang_check", "check", "never answered"),
    ("slow_check", "check", "answered a second late"),
    ("not_found_check", "check", "404 or 400 in the first second after acceptance"),
    ("unknown_status", "check", "a status word nobody knows while the task runs"),
    ("upper_status", "check", "the status word in other case: Processing, COMPLETED"),
    ("no_link", "check", "completed, but without a link this time"),
    # A clip.
    ("cut_download", "clip", "closed in the middle of the announced body"),
    ("cut_download_clean", "clip", "no length announced, and a clean end too early"),
    ("stall_download", "clip", "half of the body, then silence"),
    ("expired_link", "clip", "403 or 410 on the first link of a task; the task gives a fresh one"),
    ("json_clip", "clip", "a JSON error under 200 instead of the clip"),
    ("html_clip", "clip", "an HTML page under 200 instead of the clip"),
    ("no_range", "clip", "Range is ignored: 200 and the whole clip"),
    ("wrong_etag", "clip", "another ETag than before"),
    ("http_500_clip", "clip", "500 instead of the clip"),
    ("http_429_clip", "clip", "429 instead of the clip"),
    ("redirect_clip", "clip", "302, by turns to another path and to a third origin"),
    # An upload.
    ("http_429_upload", "upload", "429 to an upload"),
    ("http_500_upload", "upload", "500 to an upload"),
    ("http_400_upload", "upload", "400 invalid image content, as the real service was seen to say"),
    ("http_401_upload", "upload", "401 to an upload"),
    ("http_402_upload", "upload", "402 to an upload"),
    ("drop_upload", "upload", "the connection is closed"),
    ("hang_upload", "upload", "the picture is kept, and never answered"),
    # A webhook.
    ("lost_webhook", "webhook", "never sent, as to an address that the service does not call"),
    ("late_webhook", "webhook", "the first delivery does not arrive; the next comes after its pause of 10 s"),
    ("twice_webhook", "webhook", "delivered twice"),
    # What stays with a task.
    ("never_link", "task", "completed, and never a link"),
    ("two_videos", "task", "two videos instead of one: two items, or one item with two urls"),
    ("numbers_as_strings", "task", "every number of its status replies is a string"),
    ("missing_optionals", "task", "no progress, cost, completed, actual_time, expires_at in its replies"),
)


def validate_fault(name: str, chance: object) -> None:
    """Raise `ValueError` unless this is a fault, and a probability."""
    if name not in FAULTS:
        raise ValueError(f"faults: {name!r} is no fault; the sandbox knows {', '.join(sorted(FAULTS))}")
    if isinstance(chance, bool) or not isinstance(chance, int | float) or not 0 <= chance <= 1:
        raise ValueError(f"faults: {name}={chance!r} must be a probability within 0 and 1")


class FaultInjector:
    """Decides which request is hit by which fault: what was scripted first, then the jitter."""

    def __init__(self, chances: Mapping[str, float], seed: int) -> None:
        self.hits: Counter[str] = Counter()
        self._chances = {name: chance for name, chance in chances.items() if chance > 0}
        # Dice of its own for each fault: adding one leaves the others where they were.
        self._jitter = {name: random.Random(f"{seed}:{name}") for name in FAULTS}
        self._scripts: dict[str, deque[str | None]] = {kind: deque() for kind in KINDS}

    def script(self, kind: str, names: Iterable[str | None]) -> None:
        """Queue faults for the next requests of a kind; None lets one request pass unharmed."""
        names = list(names)
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of request; the kinds are {', '.join(KINDS)}")
        for name in names:
            if name is not None and not self._fits(name, kind):
                fitting = ", ".join(each for each in FAULTS if self._fits(each, kind))
                raise ValueError(f"{name!r} cannot befall a {kind}; these can: {fitting}")
        self._scripts[kind].extend(names)

    def set_probability(self, name: str, chance: float) -> None:
        """Let a fault happen with another probability from now on."""
        validate_fault(name, chance)
        self._chances = {each: odds for each, odds in {**self._chances, name: chance}.items() if odds > 0}

    def next_fault(self, kind: str, *, cannot: tuple[str, ...] = ()) -> str | None:
        """The fault that befalls this request of this kind, if any; the jitter never choose what `cannot` be now."""
        if self._scripts[kind]:
            name = self._scripts[kind].popleft()
        else:
            hit = [each for each in self._chances if kind in FAULTS[each].kinds and self._rolls(each)]
            name = next((each for each in hit if each not in cannot), None)
        if name is not None:
            self.hits[name] += 1
        return name

    def faults_of_new_task(self, scripted: str | None = None) -> frozenset[str]:
        """The faults that a new task keeps for its life."""
        kept = {each for each in self._chances if "task" in FAULTS[each].kinds and self._rolls(each)}
        self.hits.update(kept)
        if scripted is not None and "task" in FAULTS[scripted].kinds:
            kept.add(scripted)
        return frozenset(kept)

    def coin_flip(self, name: str) -> bool:
        """One of two ways in which a fault can show."""
        return self._jitter[name].random() < 0.5

    def _rolls(self, name: str) -> bool:
        return self._jitter[name].random() < self._chances[name]

    @staticmethod
    def _fits(name: str, kind: str) -> bool:
        return name in FAULTS and (kind in FAULTS[name].kinds or (kind == "submit" and "task" in FAULTS[name].kinds))
