"""An interpreter of classic BPF, as small as seccomp's use of it, to run filters without a kernel."""

import struct
from collections.abc import Sequence


class Filter:
    """A compiled filter that can be asked about calls; checks what the kernel's checker would (jumps stay inside)."""

    def __init__(self, program: bytes) -> None:
        self.code = list(struct.iter_unpack("=HBBI", program))
        assert 0 < len(self.code) <= 4096
        assert self.code[-1][0] == 0x06, "the last instruction must return"
        for at, (opcode, true, false, value) in enumerate(self.code):
            assert opcode in (0x20, 0x54, 0x06, 0x05, 0x15, 0x25, 0x35), hex(opcode)
            if opcode == 0x20:
                assert value % 4 == 0
                assert value < 64
            longest = value if opcode == 0x05 else max(true, false)
            assert opcode in (0x20, 0x54, 0x06) or at + 1 + longest < len(self.code)

    def run(self, audit: int, number: int, arguments: Sequence[int] = ()) -> int:
        """The verdict on one call."""
        padded = [*arguments, *[0] * (6 - len(arguments))]
        words = struct.unpack("=16I", struct.pack("=IIQ6Q", number, audit, 0, *padded))
        accumulator = 0
        at = 0
        while True:
            opcode, true, false, value = self.code[at]
            at += 1
            if opcode == 0x20:
                accumulator = words[value // 4]
            elif opcode == 0x54:
                accumulator &= value
            elif opcode == 0x06:
                return value
            elif opcode == 0x05:
                at += value
            elif opcode == 0x15:
                at += true if accumulator == value else false
            elif opcode == 0x25:
                at += true if accumulator > value else false
            else:
                at += true if accumulator >= value else false
