"""Device access on cgroup v2: a small BPF program per container, built here and attached with bpf(2).

`device_program` is pure. The kernel hands the program one context (``struct bpf_cgroup_dev_ctx``: access and type,
major, minor) and lets the access happen if it returns 1.
"""

import contextlib
import os
import struct
from collections.abc import Sequence

from scow.errors import System
from scow.linux.syscall import address, buffer, filled, syscall

BLOCK, CHAR = 1, 2
MKNOD, READ, WRITE = 1, 2, 4
ANY = -1

_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _PROG_GET_FD_BY_ID, _PROG_QUERY = 5, 8, 9, 13, 16
_PROG_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_ALLOW_MULTI = 2
_MOST_ATTACHED = 64  # BPF_CGROUP_MAX_PROGS
_QUERY_SIZE = 64  # newer kernels write a revision number at offset 56
_LOG = 64 << 10

# Instruction: opcode, registers (source << 4 | destination), jump offset, immediate.
_INSTRUCTION = struct.Struct("=BBhi")
_LOAD_WORD, _AND, _SHIFT_RIGHT, _MOVE, _MOVE_REGISTER, _EXIT = 0x61, 0x54, 0x74, 0xB4, 0xBC, 0x95
_JUMP_EQUAL, _JUMP_NOT_EQUAL, _JUMP_NOT_EQUAL_REGISTER = 0x15, 0x55, 0x5D
_R0, _R1, _R2, _R3, _R4, _R5 = range(6)


class Device:
    """One exception to the default: a device (`major`, `minor` may be `ANY`), and access bits."""

    __slots__ = ("access", "kind", "major", "minor")

    def __init__(self, kind: int, major: int, minor: int, access: int) -> None:
        self.kind = kind
        self.major = major
        self.minor = minor
        self.access = access

    def names(self, other: "Device") -> bool:
        """Whether both speak of the very same device or pattern."""
        return (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)


def device_program(allow: bool, exceptions: Sequence[Device]) -> bytes:
    """Instructions that decide like the v1 device controller does.

    With `allow` false an access passes if one exception covers all of it; with `allow` true it fails if an exception
    touches any of it (kernel: security/device_cgroup.c).
    """
    code = [
        _instruction(_LOAD_WORD, _R2, _R1),  # access << 16 | type
        _instruction(_MOVE_REGISTER, _R3, _R2),
        _instruction(_AND, _R2, immediate=0xFFFF),  # r2 = type
        _instruction(_SHIFT_RIGHT, _R3, immediate=16),  # r3 = access
        _instruction(_LOAD_WORD, _R4, _R1, 4),  # r4 = major
        _instruction(_LOAD_WORD, _R5, _R1, 8),  # r5 = minor
    ]
    for device in exceptions:
        code += _exception(device, allow)
    code += _verdict(allow)
    return b"".join(code)


def _exception(device: Device, allow: bool) -> list[bytes]:
    """The tests of one exception, each jumping behind it when it does not apply, and its verdict."""
    tests = [(_JUMP_NOT_EQUAL, _R2, 0, device.kind)]
    if device.major != ANY:
        tests.append((_JUMP_NOT_EQUAL, _R4, 0, device.major))
    if device.minor != ANY:
        tests.append((_JUMP_NOT_EQUAL, _R5, 0, device.minor))
    head = [_instruction(_MOVE_REGISTER, _R0, _R3), _instruction(_AND, _R0, immediate=device.access)]
    if allow:  # any overlap: r0 = access & exception; none → next
        access = [*head, _instruction(_JUMP_EQUAL, _R0, offset=2)]
    else:  # all of it: access & exception == access, else → next
        access = [*head, _instruction(_JUMP_NOT_EQUAL_REGISTER, _R0, _R3, offset=2)]
    behind = len(access) + 2
    jumps = [
        _instruction(opcode, register, source, behind + len(tests) - index - 1, value)
        for index, (opcode, register, source, value) in enumerate(tests)
    ]
    return [*jumps, *access, *_verdict(not allow)]


def _verdict(allow: bool) -> list[bytes]:
    return [_instruction(_MOVE, _R0, immediate=int(allow)), _instruction(_EXIT)]


def _instruction(opcode: int, destination: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return _INSTRUCTION.pack(opcode, source << 4 | destination, offset, immediate)


def load_device_program(program: bytes) -> int:
    """Load `program` and return its descriptor.

    Raises:
        System: the kernel refuses it; the text ends with the verifier's last words.
    """
    instructions, licence = filled(program), filled(b"Apache-2.0\0")
    count = len(program) // _INSTRUCTION.size
    start = struct.pack("=IIQQ", _PROG_TYPE_CGROUP_DEVICE, count, address(instructions), address(licence))
    try:
        return _bpf(_PROG_LOAD, start)
    except OSError as error:
        # Asking for the log at once would cost time, and fail by itself (ENOSPC) when the log outgrows its buffer.
        log = buffer(_LOG)
        with contextlib.suppress(OSError):
            os.close(_bpf(_PROG_LOAD, start + struct.pack("=IIQ", 1, len(log), address(log))))
        words = log.raw.rstrip(b"\0").decode("ascii", "replace").strip().rpartition("\n")[2]
        raise System(f"the kernel refuses the device program: {error.strerror} {words}".rstrip()) from error


def attach_device_program(cgroup_fd: int, program_fd: int) -> None:
    """Put the program in force on the group in place of those attached to it before.

    All attached programs must allow an access, so there is no moment in which more is allowed than before or after.
    """
    older = _attached(cgroup_fd)
    _bpf(_PROG_ATTACH, struct.pack("=IIII", cgroup_fd, program_fd, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI))
    for identity in older:
        old_fd = _bpf(_PROG_GET_FD_BY_ID, struct.pack("=III", identity, 0, 0))
        try:
            _bpf(_PROG_DETACH, struct.pack("=IIII", cgroup_fd, old_fd, _ATTACH_CGROUP_DEVICE, 0))
        finally:
            os.close(old_fd)


def _attached(cgroup_fd: int) -> tuple[int, ...]:
    """Identities of the device programs attached to the group itself."""
    identities = buffer(4 * _MOST_ATTACHED)
    asked = struct.pack("=IIIIQI", cgroup_fd, _ATTACH_CGROUP_DEVICE, 0, 0, address(identities), _MOST_ATTACHED)
    query = filled(asked.ljust(_QUERY_SIZE, b"\0"))
    syscall("bpf", _PROG_QUERY, query, len(query), what="device programs")
    count = struct.unpack_from("=I", query.raw, 24)[0]
    return struct.unpack(f"={count}I", identities.raw[: 4 * count])


def _bpf(command: int, attributes: bytes) -> int:
    held = filled(attributes)
    return syscall("bpf", command, held, len(held), what="device program")
