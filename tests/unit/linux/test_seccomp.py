"""The filter compiler against the plain meaning of the rules, call by call; and filters in force in real children."""

import errno
import os
import platform
import random
import signal

import pytest

from scow.errors import InvalidArgument
from scow.linux import seccomp
from scow.linux.constants import PR_SET_NO_NEW_PRIVS
from scow.linux.proc import prctl
from scow.linux.seccomp import (
    ALLOW,
    AUDIT,
    EQ,
    ERRNO,
    GE,
    GT,
    KILL_PROCESS,
    KILL_THREAD,
    LE,
    LOG,
    LOW_BITS,
    LT,
    NE,
    NOTIFY,
    TRACE,
    TRAP,
    Condition,
    Rule,
    compile_filter,
    demultiplexed,
    numbers,
)
from support.classic_bpf import Filter

ARCHITECTURES = ("x86_64", "x32", "i386", "aarch64", "arm")
DEFAULT = ERRNO | 1
INTERESTING = (0, 1, 2, 37, 38, 39, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, (1 << 32) + 38, (1 << 64) - 1)


def expected(rules, default, architecture, number, arguments):
    """The first rule that fits, else the default: the meaning in two lines."""
    named = {value: name for name, value in reversed(numbers(architecture).items())}
    names = {name for name, value in numbers(architecture).items() if value == number} if number in named else set()
    for rule in rules:
        if names.intersection(rule.names) and all(condition.holds(arguments) for condition in rule.conditions):
            return rule.action
    return default


def random_rules(seed):
    chance = random.Random(seed)
    names = sorted(set().union(*(numbers(each) for each in ARCHITECTURES)))
    rules = []
    for _ in range(chance.choice((1, 5, 40))):
        conditions = [
            Condition(
                chance.randrange(6),
                chance.choice((EQ, NE, LT, LE, GT, GE)),
                chance.choice(INTERESTING),
                chance.choice(((1 << 64) - 1, LOW_BITS, 0x7E020000, 0xFFFFFFFF_00000000, 0xF0_0000000F)),
            )
            for _ in range(chance.choice((0, 0, 1, 2, 3)))
        ]
        action = chance.choice((ALLOW, ALLOW, ERRNO | 38, KILL_PROCESS, KILL_THREAD, TRAP, LOG, TRACE | 7, NOTIFY))
        rules.append(Rule(chance.sample(names, chance.choice((1, 10, 200))), action, conditions))
    return rules, chance


@pytest.mark.parametrize("seed", range(12))
def test_every_call_is_decided_as_the_rules_say(seed):
    rules, chance = random_rules(seed)
    for architectures in (("x86_64", "i386", "x32"), ("aarch64", "arm"), ("x86_64",)):
        filter_ = Filter(compile_filter(rules, DEFAULT, architectures))
        for architecture in architectures:
            named = sorted(set(numbers(architecture).values()))
            for number in chance.sample(named, 150):
                arguments = [chance.choice(INTERESTING) for _ in range(6)]
                seen = [each & LOW_BITS for each in arguments] if architecture == "x32" else arguments
                wanted = expected(rules, DEFAULT, architecture, number, seen)
                assert filter_.run(AUDIT[architecture], number, arguments) == wanted, (architecture, number, arguments)


@pytest.mark.parametrize("operator", [EQ, NE, LT, LE, GT, GE])
@pytest.mark.parametrize("mask", [(1 << 64) - 1, LOW_BITS, 0xFFFFFFFF_00000000, 0xFF00FF00FF])
def test_comparisons_of_64_bits(operator, mask):
    for value in INTERESTING:
        condition = Condition(2, operator, value, mask)
        filter_ = Filter(compile_filter([Rule(["read"], ALLOW, [condition])], DEFAULT, ["x86_64"]))
        for argument in INTERESTING:
            arguments = [0, 0, argument, 0, 0, 0]
            wanted = ALLOW if condition.holds(arguments) else DEFAULT
            assert filter_.run(AUDIT["x86_64"], 0, arguments) == wanted, (value, argument)


