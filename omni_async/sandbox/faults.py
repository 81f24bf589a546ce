"""The faults of a sandbox by name, and the injector that decides which request is hit by which fault.

What a fault does to a request is in `fault_effects` (submits, checks, uploads), in `cdn` (clips), in `webhook` and in
`task_json` (faults that a task keeps).
"""

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
    """One fault: the kinds of request it can hit (or "task"), and its effect in one line of text."""

    name: str
    kinds: tuple[str, ...]
    effect: str


def _table(*rows: tuple[str, str, str]) -> Mapping[str, Fault]:
    return MappingProxyType({name: Fault(name, tuple(kinds.split()), effect) for name, kinds, effect in rows})


FAULTS = _table(
    # The submit is not accepted.
    ("http_400", "submit", "400 invalid_request_error; not accepted"),
    ("http_400_empty_code", "submit", "400 apimart_error with an empty code, naming a parameter; never accepted"),
    ("http_401", "submit", "401 in the form seen from the live service; not accepted"),
    ("http_402", "submit", "402 payment_required; not accepted"),
    ("http_403", "submit", "403 permission_error; not accepted"),
    ("http_403_key_quota", "submit", "403 pre_consume_token_quota_failed; not accepted"),
    ("http_403_account_quota", "submit", "403 insufficient_user_quota; not accepted"),
    ("http_404_model", "submit", "404 model_not_found; never accepted"),
    ("http_429", "submit", "429 with the Retry-After chosen in the settings; not accepted"),
    ("http_429_body", "submit", "429 with retry_after in its body and without the header; not accepted"),
    ("http_500", "submit", "500 get_channel_failed; not accepted"),
    ("http_500_parameter", "submit", "500 build_request_failed, naming a parameter; never accepted"),
    ("http_502_html", "submit", "502 with the HTML page of a gateway; not accepted"),
    ("http_503", "submit", "503 service_unavailable; not accepted"),
    ("http_503_model", "submit", "503 model_not_found: no upstream serves the model; never accepted"),
    ("idempotency_unavailable", "submit", "503 idempotency_unavailable: the request was not executed"),
    ("idempotency_in_progress", "submit", "409 idempotency_in_progress with Retry-After: 1; not accepted"),
    (
        "idempotency_indeterminate",
        "submit",
        "409 idempotency_result_indeterminate; not accepted, which the client cannot know",
    ),
    ("drop_before", "submit", "connection closed before the submit is accepted"),
    ("redirect_submit", "submit", "307 to another server; not accepted"),
    ("error_in_200", "submit check", "error under HTTP 200: code 429, or success false; not accepted"),
    ("balance_in_200", "submit", "NOT_ENOUGH_BALANCE (code 605, in msg) under HTTP 200; not accepted"),
    # The submit is accepted, but the response does not say so, or not as documented.
    ("drop_after", "submit", "accepted, then the connection is closed without a response"),
    ("http_500_after", "submit", "accepted, then 500"),
    ("garbage_json", "submit", "accepted, but the JSON of the response is cut off in the middle"),
    ("no_last_chunk", "submit", "accepted, with complete JSON, but the connection is closed before the last chunk"),
    (
        "long_content_length",
        "submit",
        "accepted, with complete JSON, but fewer bytes than Content-Length announces",
    ),
    ("false_gzip", "submit", "accepted, with plain JSON that is labelled as gzip"),
    ("unknown_id_field", "submit", "accepted, but the task id is in a field that no documentation names: taskId"),
    ("html_submit", "submit", "accepted, but the response is an HTML page under HTTP 200"),
    ("hang_submit", "submit", "accepted, but no response is ever sent"),
    # A check.
    ("http_401_check", "check", "401"),
    ("http_403_check", "check", "403"),
    ("http_429_check", "check", "429"),
    ("http_500_check", "check", "500"),
    ("http_502_check", "check", "502 with an HTML page"),
    ("html_check", "check", "HTML page under HTTP 200"),
    ("garbage_check", "check", "JSON that is cut off in the middle"),
    ("no_last_chunk_check", "check", "complete JSON, but the connection is closed before the last chunk"),
    ("long_content_length_check", "check", "complete JSON, but fewer bytes than Content-Length announces"),
    ("false_gzip_check", "check", "plain JSON that is labelled as gzip"),
    ("drop_check", "check", "connection closed without a response"),
    ("hang_check", "check", "no response is ever sent"),
    ("slow_check", "check", "response delayed by one second"),
    ("not_found_check", "check", "404 or 400 in the first second after acceptance"),
    ("unknown_status", "check", "undocumented status string while the task is running"),
    ("upper_status", "check", "status string in another case: Processing, COMPLETED"),
    ("no_link", "check", "completed, but the URL is missing from this response"),
    # A clip.
    ("cut_download", "clip", "connection closed in the middle of the announced body"),
    ("cut_download_clean", "clip", "no Content-Length, and half of the body with a clean end"),
    ("stall_download", "clip", "half of the body, then nothing more"),
    ("expired_link", "clip", "403 or 410 for the first URL of a task; a check returns a new one"),
    ("json_clip", "clip", "JSON error under HTTP 200 instead of the clip"),
    ("html_clip", "clip", "HTML page under HTTP 200 instead of the clip"),
    ("no_range", "clip", "Range ignored: 200 and the complete clip"),
    ("wrong_etag", "clip", "a different ETag in every response"),
    ("http_500_clip", "clip", "500 instead of the clip"),
    ("http_429_clip", "clip", "429 instead of the clip"),
    ("redirect_clip", "clip", "302, in turn to another path and to another server"),
    # An upload.
    ("http_429_upload", "upload", "429"),
    ("http_500_upload", "upload", "500"),
    ("http_400_upload", "upload", "400 invalid image content, as seen from the live service"),
    ("http_401_upload", "upload", "401"),
    ("http_402_upload", "upload", "402"),
    ("drop_upload", "upload", "connection closed without a response"),
    ("hang_upload", "upload", "image stored, but no response is ever sent"),
    # A webhook.
    ("lost_webhook", "webhook", "never sent"),
    ("late_webhook", "webhook", "first delivery lost; the next follows after the retry delay of 10 s"),
    ("twice_webhook", "webhook", "delivered twice"),
    # Kept by a task for its lifetime.
    ("never_link", "task", "completed, but never with a URL"),
    ("two_videos", "task", "two videos instead of one: two items, or one item with two URLs"),
    ("numbers_as_strings", "task", "every number in its status responses is a string"),
    ("missing_optionals", "task", "no progress, cost, completed, actual_time or expires_at in its status responses"),
)


