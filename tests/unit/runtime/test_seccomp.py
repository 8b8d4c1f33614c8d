"""The default policy call by call, OCI filters, Docker's profile files; and a container's view of the policy."""

import errno
import json
import os
import socket

import pytest

from scow.errors import InvalidArgument
from scow.linux import seccomp as bpf
from scow.linux.constants import PR_SET_NO_NEW_PRIVS
from scow.linux.proc import prctl
from scow.linux.seccomp import ALLOW, AUDIT, ERRNO, KILL_PROCESS, KILL_THREAD, LOG, NOTIFY, TRACE, numbers
from scow.runtime import default_policy as policy
from scow.runtime import seccomp
from scow.runtime.seccomp import compile_spec, default_program, flags_of, native, parse_profile
from support.classic_bpf import Filter

NONE: frozenset[str] = frozenset()
ADMIN = frozenset({"CAP_SYS_ADMIN"})
OWN = native()[0]
REFUSED = ERRNO | errno.EPERM
UNKNOWN = ERRNO | errno.ENOSYS
EXTRA = 1 << 32  # a bit the kernel throws away where it takes an int


def verdict(program, name, *arguments, architecture=OWN):
    return Filter(program).run(AUDIT[architecture], numbers(architecture)[name], arguments)


@pytest.mark.parametrize("capabilities", [NONE, ADMIN, frozenset({"CAP_SYS_TIME", "CAP_SYSLOG"})])
def test_every_call_of_every_architecture_gets_what_the_lists_say(capabilities):
    filter_ = Filter(default_program(capabilities))
    allowed = {name for names in policy.ALLOWED.values() for name in names.split()}
    for capability in capabilities:
        allowed.update(policy.BY_CAPABILITY.get(capability, "").split())
    special = {"socket", "personality", "clone", "clone3"} - allowed
    for architecture in native():
        newest = max(numbers(architecture)[name] for name in ("removexattrat", "setxattrat"))
        for name, number in numbers(architecture).items():
            if name in special or number in {numbers(architecture).get(each) for each in special}:
                continue
            wanted = ALLOW if name in allowed else REFUSED if number <= newest else UNKNOWN
            if name not in allowed and any(numbers(architecture).get(each) == number for each in allowed):
                wanted = ALLOW  # another name of the same call
            if architecture == "x32" and number - 0x40000000 > 466:
                wanted = ALLOW if name in allowed else REFUSED
            assert filter_.run(AUDIT[architecture], number) == wanted, (architecture, name)


def test_address_families_are_compared_as_the_kernel_takes_them():
    program = default_program(NONE)
    for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_NETLINK, 39, 41, 45):
        assert verdict(program, "socket", family) == ALLOW
    for family in (38, 40, 38 | EXTRA, 40 | EXTRA):
        assert verdict(program, "socket", family) == REFUSED


def test_personalities():
    program = default_program(NONE)
    for domain in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert verdict(program, "personality", domain) == ALLOW
    for domain in (0x0400000, 9, 0x20009, 1):
        assert verdict(program, "personality", domain) == REFUSED


@pytest.mark.parametrize("flag", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000])
def test_new_namespaces_take_sys_admin(flag):
    assert verdict(default_program(NONE), "clone", flag | 17) == REFUSED
    assert verdict(default_program(ADMIN), "clone", flag | 17) == ALLOW
    assert verdict(default_program(NONE), "clone", 0x3D0F00) == ALLOW


def test_clone3_is_said_not_to_exist():
    assert verdict(default_program(NONE), "clone3") == UNKNOWN
    assert verdict(default_program(ADMIN), "clone3") == ALLOW


def test_dangerous_calls_stay_out():
    program = default_program(NONE)
    for name in (
        "mount",
        "bpf",
        "keyctl",
        "add_key",
        "io_uring_setup",
        "userfaultfd",
        "kexec_load",
        "unshare",
        "setns",
    ):
        assert verdict(program, name) == REFUSED


def test_foreign_architectures_are_killed():
    assert Filter(default_program(NONE)).run(0xC00000F3, 63) == KILL_PROCESS  # riscv64


# ── OCI ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def spec(*entries, default="SCMP_ACT_ERRNO", **more):
    return {"defaultAction": default, "syscalls": list(entries), **more}


