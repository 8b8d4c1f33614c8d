"""32-bit ARM numbers."""

from scow.linux.syscalls_arm import NUMBERS


def test_landmarks():
    assert NUMBERS["restart_syscall"] == 0
    assert NUMBERS["socket"] == 281
    assert NUMBERS["arm_fadvise64_64"] == 270
    assert NUMBERS["sync_file_range2"] == NUMBERS["arm_sync_file_range"] == 341
    assert NUMBERS["seccomp"] == 383


def test_the_private_range():
    assert NUMBERS["breakpoint"] == 0xF0001
    assert NUMBERS["set_tls"] == 0xF0005
