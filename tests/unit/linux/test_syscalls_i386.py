"""32-bit x86 numbers, against the kernel headers where they are installed."""

import re

import pytest

from scow.linux.syscalls_i386 import NUMBERS

HEADER = "/usr/include/x86_64-linux-gnu/asm/unistd_32.h"


def test_landmarks():
    assert NUMBERS["restart_syscall"] == 0
    assert NUMBERS["socketcall"] == 102
    assert NUMBERS["personality"] == 136
    assert NUMBERS["socket"] == 359
    assert NUMBERS["futex_time64"] == 422


def test_as_in_the_kernel_headers():
    try:
        with open(HEADER) as file:
            found = {name: int(value) for name, value in re.findall(r"#define __NR_(\w+) (\d+)", file.read())}
    except FileNotFoundError:
        pytest.skip(f"no {HEADER}")
    assert len(found) > 400
    assert found.items() <= NUMBERS.items()
