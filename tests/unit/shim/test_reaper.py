"""Exit records."""

import os
import signal

from scow.shim import reaper


def test_codes_are_as_docker_counts_them():
    assert reaper.record(7 << 8)["code"] == 7
    assert reaper.record(signal.SIGKILL)["code"] == 137
    assert reaper.record(signal.SIGSEGV | 0x80)["code"] == 139


def test_a_record_comes_back_and_half_of_one_does_not(tmp_path):
    told = reaper.record(0, oom_killed=True, error="why")
    path = str(tmp_path / "exit.json")
    assert reaper.read(path) is None
    reaper.write(path, told)
    assert reaper.read(path) == told
    (tmp_path / "exit.json").write_text('{"code": 1')
    assert reaper.read(path) is None
    (tmp_path / "exit.json").write_text("[]")
    assert reaper.read(path) is None


def test_every_child_that_ended_is_collected_once():
    pids = set()
    for code in range(3):
        pid = os.fork()
        if pid == 0:
            os._exit(code)
        pids.add(pid)
    for pid in pids:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert {pid for pid, _ in reaper.ended()} >= pids
    assert not {pid for pid, _ in reaper.ended()} & pids


def test_a_clock_that_is_set_back_makes_no_end_before_the_beginning():
    told = reaper.record(0, started_at=2_000, ran=700, now=1_000)
    assert (told["started_at"], told["finished_at"], told["ran"]) == (2_000, 2_000, 700)


def test_an_end_nobody_has_seen_says_so():
    told = reaper.record(None, started_at=1)
    assert told["code"] == 255
    assert "not known" in told["error"]
