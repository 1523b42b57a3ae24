"""Forward passes share the weights; an owner has them alone."""

from __future__ import annotations

import contextvars
import threading

from t2agent.svf.locking import WeightLock

WAIT = 0.1


def started(work) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_an_owner_keeps_other_threads_readers_out() -> None:
    lock, events = WeightLock(), []

    def read() -> None:
        lock.start_reading()
        events.append("read")
        lock.stop_reading()

    with lock.own():
        thread = started(read)
        thread.join(WAIT)
        events.append("owner leaves")
    thread.join(5)
    assert events == ["owner leaves", "read"]


def test_an_owner_waits_for_readers() -> None:
    lock, events = WeightLock(), []
    lock.start_reading()

    def own() -> None:
        with lock.own():
            events.append("owned")

    thread = started(own)
    thread.join(WAIT)
    events.append("reader leaves")
    lock.stop_reading()
    thread.join(5)
    assert events == ["reader leaves", "owned"]


def test_readers_share_and_nest() -> None:
    lock = WeightLock()
    lock.start_reading()
    lock.start_reading()
    thread = started(lambda: (lock.start_reading(), lock.stop_reading()))
    thread.join(5)
    assert not thread.is_alive()
    lock.stop_reading()
    lock.stop_reading()
    with lock.own():
        assert lock.owned


def test_the_owner_reads_and_owns_again() -> None:
    lock = WeightLock()
    with lock.own(), lock.own():
        lock.start_reading()
        lock.start_reading()
        lock.stop_reading()
        lock.stop_reading()
    assert not lock.owned
    lock.start_reading()
    lock.stop_reading()
    with lock.own():
        pass


def test_a_copied_context_shares_the_ownership() -> None:
    lock, seen = WeightLock(), []

    def work() -> None:
        lock.start_reading()
        seen.append(lock.owned)
        lock.stop_reading()

    with lock.own():
        context = contextvars.copy_context()
        started(lambda: context.run(work)).join(5)
    assert seen == [True]


def test_ownership_ends_with_an_error() -> None:
    lock = WeightLock()
    try:
        with lock.own():
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    thread = started(lambda: (lock.start_reading(), lock.stop_reading()))
    thread.join(5)
    assert not thread.is_alive()
