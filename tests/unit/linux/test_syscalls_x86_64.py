"""x86-64 and x32 numbers, against the kernel headers where they are installed."""

import re

import pytest

from scow.linux.syscalls_x86_64 import NUMBERS, X32_BIT, x32

HEADERS = "/usr/include/x86_64-linux-gnu/asm/"


def test_landmarks():
    assert NUMBERS["read"] == 0
    assert NUMBERS["execve"] == 59
    assert NUMBERS["seccomp"] == 317
    assert NUMBERS["rseq"] == 334
    assert NUMBERS["uretprobe"] == 335
    assert len(set(NUMBERS.values())) == len(NUMBERS)


def test_x32_renumbers_what_passes_pointers_in_structures():
    numbers = x32()
    assert numbers["read"] == X32_BIT
    assert numbers["execve"] == X32_BIT | 520
    assert numbers["preadv2"] == X32_BIT | 546
    assert "uselib" not in numbers


@pytest.mark.parametrize(("header", "table"), [("unistd_64.h", NUMBERS), ("unistd_x32.h", x32())])
def test_as_in_the_kernel_headers(header, table):
    try:
        with open(HEADERS + header) as file:
            text = file.read()
    except FileNotFoundError:
        pytest.skip(f"no {HEADERS}{header}")
    text = text.replace("(__X32_SYSCALL_BIT + ", "").replace(")", "")
    bit = X32_BIT if "x32" in header else 0
    found = {name: int(value) | bit for name, value in re.findall(r"#define __NR_(\w+) (\d+)", text)}
    assert len(found) > 300
    assert found.items() <= table.items()
