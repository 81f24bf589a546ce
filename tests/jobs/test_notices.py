"""Equal faults are said once, then counted."""

from __future__ import annotations

import logging

import pytest

from omni_async.jobs.exception_log import ExceptionLog
from omni_async.jobs.notices import Notices, cause_of


def _error(kind: type[Exception], text: str = "") -> Exception:
    try:
        raise kind(text)
    except Exception as error:
        return error


def _other_place() -> Exception:
    try:
        raise ValueError
    except ValueError as error:
        return error


def test_a_cause_is_said_at_powers_of_ten_and_at_the_end() -> None:
    """The count is returned at 1, 10, 100; what came after the last of them is unsaid, once."""
    notices = Notices()
    assert [number for _ in range(123) if (number := notices.count("a"))] == [1, 10, 100]
    assert notices.count("b") == 1
    assert list(notices.unsaid()) == [("a", 123)]
    assert list(notices.unsaid()) == []


def test_further_causes_than_can_be_counted_are_said_every_time() -> None:
    """The memory is bounded, and nothing new is hidden."""
    notices = Notices()
    for number in range(1000):
        notices.count(number)
    assert [notices.count("new"), notices.count("new")] == [1, 1]
    assert notices.count(7) == 0


def test_a_cause_is_the_type_and_the_place() -> None:
    """Other texts are the same cause; another type or another place is another."""
    assert cause_of(_error(ValueError, "a")) == cause_of(_error(ValueError, "b"))
    assert cause_of(_error(ValueError)) != cause_of(_error(KeyError))
    assert cause_of(_error(ValueError)) != cause_of(_other_place())
    assert cause_of(ValueError()) == ("ValueError", "", 0)  # it was never raised


def test_an_exception_is_logged_once_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Twelve equal exceptions make one traceback and two lines with a count."""
    log = ExceptionLog(logging.getLogger("omni_async.test"), "on_event")
    for number in range(12):
        log.report(_error(ValueError, str(number)), "number %d", number)
    log.close()
    assert [bool(record.exc_info) for record in caplog.records] == [True, False, False]
    assert [record.getMessage() for record in caplog.records] == [
        "number 0",
        "on_event raised the same ValueError 10 times so far",
        "on_event raised the same ValueError 12 times so far",
    ]
