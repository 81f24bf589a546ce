"""A worker that cannot keep clips takes no task for a while, then one, and all again when it can."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from omni_async.fleet.storage_pause import StoragePause


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=30))
def test_a_pause_grows_only_with_failures_after_it(steps: list[tuple[float, bool]]) -> None:
    """Failures of downloads that began before a pause make it no longer, and a clip that was kept ends it."""
    pause, now, seconds, ends = StoragePause(), 0.0, 5.0, 0.0
    for passed, is_kept in steps:
        now += passed
        if is_kept:
            pause.on_kept()
            seconds, ends = 5.0, now
        else:
            pause.on_failed(now)
            if now >= ends:
                ends, seconds = now + seconds, min(60.0, 2 * seconds)
        assert pause.take(now) is (now >= ends)
        pause.on_ended()


def test_one_task_shows_whether_clips_are_kept_again() -> None:
    """While it is in progress no other is taken; if there was none, the next may be."""
    pause = StoragePause()
    assert [pause.take(0.0) for _ in range(3)] == [True, True, True]
    pause.on_failed(0.0)
    assert [pause.take(at) for at in (0.0, 4.9, 5.0, 5.0, 500.0)] == [False, False, True, False, False]
    pause.on_ended()
    assert [pause.take(at) for at in (5.1, 5.1)] == [True, False]
    pause.on_failed(6.0)
    pause.on_ended()
    assert [pause.take(at) for at in (15.9, 16.0, 16.0)] == [False, True, False]
    pause.on_kept()
    assert [pause.take(16.1) for _ in range(3)] == [True, True, True]