def test_actions_and_error_numbers():
    for name, wanted in (
        ("SCMP_ACT_ALLOW", ALLOW),
        ("SCMP_ACT_KILL", KILL_THREAD),
        ("SCMP_ACT_KILL_PROCESS", KILL_PROCESS),
        ("SCMP_ACT_LOG", LOG),
        ("SCMP_ACT_NOTIFY", NOTIFY),
        ("SCMP_ACT_TRACE", TRACE | 1),
    ):
        assert verdict(compile_spec(spec({"names": ["read"], "action": name})), "read") == wanted
    entry = {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}
    assert verdict(compile_spec(spec(entry, default="SCMP_ACT_ALLOW")), "read") == ERRNO
    assert verdict(compile_spec(spec(defaultErrnoRet=13)), "read") == ERRNO | 13


def test_names_no_architecture_has_are_skipped():
    program = compile_spec(spec({"names": ["no_such_call", "read"], "action": "SCMP_ACT_ALLOW"}))
    assert verdict(program, "read") == ALLOW
    assert verdict(program, "write") in (REFUSED, UNKNOWN)


def test_newer_calls_do_not_exist_unless_everything_is_allowed():
    program = Filter(compile_spec(spec({"names": ["mseal"], "action": "SCMP_ACT_ALLOW"})))
    assert program.run(AUDIT[OWN], 461) == REFUSED
    assert program.run(AUDIT[OWN], 463) == UNKNOWN
    open_one = Filter(compile_spec(spec({"names": ["read"], "action": "SCMP_ACT_KILL"}, default="SCMP_ACT_ALLOW")))
    assert open_one.run(AUDIT[OWN], 999) == ALLOW


def test_an_entry_that_repeats_the_default_decides_nothing():
    entries = [{"names": ["read"], "action": "SCMP_ACT_ERRNO"}, {"names": ["read"], "action": "SCMP_ACT_ALLOW"}]
    assert verdict(compile_spec(spec(*entries)), "read") == ALLOW


def test_arguments():
    masked = {"index": 0, "value": 0xF0, "valueTwo": 0x10, "op": "SCMP_CMP_MASKED_EQ"}
    program = compile_spec(spec({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [masked]}))
    assert verdict(program, "read", 0x1F) == ALLOW
    assert verdict(program, "read", 0x2F) == REFUSED or verdict(program, "read", 0x2F) == UNKNOWN
    both = [{"index": 0, "value": 5, "op": "SCMP_CMP_GE"}, {"index": 1, "value": 7, "op": "SCMP_CMP_NE"}]
    program = compile_spec(spec({"names": ["read", "mseal"], "action": "SCMP_ACT_ALLOW", "args": both}))
    assert verdict(program, "read", 5, 6) == ALLOW
    assert verdict(program, "read", 5, 7) == REFUSED
    either = [{"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}]
    program = compile_spec(spec({"names": ["read", "mseal"], "action": "SCMP_ACT_ALLOW", "args": either}))
    assert [verdict(program, "read", value) == ALLOW for value in (5, 6, 7)] == [True, False, True]


@pytest.mark.skipif(OWN != "x86_64", reason="architectures of x86")
def test_architectures():
    entry = {"names": ["read"], "action": "SCMP_ACT_ALLOW"}
    alone = compile_spec(spec(entry))
    assert Filter(alone).run(AUDIT["i386"], 3) == KILL_PROCESS
    both = compile_spec(spec(entry, architectures=["SCMP_ARCH_X86", "SCMP_ARCH_MIPS"]))
    assert Filter(both).run(AUDIT["i386"], 3) == ALLOW
    assert Filter(both).run(AUDIT["x86_64"], 0) == ALLOW, "the native one is always there"


@pytest.mark.skipif(OWN != "x86_64", reason="socketcall is i386's")
def test_rules_for_sockets_reach_the_multiplexer():
    program = compile_spec(
        spec({"names": ["socket", "mseal"], "action": "SCMP_ACT_ALLOW"}, architectures=["SCMP_ARCH_X86"])
    )
    assert verdict(program, "socketcall", 1, architecture="i386") == ALLOW
    assert verdict(program, "socketcall", 2, architecture="i386") == REFUSED


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"defaultAction": "ALLOW"},
        {"defaultAction": ["SCMP_ACT_ALLOW"]},
        {"defaultAction": "SCMP_ACT_NOTIFY"},
        {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000},
        {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": "EPERM"},
        spec({"names": [], "action": "SCMP_ACT_ALLOW"}),
        spec({"names": "read", "action": "SCMP_ACT_ALLOW"}),
        spec({"names": [7], "action": "SCMP_ACT_ALLOW"}),
        spec("read"),
        spec({"names": ["read"]}),
        spec({"names": ["write"], "action": "SCMP_ACT_NOTIFY"}),
        spec({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}),
        spec({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}]}),
        spec({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "=="}]}),
        spec(
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": "1", "op": "SCMP_CMP_EQ"}]}
        ),
        spec(architectures=["amd64"]),
        spec(architectures={"a": 1}),
    ],
)
def test_what_cannot_be_understood_is_refused(broken):
    with pytest.raises(InvalidArgument, match="seccomp"):
        compile_spec(broken)


