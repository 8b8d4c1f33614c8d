"""Bursts of kills: one event each, from whatever the kernel wakes for. The kernel is a pipe and a number here."""

import os
import select

from scow.shim import oom
from scow.shim.oom import Watch


class Group:
    """A v2 group whose memory.events is a file that is always ready."""

    class layout:
        @staticmethod
        def where(_controller):
            return 2

    def __init__(self, path):
        self.path = path
        path.write_text("oom_kill 0")
        self.kills = 0

    def oom_watch(self):
        self.fd = os.open(self.path, os.O_RDONLY)
        return self.fd, select.POLLPRI

    def oom_events(self):
        return self.kills


class Loop:
    def __init__(self):
        self.handlers = {}
        self.due = None

    def watch(self, fd, _mask, handler):
        self.handlers[fd] = handler

    def forget(self, fd):
        del self.handlers[fd]

    def at(self, _key, seconds, action):
        assert seconds == oom.QUIET
        self.due = action

    def cancel(self, _key):
        self.due = None

    def wake(self):
        for handler in list(self.handlers.values()):
            handler(0)


def begin(tmp_path, kills=0, **options):
    loop, group, told = Loop(), Group(tmp_path / "memory.events"), []
    group.kills = kills
    return loop, group, told, Watch(loop, group, lambda: told.append(group.kills), **options)


def test_a_burst_is_one_event(tmp_path):
    loop, group, told, watch = begin(tmp_path)
    loop.wake()  # the limit was reached, nobody was killed
    assert told == []
    for _ in range(3):
        group.kills += 1
        loop.wake()
    assert told == [1]
    loop.due()
    loop.wake()
    assert told == [1]
    group.kills += 1
    loop.wake()
    assert (told, watch.told) == ([1, 4], 2)


def test_what_the_end_overtook_is_told_by_it(tmp_path):
    loop, group, told, watch = begin(tmp_path)
    group.kills = 1
    watch.close()
    watch.close()
    assert told == [1]
    assert loop.handlers == {}
    assert loop.due is None


def test_kills_before_are_told_unless_they_are_known(tmp_path):
    assert begin(tmp_path, kills=2)[2] == [2]
    loop, group, told, _watch = begin(tmp_path, kills=2, known=2)
    assert told == []
    group.kills = 3
    loop.wake()
    assert told == [3]


def test_the_end_within_a_burst_adds_nothing(tmp_path):
    loop, group, told, watch = begin(tmp_path)
    group.kills = 1
    loop.wake()
    group.kills = 2
    watch.close()
    assert told == [1]