def test_foreign_architectures_and_unlisted_x32_are_killed():
    filter_ = Filter(compile_filter([Rule(["read"], ALLOW)], DEFAULT, ["x86_64"]))
    assert filter_.run(AUDIT["x86_64"], 0) == ALLOW
    assert filter_.run(AUDIT["i386"], 3) == KILL_PROCESS
    assert filter_.run(AUDIT["aarch64"], 63) == KILL_PROCESS
    assert filter_.run(AUDIT["x86_64"], 0x40000000) == KILL_PROCESS
    assert filter_.run(AUDIT["x86_64"], 0x7FFFFFFF) == KILL_PROCESS
    assert filter_.run(AUDIT["x86_64"], 0xFFFFFFFF) == DEFAULT, "a call a tracer has cancelled"


def test_numbers_between_and_around_the_named_ones_get_the_default():
    filter_ = Filter(compile_filter([Rule(["read", "close", "arch_prctl"], ALLOW)], DEFAULT, ["x86_64", "i386", "x32"]))
    allowed = [number for number in range(2000) if filter_.run(AUDIT["x86_64"], number) == ALLOW]
    assert allowed == [0, 3, 158]
    assert [number for number in range(2000) if filter_.run(AUDIT["i386"], number) == ALLOW] == [3, 6, 384]
    x32 = [number for number in range(2000) if filter_.run(AUDIT["x86_64"], 0x40000000 | number) == ALLOW]
    assert x32 == [0, 3, 158]


def test_calls_newer_than_the_policy_get_their_own_verdict():
    unknown = ERRNO | errno.ENOSYS
    filter_ = Filter(compile_filter([Rule(["read", "mseal"], ALLOW)], DEFAULT, ["x86_64", "i386", "x32"], unknown))
    for audit, base in ((AUDIT["x86_64"], 0), (AUDIT["i386"], 0), (AUDIT["x86_64"], 0x40000000)):
        assert filter_.run(audit, base + 461) == DEFAULT
        assert filter_.run(audit, base + 462) == ALLOW
        assert filter_.run(audit, base + 463) == unknown
        assert filter_.run(audit, base + 5000) == unknown
    arm = Filter(compile_filter([Rule(["read", "mseal", "set_tls"], ALLOW)], DEFAULT, ["aarch64", "arm"], unknown))
    assert arm.run(AUDIT["arm"], 463) == unknown
    assert arm.run(AUDIT["arm"], 0xF0004) == DEFAULT
    assert arm.run(AUDIT["arm"], 0xF0005) == ALLOW


def test_an_earlier_rule_wins():
    rules = [Rule(["read"], ALLOW, [Condition(0, EQ, 3)]), Rule(["read"], TRAP), Rule(["read"], ALLOW)]
    filter_ = Filter(compile_filter(rules, DEFAULT, ["x86_64"]))
    assert filter_.run(AUDIT["x86_64"], 0, [3]) == ALLOW
    assert filter_.run(AUDIT["x86_64"], 0, [4]) == TRAP


def test_upper_halves_of_registers_do_not_count_on_x32():
    rules = [Rule(["socket"], ERRNO | 13, [Condition(0, EQ, 40)]), Rule(["socket"], ALLOW)]
    filter_ = Filter(compile_filter(rules, DEFAULT, ["x86_64", "x32"]))
    socket = numbers("x32")["socket"]
    assert [filter_.run(AUDIT["x32"], socket, [family]) for family in (40, 1 << 32 | 40, 41)] == [
        ERRNO | 13,
        ERRNO | 13,
        ALLOW,
    ]


def test_one_verdict_for_everything():
    filter_ = Filter(compile_filter([], ALLOW, ["x86_64", "i386", "x32"]))
    assert filter_.run(AUDIT["i386"], 12345) == ALLOW
    assert filter_.run(AUDIT["aarch64"], 0) == KILL_PROCESS


