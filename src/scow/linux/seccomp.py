"""seccomp filters: rules over system call names → classic BPF, and putting a filter in force.

The compiler is pure. Calls are looked up in a tree of number ranges (eight comparisons instead of hundreds), built
per architecture; a rule with conditions on arguments hangs a chain of comparisons below its number. For one call the
first rule whose conditions hold decides, then the default. (libseccomp knows no order: there a rule without conditions
swallows those with, and a profile that says both keeps less than its author wrote.)

``struct seccomp_data`` as a filter reads it: number at 0, architecture at 4, arguments of 64 bits from 16 on,
little-endian. Source: seccomp(2), linux/seccomp.h, linux/filter.h.
"""

from __future__ import annotations

import errno
import os
import struct

from scow.errors import InvalidArgument
from scow.linux.syscall import address, filled, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

KILL_PROCESS = 0x80000000
KILL_THREAD = 0x00000000
TRAP = 0x00030000
ERRNO = 0x00050000
NOTIFY = 0x7FC00000
TRACE = 0x7FF00000
LOG = 0x7FFC0000
ALLOW = 0x7FFF0000

FLAG_LOG = 2
FLAG_SPEC_ALLOW = 4
FLAG_NEW_LISTENER = 8
FLAG_WAIT_KILLABLE_RECV = 32

EQ, NE, LT, LE, GT, GE = "==", "!=", "<", "<=", ">", ">="
ALL_BITS = 0xFFFFFFFF_FFFFFFFF
LOW_BITS = 0xFFFFFFFF
MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS
MOST_ARGUMENTS = 6

