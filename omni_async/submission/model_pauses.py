"""`ModelPauses`: holds back the jobs of a model that the server does not serve. Pure; used by the submitter.

A gateway that has no upstream for a model refuses its jobs before anything is sent to the model, so nothing is paid and
no outcome is unknown. One refused job then probes after a backoff, and the other jobs of the model are held. If the
server keeps saying that it does not know the model, or has no channel for too long, the model is stopped. Jobs of other
models continue.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Generic, TypeVar

from ..api.outcomes import SubmitOutcome, SubmitResult
from ..errors import APIError, NotFound, ServerError
from ..plain_text import one_line
from ..ratelimit.backoff import retry_delay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..errors import OmniError
    from ..settings import Retry

T = TypeVar("T")

# Models that an error names, and characters of a name.
_LISTED_MODELS = 8
_MAX_NAME_LENGTH = 60

# Outcomes of a probe after which a model stays paused: the server has not said that it serves the model.
KEEPS_PAUSED = frozenset(
    {
        SubmitOutcome.NO_MODEL,
        SubmitOutcome.NO_CHANNEL,
        SubmitOutcome.NOT_SENT,
        SubmitOutcome.RETRY_LATER,
        SubmitOutcome.STOP_ALL,
        SubmitOutcome.WITHHELD,
    }
)

# How often in a row a server must say that it does not know a model: once, and then two confirmations. A gateway that
# is being reconfigured says so for a moment. More cost a few seconds each. Chosen, not measured.
_MAX_UNKNOWN_MODEL = 3


@dataclass(slots=True)
class _Pause(Generic[T]):
    """A model whose jobs were refused since the time `since`, and which `probe` tries again."""

    since: float
    attempts: int = 0
    unknown_in_a_row: int = 0
    probe: T | None = None
    held: list[T] = field(default_factory=list)


class ModelPauses(Generic[T]):
    """The models that are paused or stopped. `T` is a job."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._pauses: dict[str, _Pause[T]] = {}
        self.stopped: dict[str, OmniError] = {}

    def __bool__(self) -> bool:
        """Return whether any model is paused or stopped."""
        return bool(self._pauses or self.stopped)

    def must_hold(self, item: T, model: str) -> bool:
        """Return whether an item must wait. It is then held until `release`; without a probe, it becomes the probe."""
        pause = self._pauses.get(model)
        if pause is None:
            return False
        pause.probe = pause.probe or item
        if pause.probe is item:
            return False
        pause.held.append(item)
        return True

    def on_refused(self, item: T, model: str, result: SubmitResult, *, now: float, jitter: float) -> float | None:
        """Return after how many seconds a refused item probes again; None if it is held, because another one probes."""
        if model not in self._pauses:
            self._pauses[model] = _Pause(now, probe=item)
        pause = self._pauses[model]
        if pause.probe is not item:  # it left before the pause began, so its refusal confirms nothing
            pause.held.append(item)
            return None
        pause.unknown_in_a_row = pause.unknown_in_a_row + 1 if result.outcome is SubmitOutcome.NO_MODEL else 0
        seconds = retry_delay(result.retry_after, pause.attempts, self._retry, jitter)
        pause.attempts += 1
        return seconds

    def should_stop(self, model: str, now: float) -> bool:
        """Return whether to give up on a model: it is unknown for certain, or was without a channel for too long."""
        pause = self._pauses.get(model)
        if pause is None:
            return False
        return pause.unknown_in_a_row >= _MAX_UNKNOWN_MODEL or now - pause.since > self._retry.timeout

    def stop(self, model: str, error: OmniError) -> None:
        """Stop a model: its jobs get `error`."""
        self._pauses.pop(model, None)
        self.stopped[model] = error

    def release(self, model: str) -> list[T]:
        """End the pause of a model that is served. Return the items that were held, in their order."""
        pause = self._pauses.pop(model, None)
        return pause.held if pause else []

    def release_probe(self, item: T, model: str) -> list[T]:
        """Return the items that were held behind a probe that is no longer sent. The first of them probes next."""
        pause = self._pauses.get(model)
        if pause is None or pause.probe is not item:
            return []
        held, pause.held, pause.probe = pause.held, [], None
        return held

    def clear(self) -> list[T]:
        """Forget every pause and stop. Return the items that were held."""
        held = [item for pause in self._pauses.values() for item in pause.held]
        self._pauses.clear()
        self.stopped.clear()
        return held


def _list_models(served: Sequence[str], wanted: str) -> str:
    """Return the ids of models, the most similar ones first; a gateway may list hundreds, and most make no videos."""
    similar = {name: SequenceMatcher(None, name.lower(), wanted.lower()).ratio() for name in served}
    names = sorted(similar, key=lambda name: -similar[name])
    listed = ", ".join(one_line(name, limit=_MAX_NAME_LENGTH) for name in names[:_LISTED_MODELS])
    return listed if len(names) <= _LISTED_MODELS else f"{listed} and {len(names) - _LISTED_MODELS:,} more"


def model_not_served(model: str, result: SubmitResult, served: Sequence[str] = ()) -> OmniError:
    """Return the error for the jobs of a model that the server does not serve.

    `result` is its last refusal, `served` are the models that it lists, as far as it said.
    """
    reason = result.error
    assert isinstance(reason, APIError)
    cls, when = (NotFound, "serve") if result.outcome is SubmitOutcome.NO_MODEL else (ServerError, "serve just now")
    offer = f"It offers {_list_models(served, model)}. " if served else ""
    return cls(
        f"the server does not {when} the model {model!r}: HTTP {reason.status} ({reason.code}): {reason.message}. "
        f"{offer}The jobs of this model are not submitted, and nothing is paid for them. `omni-async models` "
        "(client.models()) lists what the server offers; run the same again once it offers this model",
        status=reason.status,
        code=reason.code,
        type=reason.type,
        message=reason.message,
        request_id=reason.request_id,
    )
