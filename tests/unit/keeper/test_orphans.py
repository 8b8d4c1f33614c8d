"""How orphans ended, for those who ask before and after."""

import os

from scow.keeper import orphans
from scow.linux import proc


def test_a_status_is_told_once_at_once_or_later():
    kept, told = orphans.Orphans(), []
    kept.watch((1, 10), lambda name, status: told.append((name, status)))
    kept.ended((1, 10), 7)
    kept.ended((1, 11), 8)  # the number again, another process
    kept.watch((1, 11), lambda name, status: told.append((name, status)))
    assert told == [((1, 10), 7), ((1, 11), 8)]


def test_who_has_gone_is_told_nothing_but_the_next_one_is():
    kept, told = orphans.Orphans(), []
    kept.watch((1, 10), lambda name, status: told.append("gone"))
    kept.forget([(1, 10)])
    kept.ended((1, 10), 7)
    assert told == []
    kept.watch((1, 10), lambda name, status: told.append(status))
    assert told == [7]


def test_the_oldest_are_crowded_out():
    kept = orphans.Orphans()
    for pid in range(orphans.MOST + 1):
        kept.ended((pid, 1), 0)
    told = []
    kept.watch((0, 1), lambda name, status: told.append(name))
    kept.watch((1, 1), lambda name, status: told.append(name))
    assert told == [(1, 1)]


def test_children_are_reaped_with_the_time_they_began():
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    started = proc.start_time(pid)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert (pid, started, 3 << 8) in orphans.reap()
    assert orphans.reap() == []