#: Architecture → AUDIT_ARCH_* (linux/audit.h). x32 shares x86_64's and sets a bit in its numbers.
AUDIT = {"x86_64": 0xC000003E, "x32": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
#: What a kernel of that machine can run, itself first.
FAMILY = {"x86_64": ("x86_64", "i386", "x32"), "aarch64": ("aarch64", "arm")}
_X32_BIT = 0x40000000
_ARM_PRIVATE = 0xF0000
_NO_CALL = 0xFFFFFFFF  # what a tracer leaves when it cancels a call

#: i386 calls that also go through one multiplexer, chosen by its first argument: (name, mask of that argument).
_MULTIPLEXERS = (
    (
        "socketcall",
        LOW_BITS,
        " socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom shutdown"
        " setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg",
        1,
    ),
    ("ipc", 0xFFFF, "semop semget semctl semtimedop", 1),
    ("ipc", 0xFFFF, "msgsnd msgrcv msgget msgctl", 11),
    ("ipc", 0xFFFF, "shmat shmdt shmget shmctl", 21),
)

_INSTRUCTION = struct.Struct("=HBBI")
_LOAD, _AND, _RETURN, _JUMP = 0x20, 0x54, 0x06, 0x05
_JUMP_EQUAL, _JUMP_GREATER, _JUMP_AT_LEAST = 0x15, 0x25, 0x35
_REACH = 250  # a conditional jump spans 255; the rest is room for what is put in between


class Condition:
    """``argument[index] & mask  operator  value``, unsigned, 64 bits."""

    __slots__ = ("index", "mask", "operator", "value")

    def __init__(self, index: int, operator: str, value: int, mask: int = ALL_BITS) -> None:
        if not 0 <= index < MOST_ARGUMENTS:
            raise InvalidArgument(f"seccomp: a system call has no argument {index}: use 0 to 5")
        if not 0 <= value <= ALL_BITS or not 0 <= mask <= ALL_BITS:
            raise InvalidArgument("seccomp: argument values are unsigned numbers of 64 bits")
        self.index = index
        self.operator = operator
        self.value = value
        self.mask = mask

    def holds(self, arguments: Sequence[int]) -> bool:
        """The plain meaning, for tests and for reading."""
        left, right = arguments[self.index] & self.mask, self.value
        return {
            EQ: left == right,
            NE: left != right,
            LT: left < right,
            LE: left <= right,
            GT: left > right,
            GE: left >= right,
        }[self.operator]

    def narrow(self) -> Condition:
        """The same on the lower half of the argument, all that counts of a register in a 32-bit ABI."""
        return Condition(self.index, self.operator, self.value, self.mask & LOW_BITS)

    def key(self) -> tuple[int, str, int, int]:
        """What makes two conditions the same."""
        return (self.index, self.operator, self.value, self.mask)


class Rule:
    """`action` for the calls in `names` when all `conditions` hold; names an architecture lacks are skipped."""

    __slots__ = ("action", "conditions", "names")

    def __init__(self, names: Iterable[str], action: int, conditions: Sequence[Condition] = ()) -> None:
        self.names = tuple(names)
        self.action = action
        self.conditions = tuple(conditions)


if TYPE_CHECKING:
    # What becomes of one number: a verdict, or (conditions, verdict) pairs tried in order before the default.
    Leaf = int | tuple[tuple[tuple[Condition, ...], int], ...]
    Range = tuple[int, Leaf]


def numbers(architecture: str) -> dict[str, int]:
    """Name → number; loaded on first use.

    Raises:
        InvalidArgument: an architecture without a table.
    """
    if architecture not in _tables:
        _tables[architecture] = _table(architecture)
    return _tables[architecture]


def _table(architecture: str) -> dict[str, int]:
    if architecture == "x86_64":
        from scow.linux.syscalls_x86_64 import NUMBERS
    elif architecture == "x32":
        from scow.linux.syscalls_x86_64 import x32

        return x32()
    elif architecture == "i386":
        from scow.linux.syscalls_i386 import NUMBERS
    elif architecture == "aarch64":
        from scow.linux.syscalls_aarch64 import NUMBERS
    elif architecture == "arm":
        from scow.linux.syscalls_arm import NUMBERS
    else:
        raise InvalidArgument(f"seccomp: no system call numbers for architecture {architecture}")
    return NUMBERS


_tables: dict[str, dict[str, int]] = {}


def compile_filter(
    rules: Sequence[Rule],
    default: int,
    architectures: Sequence[str],
    newer: int | None = None,
    foreign: int = KILL_PROCESS,
) -> bytes:
    """A filter as an array of ``struct sock_filter``.

    Args:
        default: verdict for calls no rule decides.
        architectures: those the filter knows, names of `AUDIT`.
        newer: verdict instead of `default` for numbers above the highest a rule names: calls made after the policy
            was written. ENOSYS there lets programs fall back, where EPERM makes them fail.
        foreign: verdict for every other architecture.

    Raises:
        InvalidArgument: no table for an architecture, or a filter beyond the kernel's 4096 instructions.
    """
    code = _Code()
    dispatch = code.verdict(foreign)
    for audit in dict.fromkeys(AUDIT[each] for each in reversed(architectures)):
        names = [each for each in architectures if AUDIT[each] == audit]
        ranges = _ranges(rules, default, names, newer, foreign)
        code.fall_to(code.tree(ranges, 0, len(ranges), default))
        dispatch = code.branch(_JUMP_EQUAL, audit, code.put(_LOAD, 0), dispatch)
    code.put(_LOAD, 4)
    if len(code.reversed) > MOST_INSTRUCTIONS:
        raise InvalidArgument(f"seccomp: the profile needs more than {MOST_INSTRUCTIONS} instructions: simplify it")
    return b"".join(reversed(code.reversed))


def _ranges(rules: Sequence[Rule], default: int, names: Sequence[str], newer: int | None, foreign: int) -> list[Range]:
    """The whole number space of one AUDIT architecture as (first number, leaf), in order, neighbours differing."""
    decided: dict[int, Leaf] = {}
    marks: list[tuple[int, int]] = []  # from here on, unless decided: this verdict
    for base, architecture in ((0, "native"), (_X32_BIT, "x32")):
        matching = [each for each in names if (each == "x32") == (architecture == "x32")]
        for each in matching:
            found = _leaves(rules, each)
            decided.update(found)
            marks.append((base, default))
            ordinary = [number for number in found if number - base < _ARM_PRIVATE]
            if newer is not None and ordinary:
                marks.append((max(ordinary) + 1, newer))
            if each == "arm":
                marks.append((_ARM_PRIVATE, default))
        if not matching and (base == 0 or "x86_64" in names):
            marks.append((base, foreign))
    marks.append((_NO_CALL, default))
    points: dict[int, Leaf] = dict(marks)
    background = sorted(marks)
    at = 0
    for number in sorted(decided):
        while at + 1 < len(background) and background[at + 1][0] <= number:
            at += 1
        points.setdefault(number + 1, background[at][1])
        if number + 1 in decided:
            points[number + 1] = decided[number + 1]
        points[number] = decided[number]
    ranges: list[Range] = []
    for number in sorted(points):
        if not ranges or ranges[-1][1] != points[number]:
            ranges.append((number, points[number]))
    return ranges


def _leaves(rules: Sequence[Rule], architecture: str) -> dict[int, Leaf]:
    """Number → leaf of every call a rule names."""
    table = numbers(architecture)
    leaves: dict[int, Leaf] = {}
    chains: dict[int, list[tuple[tuple[Condition, ...], int]]] = {}
    for rule in rules:
        if rule.conditions or chains:
            # i386 and arm have their registers widened by the kernel; x32 passes whatever the upper halves hold.
            conditions = tuple(each.narrow() for each in rule.conditions) if architecture == "x32" else rule.conditions
            for name in rule.names:
                number = table.get(name)
                if number is not None and number not in leaves:
                    if conditions:
                        chains.setdefault(number, []).append((conditions, rule.action))
                    elif number in chains:
                        leaves[number] = (*chains.pop(number), ((), rule.action))
                    else:
                        leaves[number] = rule.action
        else:
            for name in rule.names:
                number = table.get(name)
                if number is not None and number not in leaves:
                    leaves[number] = rule.action
    leaves.update({number: tuple(chain) for number, chain in chains.items()})
    return leaves


def demultiplexed(rules: Sequence[Rule], default: int) -> list[Rule]:
    """The rules, with each one for a socket or System V call repeated for i386's multiplexer of it.

    Arguments behind a multiplexer lie in memory, which a filter cannot read: a rule with conditions is left out if it
    allows, and applies to every such call if it forbids, so that neither opens a hole.
    """
    found: list[Rule] = []
    for rule in rules:
        found.append(rule)
        if rule.conditions and (rule.action in (ALLOW, LOG) or rule.action == default):
            continue
        wanted = set(rule.names)
        for name, mask, members, first in _MULTIPLEXERS:
            found += [
                Rule((name,), rule.action, (Condition(0, EQ, first + index, mask),))
                for index, member in enumerate(members.split())
                if member in wanted
            ]
    return found


class _Code:
    """Instructions from the last to the first: when a jump is put down, all it can reach is already there.

    A label is the length of `reversed` just after its instruction: the distance from the next one to it is
    ``len(reversed) - label``.
    """

    __slots__ = ("chains", "reversed", "verdicts")

    def __init__(self) -> None:
        self.reversed: list[bytes] = []
        self.verdicts: dict[int, int] = {}
        self.chains: dict[object, int] = {}

    def put(self, opcode: int, value: int, true: int = 0, false: int = 0) -> int:
        """Put an instruction before all others; returns its label."""
        self.reversed.append(_INSTRUCTION.pack(opcode, true, false, value))
        return len(self.reversed)

    def verdict(self, action: int) -> int:
        """The label of a return of `action` within reach of the next instruction."""
        label = self.verdicts.get(action, 0)
        if not label or len(self.reversed) - label > _REACH:
            label = self.verdicts[action] = self.put(_RETURN, action)
        return label

    def fall_to(self, label: int) -> None:
        """Make `label` what follows the next instruction."""
        if label != len(self.reversed):
            self.put(_JUMP, len(self.reversed) - label)

    def near(self, label: int) -> int:
        """`label`, or the label of a long jump to it when it is out of reach."""
        distance = len(self.reversed) - label
        return label if distance <= _REACH else self.put(_JUMP, distance)

    def branch(self, opcode: int, value: int, true: int, false: int) -> int:
        """A comparison and where it leads."""
        true = self.near(true)
        false = self.near(false)
        here = len(self.reversed)
        return self.put(opcode, value, here - true, here - false)

    def tree(self, ranges: Sequence[Range], first: int, last: int, default: int) -> int:
        """Binary search over ``ranges[first:last]`` with the number in the accumulator."""
        if last - first == 1:
            leaf = ranges[first][1]
            return self.verdict(leaf) if isinstance(leaf, int) else self.chain(leaf, default)
        middle = (first + last) // 2
        upper = self.tree(ranges, middle, last, default)
        lower = self.tree(ranges, first, middle, default)
        return self.branch(_JUMP_AT_LEAST, ranges[middle][0], upper, lower)

    def chain(self, leaf: tuple[tuple[tuple[Condition, ...], int], ...], default: int) -> int:
        """Rules with conditions, tried in order, then the default."""
        key = tuple((tuple(each.key() for each in conditions), action) for conditions, action in leaf)
        known = self.chains.get(key)
        if known is not None:
            return known
        label = self.verdict(default)
        for conditions, action in reversed(leaf):
            if not conditions:
                label = self.verdict(action)
                continue
            then = self.verdict(action)
            for condition in reversed(conditions):
                then = self.condition(condition, then, label)
            label = then
        self.chains[key] = label
        return label

    def condition(self, condition: Condition, true: int, false: int) -> int:
        """One comparison of 64 bits, as comparisons of its halves."""
        operator = condition.operator
        if operator in (NE, LT, LE):  # the opposites, with the ways swapped
            operator = {NE: EQ, LT: GE, LE: GT}[operator]
            true, false = false, true
        high, low = condition.value >> 32, condition.value & LOW_BITS
        mask_high, mask_low = condition.mask >> 32, condition.mask & LOW_BITS
        if not mask_high and high:  # a number of 32 bits against a larger one
            return false
        opcode = {EQ: _JUMP_EQUAL, GT: _JUMP_GREATER, GE: _JUMP_AT_LEAST}[operator]
        self.branch(opcode, low, true, false)
        label = self.load(16 + 8 * condition.index, mask_low)
        if not mask_high:
            return label
        label = self.branch(_JUMP_EQUAL, high, label, false)
        if operator != EQ:
            label = self.branch(_JUMP_GREATER, high, true, label)
        return self.load(20 + 8 * condition.index, mask_high)

    def load(self, offset: int, mask: int) -> int:
        """Half an argument, masked, into the accumulator."""
        if mask != LOW_BITS:
            self.put(_AND, mask)
        return self.put(_LOAD, offset)


def load(program: bytes, flags: int = FLAG_SPEC_ALLOW) -> int | None:
    """Put `program` in force on the calling thread and all it will start; there is no way back.

    Needs CAP_SYS_ADMIN or no_new_privs. Speculation stays as it is unless `flags` say otherwise (SPEC_ALLOW, runc's
    default too: the mitigation costs every process and protects from none of its peers).

    Returns:
        The listener's descriptor with FLAG_NEW_LISTENER, else None.

    Raises:
        OSError: the kernel refuses.
    """
    instructions = filled(program)
    argument = filled(struct.pack("=HxxxxxxQ", len(program) // _INSTRUCTION.size, address(instructions)))
    try:
        result = syscall("seccomp", 1, flags, argument, what="seccomp filter")
    except OSError as error:
        if flags & FLAG_NEW_LISTENER or error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        # A kernel without these flags, or without seccomp(2): the older call takes none.
        syscall("prctl", 22, 2, argument, 0, 0, what="seccomp filter")
        return None
    if not flags & FLAG_NEW_LISTENER:
        return None
    os.set_inheritable(result, False)
    return result
