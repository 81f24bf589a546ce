"""The tree of errors: each class has its place, and can be pickled and copied."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from omni_async import errors
from omni_async.errors import APIError, ClientClosed, OmniError, RateLimited, error_class, with_prefix
from omni_async.models.responses import Task, TaskState, Video

_TASK = Task(id="t", status="failed", state=TaskState.FAILED, videos=(Video("u", 5.0),), error="no")
_API: dict[str, Any] = {"status": 418, "code": "c", "type": "t", "message": "m", "request_id": "r"}
_JOB: dict[str, Any] = {"key": "k", "task_id": "t"}

# Each class, its bases, and the attributes that it carries
_TREE: list[tuple[str, tuple[type, ...], dict[str, Any]]] = [
    ("OmniError", (Exception,), {}),
    ("APIError", (errors.OmniError,), _API),
    ("InvalidRequest", (errors.APIError,), _API),
    ("InvalidReference", (errors.InvalidRequest, ValueError), {**_API, "path": "/p"}),
    ("AuthenticationError", (errors.APIError,), _API),
    ("PaymentRequired", (errors.APIError,), _API),
    ("PermissionDenied", (errors.APIError,), _API),
    ("NotFound", (errors.APIError,), _API),
    ("Conflict", (errors.APIError,), _API),
    ("RateLimited", (errors.APIError,), _API),
    ("ServerError", (errors.APIError,), _API),
    ("TransportError", (errors.OmniError,), {"sent": False, "permanent": True}),
    ("TransportTimeout", (errors.TransportError,), {"sent": False, "permanent": True}),
    ("SubmitWithheld", (errors.TransportError,), {}),
    ("JobError", (errors.OmniError,), _JOB),
    ("JobFailed", (errors.JobError,), {**_JOB, "task": _TASK}),
    ("JobTimedOut", (errors.JobError, TimeoutError), _JOB),
    ("JobCancelled", (errors.JobError,), _JOB),
    ("SubmitOutcomeUnknown", (errors.JobError,), _JOB),
    ("ParentFailed", (errors.JobError,), _JOB),
    ("KeyReused", (errors.JobError,), _JOB),
    ("DownloadError", (errors.OmniError,), {"path": "/p", "url": "https://u"}),
    ("LedgerError", (errors.OmniError,), {"permanent": True}),
    ("LedgerLocked", (errors.LedgerError,), {"pid": 42}),
    ("LedgerFenced", (errors.LedgerError,), {}),
    ("CostLimitReached", (errors.OmniError,), {}),
    ("ClientClosed", (RuntimeError,), _JOB),
    ("UnknownModelWarning", (UserWarning,), {}),
]
_EACH = pytest.mark.parametrize(("name", "bases", "carried"), _TREE, ids=[row[0] for row in _TREE])


def _build(name: str, carried: dict[str, Any]) -> BaseException:
    error: BaseException = getattr(errors, name)("what happened", **carried)
    if isinstance(error, RateLimited):
        error.retry_after = 7.5
    return error


def _attributes(error: BaseException) -> dict[str, Any]:
    return {"type": type(error), "str": str(error), "args": error.args, **vars(error)}


@_EACH
def test_the_place_of_each_class(name: str, bases: tuple[type, ...], carried: dict[str, Any]) -> None:
    """Each class has its bases, and its attributes can be read."""
    cls = getattr(errors, name)
    assert cls.__bases__ == bases
    error = _build(name, carried)
    assert str(error) == "what happened"
    assert {attribute: getattr(error, attribute) for attribute in carried} == carried


def test_the_table_is_complete() -> None:
    """Every error of the module is in the table above."""
    found = {name for name, thing in vars(errors).items() if isinstance(thing, type) and issubclass(thing, Exception)}
    assert found == {name for name, _, _ in _TREE}


@_EACH
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_each_class_can_be_pickled(name: str, bases: tuple[type, ...], carried: dict[str, Any], protocol: int) -> None:
    """Another process gets an equal error with all its attributes."""
    error = _build(name, carried)
    assert _attributes(pickle.loads(pickle.dumps(error, protocol))) == _attributes(error)


@_EACH
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_each_class_can_be_copied(name: str, bases: tuple[type, ...], carried: dict[str, Any], duplicate: Any) -> None:
    """A copy has the same attributes."""
    error = _build(name, carried)
    assert _attributes(duplicate(error)) == _attributes(error)


@_EACH
def test_a_prefix_is_added_to_a_copy(name: str, bases: tuple[type, ...], carried: dict[str, Any]) -> None:
    """`with_prefix` returns a copy with a longer text, and leaves the error unchanged."""
    error = _build(name, carried)
    if not isinstance(error, OmniError):
        pytest.skip("with_prefix is for OmniError")
    named = with_prefix("job 'k'", error)
    assert str(named) == "job 'k': what happened"
    assert {**_attributes(named), "str": "", "args": ()} == {**_attributes(error), "str": "", "args": ()}
    assert str(error) == "what happened"


@pytest.mark.parametrize(
    "name", ["APIError", "TransportError", "JobError", "JobFailed", "DownloadError", "ClientClosed"]
)
def test_attributes_have_defaults(name: str) -> None:
    """A text alone makes an error, and every attribute exists."""
    error = getattr(errors, name)("x")
    carried = next(carried for row, _, carried in _TREE if row == name)
    assert all(hasattr(error, attribute) for attribute in carried)


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, errors.InvalidRequest),
        (401, errors.AuthenticationError),
        (402, errors.PaymentRequired),
        (403, errors.PermissionDenied),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (413, errors.InvalidRequest),
        (422, errors.InvalidRequest),
        (429, errors.RateLimited),
        (500, errors.ServerError),
        (502, errors.ServerError),
        (503, errors.ServerError),
        (599, errors.ServerError),
        (418, APIError),
        (302, APIError),
        (200, APIError),
    ],
)
def test_the_class_for_a_status(status: int, cls: type[APIError]) -> None:
    """Each HTTP status has a class."""
    assert error_class(status) is cls


def test_client_closed_is_not_an_omni_error() -> None:
    """`except OmniError` does not hide a bug of the caller."""
    assert not issubclass(ClientClosed, OmniError)


def test_job_timed_out_is_a_timeout_error() -> None:
    """`except TimeoutError` catches it."""
    with pytest.raises(TimeoutError, match="late"):
        raise errors.JobTimedOut("late", key="k", task_id="t")


def test_the_docstring_names_every_class() -> None:
    """The tree in the docstring of the module is complete."""
    assert errors.__doc__ is not None
    assert [name for name, _, _ in _TREE if name not in errors.__doc__] == []
