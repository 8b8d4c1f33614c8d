"""64-bit ARM numbers."""

from scow.linux.syscalls_aarch64 import NUMBERS


def test_landmarks():
    assert NUMBERS["io_setup"] == 0
    assert NUMBERS["openat"] == 56
    assert NUMBERS["newfstatat"] == 79
    assert NUMBERS["execve"] == 221
    assert NUMBERS["seccomp"] == 277
    assert NUMBERS["rseq"] == 293
    assert NUMBERS["memfd_secret"] == 447


def test_the_old_calls_were_never_there():
    assert not {"open", "fork", "stat", "pipe", "select", "time"} & NUMBERS.keys()
