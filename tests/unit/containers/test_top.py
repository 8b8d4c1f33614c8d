import os
import time

import pytest

from scow.containers import top
from scow.containers.top import COLUMNS, Host, arguments_of, columns, read
from scow.errors import InvalidArgument


def test_formats():
    assert [title for _, title in columns("")] == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert [title for _, title in columns("-ef")] == [title for _, title in columns("")]
    assert [title for _, title in columns("aux")][:3] == ["USER", "PID", "%CPU"]
    assert columns("-o pid,args=WHAT") == [("pid", "PID"), ("args", "WHAT")]
    assert columns("-eo pid -o %cpu") == [("pid", "PID"), ("pcpu", "%CPU")]
    assert columns("axo user") == [("user", "USER")]


@pytest.mark.parametrize("arguments", ["--forest; rm", "-o", "-o nope", "-Z", "-o uid_name", "xyz"])
def test_what_is_not_known_is_refused(arguments):
    with pytest.raises(InvalidArgument, match="ps:"):
        columns(arguments)


def test_this_process_in_every_column():
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    process = read(os.getpid(), boot)
    assert process.ppid == os.getppid()
    assert abs(process.started - time.time()) < 3600
    host = Host(time.time(), 1 << 30)
    for title, show in COLUMNS.values():
        assert title
        assert isinstance(show(process, host), str)
    assert read(2**22 + 1, boot) is None


def test_times():
    process = read(os.getpid(), 0)
    assert top._elapsed(process, Host(process.started + 90061, 1)) == "1-01:01:01"
    assert top._clock(3661) == "01:01:01"


def test_what_to_sort_by():
    assert arguments_of("aux --sort=-pcpu,pid")[1] == [("pcpu", True), ("pid", False)]
    assert arguments_of("-eo pid,rss --sort -rss -ww") == ([("pid", "PID"), ("rss", "RSS")], [("rss", True)])
    with pytest.raises(InvalidArgument, match="unknown column"):
        arguments_of("--sort=colour")
    with pytest.raises(InvalidArgument, match="unknown column"):
        arguments_of("aux --sort")
