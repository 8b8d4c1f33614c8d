"""How many sandboxes are kept ready, and when they are made, without making any."""

import os
import socket

import pytest

from scow.keeper import pool as pools
from scow.keeper.pool import LEAST, MEMORY, REFILL, WINDOW, Pool, target
from scow.shim import protocol


def test_a_few_are_ready_when_nothing_goes_on():
    assert target([], 100.0, 16) == LEAST
    assert target([99.9], 100.0, 16) == LEAST


def test_a_burst_is_met_by_as_many():
    assert target([99.0 + number * WINDOW / 10 for number in range(8)], 100.0, 16) == 8


def test_starts_one_after_the_other_need_no_more_than_a_few():
    assert target([90.0 + number for number in range(10)], 100.0, 16) == LEAST


def test_the_most_is_the_most():
    assert target([99.9] * 50, 100.0, 16) == 16
    assert target([99.9] * 50, 100.0, 1) == 1
    assert target([], 100.0, 0) == 0


def test_a_burst_is_forgotten():
    assert target([99.9] * 8, 99.9 + MEMORY, 16) == LEAST


class Clock:
    """The loop as the pool uses it: deadlines that come when the test lets time pass."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.deadlines = {}
        self.watched = {}

    def watch(self, fd, _mask, handler):
        self.watched[fd] = handler

    def forget(self, fd):
        self.watched.pop(fd, None)

    def at(self, key, seconds, action):
        self.deadlines[key] = (self.now + seconds, action)

    def pass_time(self, seconds):
        until = self.now + seconds
        while due := sorted((when, str(key), key) for key, (when, _) in self.deadlines.items() if when <= until):
            when, _, key = due[0]
            self.now = when
            self.deadlines.pop(key)[1]()
        self.now = until


class Shims:
    """What the pool forks: sockets that say they are parked when the test says so."""

    def __init__(self) -> None:
        self.ends = []

    def fork(self, end, first, parent):
        self.ends.append(end.dup())
        self.asked = (first, parent)
        return 10_000_000 + len(self.ends)

    def alive(self):
        """How many the keeper has not hung up on."""
        alive = 0
        for end in self.ends:
            end.setblocking(False)
            try:
                alive += end.recv(1, socket.MSG_PEEK) != b""
            except BlockingIOError:
                alive += 1
        return alive

    def close(self):
        for end in self.ends:
            end.close()


FIRST = {"linux": {}}


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(pools.time, "monotonic", lambda: made.now)
    return made


@pytest.fixture
def shims():
    made = Shims()
    yield made
    made.close()


@pytest.fixture
def pool(clock, shims):
    made = Pool(clock, shims.fork)
    yield made
    made.configure(None)


def say_ready(clock, shims):
    for end in shims.ends:
        protocol.send(end, {"at": "parked"})
    for handler in list(clock.watched.values()):
        handler(0)


def test_it_fills_itself_and_then_does_nothing(clock, shims, pool):
    pool.configure({"most": 16, "rate": 100, "first": FIRST})
    clock.pass_time(60)
    assert len(shims.ends) == LEAST
    assert clock.deadlines == {}
    say_ready(clock, shims)
    assert pool.count() == {"ready": LEAST, "wanted": LEAST, "most": 16}


def test_what_is_taken_is_replaced_a_little_later(clock, shims, pool):
    pool.configure({"most": 16, "rate": 100, "first": FIRST})
    clock.pass_time(1)
    slot = pool.take()
    assert slot is not None
    slot.end.close()
    assert len(shims.ends) == LEAST
    clock.pass_time(REFILL)
    assert len(shims.ends) == LEAST + 1


def test_a_burst_makes_it_larger_in_batches_and_quiet_makes_it_small_again(clock, shims, pool):
    pool.configure({"most": 8, "rate": 100, "first": FIRST})
    clock.pass_time(1)
    taken = [pool.take() for _ in range(20)]
    assert [slot is not None for slot in taken] == [True] * LEAST + [False] * (20 - LEAST)
    for slot in taken:
        if slot is not None:
            slot.end.close()
    before = len(shims.ends)
    clock.pass_time(REFILL)
    assert len(shims.ends) == before + 3  # 100 a second, for 30 ms
    clock.pass_time(1)
    assert shims.alive() == 8
    clock.pass_time(MEMORY)
    assert shims.alive() == LEAST
    assert clock.deadlines == {}


def test_one_that_cannot_be_parked_is_not_tried_for_ever(clock, shims, pool):
    pool.configure({"most": 4, "rate": 100, "first": FIRST})
    clock.pass_time(1)
    for end in shims.ends:
        end.close()
    for handler in list(clock.watched.values()):
        handler(0)
    shims.ends.clear()
    clock.pass_time(60)
    assert shims.ends == []
    assert pool.take() is None
    clock.pass_time(1)
    assert len(shims.ends) == LEAST


def test_without_a_pool_or_a_daemon_there_is_nothing(clock, shims, pool):
    pool.configure({"most": 0, "rate": 100, "first": FIRST})
    clock.pass_time(60)
    assert (shims.ends, pool.take()) == ([], None)
    pool.configure({"most": 4, "rate": 100, "first": FIRST})
    clock.pass_time(1)
    assert not pool.empty
    pool.configure(None)
    assert shims.alive() == 0
    assert not pool.empty  # until the shims have ended
    assert [pool.ended(10_000_001), pool.ended(10_000_002), pool.ended(77)] == [True, True, False]
    assert pool.empty


def test_other_wishes_make_other_sandboxes(clock, shims, pool):
    pool.configure({"most": 4, "rate": 100, "first": FIRST})
    clock.pass_time(1)
    pool.configure({"most": 4, "rate": 100, "first": FIRST})
    assert shims.alive() == len(shims.ends) == LEAST
    pool.configure({"most": 4, "rate": 100, "first": {"linux": {"devices": []}}})
    assert shims.alive() == 0
    clock.pass_time(1)
    assert shims.alive() == LEAST


@pytest.mark.root
def test_groups_of_the_dead_are_swept_and_of_the_living_kept():
    from scow.linux import cgroup
    from scow.runtime.cgroup import Cgroup
    from scow.runtime.create import parked_group

    if cgroup.layout().version != 1:
        pytest.skip("groups are made ahead on v1 only")
    parent = f"/scow-test-sweep-{os.getpid()}"
    dead, living, other = parked_group(parent, 4194304), parked_group(parent, os.getpid()), f"{parent}/parked-x"
    groups = [Cgroup.create(path) for path in (dead, living, other)]
    try:
        pools.sweep(parent)
        assert [Cgroup.open(path).exists for path in (dead, living, other)] == [False, True, True]
    finally:
        for group in [*groups, Cgroup.open(parent)]:
            group.remove()