def test_flags():
    assert flags_of({}) == bpf.FLAG_SPEC_ALLOW
    assert flags_of({"flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]}) == bpf.FLAG_LOG
    with pytest.raises(InvalidArgument, match="NOPE"):
        flags_of({"flags": ["NOPE"]})


# ── Docker's profile files ──────────────────────────────────────────────────────────────────────────────────────────

GO_OWN = {"x86_64": "amd64", "aarch64": "arm64"}[OWN]
PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": None},
    ],
    "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "comment": "ignored", "includes": {}, "excludes": {}},
        {"name": "write", "action": "SCMP_ACT_ALLOW", "args": None},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["reboot"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
        {"names": ["sync"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": [GO_OWN, "s390x"]}},
        {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": [GO_OWN]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "999.0"}},
        {"names": ["setns"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "4.8"}},
    ],
}


def chosen(capabilities):
    return [name for entry in parse_profile(PROFILE, capabilities)["syscalls"] for name in entry["names"]]


def test_entries_are_chosen_by_capability_architecture_and_kernel():
    assert chosen(NONE) == ["read", "write", "clone3", "sync", "ptrace"]
    assert chosen(ADMIN) == ["read", "write", "mount", "sync", "ptrace"]


def test_a_profile_becomes_an_oci_section_that_can_be_stored():
    found = parse_profile(PROFILE, NONE)
    assert json.loads(json.dumps(found)) == found
    assert found["architectures"][0] in ("SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64")
    assert found["syscalls"][0] == {"names": ["read"], "action": "SCMP_ACT_ALLOW"}
    assert verdict(compile_spec(found), "clone3") == UNKNOWN


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architectures": ["SCMP_ARCH_X86_64"]}, "'architectures' and 'archMap'"),
        ({"syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"}]}, "'name' and 'names'"),
        ({"syscalls": [{"action": "SCMP_ACT_ALLOW"}]}, "list of texts|names"),
        ({"syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "x"}}]}, "minKernel"),
        ({"syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": []}, 5]}, "objects"),
        ({"defaultAction": "nonsense"}, "nonsense"),
        ({"archMap": "x"}, "archMap"),
    ],
)
def test_broken_profiles_are_refused(change, words):
    with pytest.raises(InvalidArgument, match=words):
        parse_profile({**PROFILE, **change}, NONE)


def test_a_profile_that_is_no_object_is_refused():
    with pytest.raises(InvalidArgument, match="Decoding seccomp profile failed"):
        parse_profile([], NONE)  # type: ignore[arg-type]


# ── in force ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_ordinary_program_runs_under_the_default_policy_and_a_mount_does_not():
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            prctl(PR_SET_NO_NEW_PRIVS, 1)
            bpf.load(seccomp.default_program(NONE))
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            script = "echo $(( 6 * 7 )); cat /proc/self/status | grep ^Seccomp: ; unshare -m true; echo $?"
            os.execvp("sh", ["sh", "-c", script])
        finally:
            os._exit(99)
    os.close(writing)
    with open(reading, "rb") as file:
        lines = file.read().decode().splitlines()
    assert os.waitpid(pid, 0)[1] == 0
    assert lines[0] == "42"
    assert lines[1].split() == ["Seccomp:", "2"]
    assert "Operation not permitted" in lines[2]
    assert lines[-1] == "1"
