"""Capability names, masks and Docker's add/drop arithmetic; the kernel's word on what was set."""

import os
import traceback

import pytest

from scow.errors import InvalidArgument
from scow.linux import capabilities
from scow.linux.capabilities import BITS, NAMES, mask, names, normalize, resolve

DEFAULT = {"CAP_CHOWN", "CAP_NET_RAW", "CAP_KILL"}
EVERYTHING = frozenset(NAMES)


def test_bits_are_those_of_the_kernel():
    assert len(NAMES) == 41
    assert BITS["CAP_CHOWN"] == 0
    assert BITS["CAP_NET_ADMIN"] == 12
    assert BITS["CAP_SYS_ADMIN"] == 21
    assert BITS["CAP_SETFCAP"] == 31
    assert BITS["CAP_SYSLOG"] == 34
    assert BITS["CAP_CHECKPOINT_RESTORE"] == 40


def test_mask_takes_names_with_and_without_prefix_in_any_case():
    assert mask(["chown", "CAP_kill", "SYS_ADMIN"]) == 1 | 1 << 5 | 1 << 21
    assert mask([]) == 0
    assert names(mask(EVERYTHING)) == EVERYTHING


def test_mask_of_all_is_what_the_kernel_knows():
    assert mask(["ALL"]) == (1 << (capabilities.last_cap() + 1)) - 1


@pytest.mark.parametrize("name", ["", "CAP_", "CAP_CAP_KILL", "SYS_ADMIN\n", "ROOT", "kıll"])
def test_unknown_names_are_refused(name):
    with pytest.raises(InvalidArgument, match="unknown capability"):
        mask([name])


def test_normalize_knows_all_in_both_spellings():
    assert normalize("all") == normalize("CAP_ALL") == "ALL"


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ([], [], DEFAULT),
        (["NET_ADMIN"], [], DEFAULT | {"CAP_NET_ADMIN"}),
        ([], ["kill"], DEFAULT - {"CAP_KILL"}),
        (["KILL"], ["KILL"], DEFAULT),
        ([], ["ALL"], set()),
        (["CHOWN"], ["ALL"], {"CAP_CHOWN"}),
        (["ALL"], [], EVERYTHING),
        (["ALL"], ["KILL"], EVERYTHING - {"CAP_KILL"}),
        (["ALL", "KILL"], ["CAP_KILL"], EVERYTHING - {"CAP_KILL"}),
        (["ALL"], ["ALL"], EVERYTHING),
    ],
)
def test_add_and_drop_as_docker_combines_them(add, drop, expected):
    assert resolve(DEFAULT, add, drop, False, EVERYTHING) == expected


def test_privileged_gets_everything_whatever_is_dropped():
    assert resolve(DEFAULT, [], ["ALL"], True, EVERYTHING) == EVERYTHING


def test_what_cannot_be_given_is_refused_by_name():
    with pytest.raises(InvalidArgument, match=r'not supported by your kernel.*"CAP_BPF"'):
        resolve(DEFAULT, ["BPF"], [], False, EVERYTHING - {"CAP_BPF"})
    with pytest.raises(InvalidArgument, match='unknown capability: "CAP_FLY"'):
        resolve(DEFAULT, [], ["fly"], False, EVERYTHING)


def status_after(change) -> dict[str, int]:
    """The Cap* lines of /proc/self/status in a child that ran `change`."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            change()
            with open("/proc/thread-self/status", "rb") as file:
                os.write(writing, b"".join(line for line in file if line.startswith(b"Cap")))
        except BaseException:
            os.write(writing, traceback.format_exc().encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        text = file.read().decode()
    os.waitpid(pid, 0)
    assert text.startswith("CapInh"), text
    return {line[:6]: int(line[7:], 16) for line in text.splitlines()}


@pytest.mark.root
def test_all_five_sets_are_in_force():
    kept = mask(["CHOWN", "KILL", "SETPCAP"])
    own = mask(["KILL"])
    found = status_after(lambda: capabilities.set_all(kept, kept, kept, own, own))
    assert found == {"CapInh": own, "CapPrm": kept, "CapEff": kept, "CapBnd": kept, "CapAmb": own}


@pytest.mark.root
def test_everything_can_be_given_up():
    found = status_after(lambda: capabilities.set_all(0, 0, 0, 0, 0))
    assert set(found.values()) == {0}


@pytest.mark.root
def test_available_is_the_bounding_set():
    assert "CAP_CHOWN" in capabilities.available()
    assert mask(capabilities.available()) == status_after(lambda: None)["CapBnd"]
