"""The device program, run by an interpreter of our own and accepted by the kernel's verifier."""

import itertools
import os
import struct

import pytest

from scow.linux.bpf import (
    ANY,
    BLOCK,
    CHAR,
    MKNOD,
    READ,
    WRITE,
    Device,
    attach_device_program,
    device_program,
    load_device_program,
)

ALL = READ | WRITE | MKNOD
UNIFIED = "/sys/fs/cgroup/unified" if os.path.isdir("/sys/fs/cgroup/unified") else "/sys/fs/cgroup"


def run(program: bytes, access: int, kind: int, major: int, minor: int) -> int:
    """Interpret the handful of eBPF instructions the builder uses; anything else fails the test."""
    context = struct.pack("=III", access << 16 | kind, major, minor)
    code = list(struct.iter_unpack("=BBhi", program))
    registers: list[int | None] = [None] * 11
    registers[1] = 0
    at = 0
    while True:
        opcode, pair, offset, immediate = code[at]
        source, destination = pair >> 4, pair & 15
        at += 1
        if opcode == 0x61:
            registers[destination] = struct.unpack_from("=I", context, registers[source] + offset)[0]
        elif opcode == 0xB4:
            registers[destination] = immediate & 0xFFFFFFFF
        elif opcode == 0xBC:
            registers[destination] = registers[source] & 0xFFFFFFFF
        elif opcode == 0x54:
            registers[destination] &= immediate & 0xFFFFFFFF
        elif opcode == 0x74:
            registers[destination] >>= immediate
        elif opcode in (0x15, 0x55, 0x5D):
            right = registers[source] if opcode == 0x5D else immediate
            at += offset if (registers[destination] == right) is (opcode == 0x15) else 0
        elif opcode == 0x95:
            return registers[0]
        else:
            raise AssertionError(f"opcode {opcode:#x}")


def decide(allow: bool, exceptions: list[Device], access: int, kind: int, major: int, minor: int) -> bool:
    """What security/device_cgroup.c says, in words."""
    matching = [d for d in exceptions if d.kind == kind and d.major in (ANY, major) and d.minor in (ANY, minor)]
    if allow:
        return not any(d.access & access for d in matching)
    return any(d.access & access == access for d in matching)


EXCEPTIONS = [
    Device(CHAR, 1, 3, ALL),
    Device(CHAR, 1, 5, READ),
    Device(CHAR, 136, ANY, READ | WRITE),
    Device(BLOCK, ANY, ANY, MKNOD),
    Device(BLOCK, 8, 0, READ),
    Device(CHAR, ANY, 7, WRITE),
]


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize("count", range(len(EXCEPTIONS) + 1))
def test_the_program_decides_as_the_v1_controller(allow, count):
    exceptions = EXCEPTIONS[:count]
    program = device_program(allow, exceptions)
    for access, kind, major, minor in itertools.product(range(1, 8), (BLOCK, CHAR), (0, 1, 8, 136), (0, 3, 5, 7)):
        expected = decide(allow, exceptions, access, kind, major, minor)
        assert run(program, access, kind, major, minor) == expected, (access, kind, major, minor)


def test_a_stranger_is_refused_and_a_bare_default_allows():
    assert run(device_program(False, []), READ, CHAR, 1, 3) == 0
    assert run(device_program(True, []), ALL, BLOCK, 8, 0) == 1


@pytest.mark.root
def test_the_kernel_enforces_it():
    folder = f"{UNIFIED}/scow-test-bpf-{os.getpid()}"
    os.mkdir(folder)
    folder_fd = os.open(folder, os.O_RDONLY)
    try:
        only_null = [Device(CHAR, 1, 3, READ | WRITE)]
        many = [Device(CHAR, major, ANY, ALL) for major in range(200, 400)]
        assert outcome(folder, folder_fd, device_program(False, only_null)) == "null yes, zero no"
        assert (
            outcome(folder, folder_fd, device_program(False, [*many, Device(CHAR, 1, 5, READ)])) == "null no, zero yes"
        )
        assert outcome(folder, folder_fd, device_program(True, [])) == "null yes, zero yes"
    finally:
        os.close(folder_fd)
        os.rmdir(folder)


def outcome(folder: str, folder_fd: int, program: bytes) -> str:
    """What a process in the group may open once `program` has replaced its predecessor."""
    program_fd = load_device_program(program)
    attach_device_program(folder_fd, program_fd)
    os.close(program_fd)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with open(f"{folder}/cgroup.procs", "w") as file:
            file.write("0")
        words = []
        for name in ("null", "zero"):
            try:
                os.close(os.open(f"/dev/{name}", os.O_RDONLY))
                words.append(f"{name} yes")
            except PermissionError:
                words.append(f"{name} no")
        os.write(writing, ", ".join(words).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        text = file.read().decode()
    os.waitpid(pid, 0)
    return text
