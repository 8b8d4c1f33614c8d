"""Processes by descriptor."""

import os

import pytest

from scow.linux import proc
from scow.linux.pidfd import exit_status, pid_of, pidfd_open


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


def test_how_a_process_ended_can_be_learnt_without_being_its_parent():
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    fd = pidfd_open(pid)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        started = proc.start_time(pid)
        assert exit_status(fd) is None
        assert proc.zombie_status(pid, started) == 7 << 8
        assert proc.zombie_status(pid, started + 1) is None
        os.waitpid(pid, 0)
        assert proc.zombie_status(pid, started) is None
        assert exit_status(fd) in (7 << 8, None)  # None before Linux 6.15
    finally:
        os.close(fd)


def test_a_process_that_runs_has_no_status():
    fd = pidfd_open(os.getpid())
    try:
        assert exit_status(fd) is None
        assert proc.zombie_status(os.getpid(), proc.start_time(os.getpid())) is None
    finally:
        os.close(fd)
