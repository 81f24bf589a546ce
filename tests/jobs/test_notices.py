"""Equal faults are said once, then counted."""

from __future__ import annotations

import logging

import pytest

from omni_async.jobs.exception_log import ExceptionLog
from omni_async.jobs.notices import Notices, Outages, Recovery, cause_of


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


def test_a_wait_is_said_once_for_each_place_and_kind_and_so_is_its_end() -> None:
    """Eight that wait for one place are one line; a second kind is another; the end is said when the last goes on."""
    outages = Outages()
    assert [outages.failed(waiter, "a", "503", 10.0) for waiter in range(8)] == [True] + 7 * [False]
    assert outages.failed(3, "a", "unreachable", 11.0)
    assert not outages.failed(3, "a", "503", 12.0)
    assert outages.failed(9, "b", "503", 12.0)
    assert [outages.recovered(waiter, 15.0) for waiter in range(8)] == 7 * [None] + [Recovery("a", 5.0, 8)]
    assert outages.recovered(1, 16.0) is None
    assert outages.place_of(9) == "b"


def test_an_outage_that_comes_again_and_again_is_said_less_and_less() -> None:
    """Of thirty outages of one kind the first and the tenth are said, each with its end."""
    outages = Outages()
    said = [(outages.failed("job", "a", "503", 0.0), outages.recovered("job", 1.0) is not None) for _ in range(30)]
    assert said == [(number in {0, 9}, number in {0, 9}) for number in range(30)]


def test_one_that_gives_up_or_waits_for_another_place_ends_no_outage_aloud() -> None:
    """Only what works again is said to work again."""
    outages = Outages()
    assert outages.failed("job", "a", "503", 0.0)
    assert outages.failed("job", "b", "503", 1.0)
    outages.gave_up("job")
    outages.gave_up("job")
    assert outages.recovered("job", 2.0) is None
    assert outages.place_of("job") is None