def test_multiplexers_follow_the_rules_for_what_they_carry():
    rules = demultiplexed(
        [
            Rule(["bind", "semget"], ALLOW),
            Rule(["socket"], ALLOW, [Condition(0, EQ, 2)]),
            Rule(["connect"], ERRNO | 13, [Condition(1, EQ, 2)]),
        ],
        DEFAULT,
    )
    filter_ = Filter(compile_filter(rules, DEFAULT, ["i386"]))
    socketcall, ipc = numbers("i386")["socketcall"], numbers("i386")["ipc"]
    verdicts = [filter_.run(AUDIT["i386"], socketcall, [which]) for which in range(1, 5)]
    assert verdicts == [DEFAULT, ALLOW, ERRNO | 13, DEFAULT]
    assert filter_.run(AUDIT["i386"], ipc, [2]) == ALLOW
    assert filter_.run(AUDIT["i386"], ipc, [0x10002]) == ALLOW, "the upper half is a version"
    assert filter_.run(AUDIT["i386"], ipc, [3]) == DEFAULT


def test_programs_the_kernel_would_not_take_are_refused():
    conditions = [Condition(0, EQ, value) for value in range(1500)]
    with pytest.raises(InvalidArgument, match="4096"):
        compile_filter([Rule(["read"], ALLOW, [each]) for each in conditions], DEFAULT, ["x86_64"])
    with pytest.raises(InvalidArgument, match="no argument 6"):
        Condition(6, EQ, 0)
    with pytest.raises(InvalidArgument, match="64 bits"):
        Condition(0, EQ, -1)
    with pytest.raises(InvalidArgument, match="sparc"):
        numbers("sparc")


def test_long_chains_stay_within_the_reach_of_jumps():
    rules = [Rule(["read"], ALLOW, [Condition(0, EQ, value)]) for value in range(0, 900, 2)]
    rules.append(Rule(["write"], ALLOW, [Condition(1, GT, 5)]))
    filter_ = Filter(compile_filter(rules, DEFAULT, ["x86_64", "i386", "x32"]))
    verdicts = [filter_.run(AUDIT["i386"], 3, [value]) == ALLOW for value in range(900)]
    assert verdicts == [value % 2 == 0 for value in range(900)]
    assert filter_.run(AUDIT["x86_64"], 1, [0, 6]) == ALLOW


# ── in force ────────────────────────────────────────────────────────────────────────────────────────────────────────


def in_child(program, work, flags=seccomp.FLAG_SPEC_ALLOW):
    """(what `work` returned, how the child ended) with `program` in force; needs no root thanks to no_new_privs."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            prctl(PR_SET_NO_NEW_PRIVS, 1)
            seccomp.load(program, flags)
            os.write(writing, repr(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        text = file.read().decode()
    return text, os.waitpid(pid, 0)[1]


def mkdir_errno():
    try:
        os.mkdir("/proc/none")
    except OSError as error:
        return error.errno
    return 0


NATIVE = [platform.machine()]


def test_the_kernel_takes_and_enforces_it():
    program = compile_filter([Rule(["mkdir", "mkdirat"], ERRNO | errno.EDOM)], ALLOW, NATIVE)
    for flags in (
        seccomp.FLAG_SPEC_ALLOW,
        0,
        1 << 20,
    ):  # the last flag is unknown to any kernel: the older call is used
        assert in_child(program, mkdir_errno, flags) == (str(errno.EDOM), 0)


def test_arguments_are_looked_at_by_the_kernel():
    program = compile_filter([Rule(["kill"], ERRNO | errno.EDOM, [Condition(1, EQ, 10, LOW_BITS)])], ALLOW, NATIVE)

    def kill(number):
        try:
            os.kill(os.getpid(), number)
        except OSError as error:
            return error.errno
        return 0

    assert in_child(program, lambda: (kill(0), kill(10))) == (str((0, errno.EDOM)), 0)


def test_killing_kills():
    program = compile_filter([Rule(["mkdir", "mkdirat"], KILL_PROCESS)], ALLOW, NATIVE)
    text, status = in_child(program, mkdir_errno)
    assert text == ""
    assert os.WTERMSIG(status) == signal.SIGSYS


def test_nonsense_is_refused():
    text, _status = in_child(b"\0" * 8, lambda: "loaded")
    assert text == ""
