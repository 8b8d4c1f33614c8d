import pytest

from scow.containers.security import Security, parse
from scow.errors import InvalidArgument


def test_nothing():
    assert parse([]) == Security()
    assert parse([], no_new_privileges=True).no_new_privileges


def test_all_forms():
    found = parse(
        ["no-new-privileges", "seccomp=unconfined", "apparmor:unconfined", "label=disable", "systempaths=unconfined"]
    )
    assert found == Security("unconfined", True, "unconfined", ("disable",), False)
    assert parse(["no-new-privileges:false"], no_new_privileges=True).no_new_privileges is False
    assert parse(['seccomp={"defaultAction": "SCMP_ACT_ALLOW"}']).seccomp == {"defaultAction": "SCMP_ACT_ALLOW"}
    assert parse(["seccomp=builtin"]).seccomp == "default"


@pytest.mark.parametrize(
    "option",
    [
        "",
        "x",
        "=",
        "foo=bar",
        "seccomp=",
        "seccomp=/etc/profile.json",
        "seccomp=[]",
        "no-new-privileges=maybe",
        "seccomp={" + "a" * 2_000_000,
    ],
)
def test_refused(option):
    with pytest.raises(InvalidArgument):
        parse([option])


def test_a_huge_profile_is_refused():
    with pytest.raises(InvalidArgument, match="megabyte"):
        parse(["seccomp={" + "a" * 2_000_000])
