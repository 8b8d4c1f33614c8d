"""The default policy's lists: spelled right, sorted out, and what Docker allows (where its profile is at hand)."""

import json
import os
from pathlib import Path

import pytest

from scow.linux.capabilities import NAMES
from scow.linux.seccomp import AUDIT, FAMILY, numbers
from scow.runtime import default_policy as policy
from scow.runtime import seccomp
from scow.runtime.seccomp import compile_spec, default_program, native, parse_profile
from support.classic_bpf import Filter

_DEFAULT = """
CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT
KILL AUDIT_WRITE
"""
DEFAULT_CAPABILITIES = frozenset(f"CAP_{name}" for name in _DEFAULT.split())


def test_every_name_is_a_call_somewhere():
    known = set().union(*(numbers(each) for family in FAMILY.values() for each in family))
    for lists in (policy.ALLOWED, policy.BY_CAPABILITY):
        for theme, names in lists.items():
            assert set(names.split()) <= known, theme
    assert policy.BY_CAPABILITY.keys() <= set(NAMES)


def test_no_call_is_listed_under_two_themes():
    names = [name for names in policy.ALLOWED.values() for name in names.split()]
    assert len(names) == len(set(names))


SETS = [
    frozenset(),
    DEFAULT_CAPABILITIES,
    frozenset(NAMES),
    *[DEFAULT_CAPABILITIES | {name} for name in policy.BY_CAPABILITY],
]


@pytest.mark.parametrize("capabilities", SETS, ids=lambda names: f"{len(names)}-{sorted(names)[-1:]}")
def test_it_decides_as_dockers_profile(capabilities):
    folder = os.environ.get("SCOW_REFERENCE")
    if not folder:
        pytest.skip("SCOW_REFERENCE names no folder with seccomp-default.json")
    profile = json.loads((Path(folder) / "seccomp-default.json").read_text())
    theirs = Filter(compile_spec(parse_profile(profile, capabilities)))
    ours = Filter(default_program(capabilities))
    interesting = (0, 8, 16, 17, 37, 38, 39, 40, 41, 0x20000, 0x20008, 0x10000000, 0x7E020000, 0xFFFFFFFF)
    for architecture in native():
        for number in {*numbers(architecture).values(), *range(471, 480), 0xF0001}:
            for first in interesting:
                answers = [each.run(AUDIT[architecture], number, [first, 0]) for each in (ours, theirs)]
                assert answers[0] == answers[1], (architecture, number, first)


def test_programs_are_made_once_for_each_set_that_matters():
    first = default_program(DEFAULT_CAPABILITIES)
    assert default_program(DEFAULT_CAPABILITIES | {"CAP_NET_ADMIN"}) is first
    assert default_program(DEFAULT_CAPABILITIES | {"CAP_SYS_TIME"}) is not first
    assert seccomp.default_rules(frozenset())
