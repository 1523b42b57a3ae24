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


def read(lock: WeightLock) -> None:
    with lock.read():
        pass


def test_an_owner_keeps_other_threads_readers_out() -> None:
    lock, events = WeightLock(), []

    def read() -> None:
        with lock.read():
            events.append("read")

    with lock.own():
        thread = started(read)
        thread.join(WAIT)
        events.append("owner leaves")
    thread.join(5)
    assert events == ["owner leaves", "read"]


def test_an_owner_waits_for_readers() -> None:
    lock, events = WeightLock(), []

    def own() -> None:
        with lock.own():
            events.append("owned")

    with lock.read():
        thread = started(own)
        thread.join(WAIT)
        events.append("reader leaves")
    thread.join(5)
    assert events == ["reader leaves", "owned"]


def test_readers_share_and_nest() -> None:
    lock = WeightLock()
    with lock.read(), lock.read():
        thread = started(lambda: read(lock))
        thread.join(5)
        assert not thread.is_alive()
    with lock.own():
        assert lock.owned


def test_the_owner_reads_and_owns_again() -> None:
    lock = WeightLock()
    with lock.own(), lock.own(), lock.read(), lock.read():
        assert lock.owned
    assert not lock.owned
    read(lock)
    with lock.own():
        pass


def test_a_copied_context_shares_the_ownership() -> None:
    lock, seen = WeightLock(), []

    def work() -> None:
        with lock.read():
            seen.append(lock.owned)

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
    thread = started(lambda: read(lock))
    thread.join(5)
    assert not thread.is_alive()
