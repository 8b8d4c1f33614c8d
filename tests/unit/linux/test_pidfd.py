"""Processes by descriptor."""

import os

import pytest

from scow.linux.pidfd import pid_of, pidfd_open


def test_the_number_behind_a_descriptor_until_it_is_reaped():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    fd = pidfd_open(pid)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert pid_of(fd) == pid
        os.waitpid(pid, 0)
        with pytest.raises(ProcessLookupError):
            pid_of(fd)
    finally:
        os.close(fd)