def validate_fault(name: str, probability: object) -> None:
    """Raise `ValueError` unless the name is that of a fault and the other argument is a probability."""
    if name not in FAULTS:
        raise ValueError(f"faults: unknown fault {name!r}; the faults are {', '.join(sorted(FAULTS))}")
    if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1:
        raise ValueError(f"faults: {name}={probability!r} must be a probability from 0 to 1")


class FaultInjector:
    """Decides which request is hit by which fault: scripted faults first, then random ones.

    Each fault has a random generator of its own, seeded with the sandbox's seed and its name. Switching another fault
    on therefore does not change which requests this one hits.
    """

    def __init__(self, probabilities: Mapping[str, float], seed: int) -> None:
        self.hits: Counter[str] = Counter()
        self._probabilities = {name: value for name, value in probabilities.items() if value > 0}
        self._random = {name: random.Random(f"{seed}:{name}") for name in FAULTS}
        self._scripts: dict[str, deque[str | None]] = {kind: deque() for kind in KINDS}

    def script(self, kind: str, names: Iterable[str | None]) -> None:
        """Queue faults for the next requests of a kind; None lets one request pass without a fault.

        Raises `ValueError` for an unknown kind, and for a fault that cannot hit a request of this kind.
        """
        names = list(names)
        if kind not in KINDS:
            raise ValueError(f"unknown kind of request {kind!r}; the kinds are {', '.join(KINDS)}")
        for name in names:
            if name is not None and not self._can_hit(name, kind):
                possible = ", ".join(each for each in FAULTS if self._can_hit(each, kind))
                raise ValueError(f"fault {name!r} cannot hit a request of kind {kind!r}; these can: {possible}")
        self._scripts[kind].extend(names)

    def set_probability(self, name: str, probability: float) -> None:
        """Change the probability of a fault from now on; 0 switches it off."""
        validate_fault(name, probability)
        changed = {**self._probabilities, name: probability}
        self._probabilities = {each: value for each, value in changed.items() if value > 0}

    def next_fault(self, kind: str, *, impossible: tuple[str, ...] = ()) -> str | None:
        """Return the fault that hits this request, None if it passes.

        Faults named in `impossible` have no effect at this moment, so they are never drawn at random. A script may
        still name them: it then simply has no effect.
        """
        if self._scripts[kind]:
            name = self._scripts[kind].popleft()
        else:
            # Every fault is drawn, even after a hit: the number of draws must not depend on other faults.
            drawn = [each for each in self._probabilities if kind in FAULTS[each].kinds and self._draw(each)]
            name = next((each for each in drawn if each not in impossible), None)
        if name is not None:
            self.hits[name] += 1
        return name

    def faults_of_new_task(self, scripted: str | None = None) -> frozenset[str]:
        """Return the faults that a new task keeps. `scripted` is the fault that hit its submit, counted already."""
        kept = {each for each in self._probabilities if "task" in FAULTS[each].kinds and self._draw(each)}
        self.hits.update(kept)
        if scripted is not None and "task" in FAULTS[scripted].kinds:
            kept.add(scripted)
        return frozenset(kept)

    def coin_flip(self, name: str) -> bool:
        """Choose at random between the two forms that a fault can take."""
        return self._random[name].random() < 0.5

    def _draw(self, name: str) -> bool:
        return self._random[name].random() < self._probabilities[name]

    @staticmethod
    def _can_hit(name: str, kind: str) -> bool:
        return name in FAULTS and (kind in FAULTS[name].kinds or (kind == "submit" and "task" in FAULTS[name].kinds))
