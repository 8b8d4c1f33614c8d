"""Docker's defaults."""

import pytest

from scow.errors import InvalidArgument
from scow.runtime.bundle import check
from scow.tasks.spec import DEFAULT_CAPABILITIES, default_spec, device_rules, devices_at, host_devices


def test_the_default_is_a_valid_config_with_dockers_fourteen_capabilities():
    spec = default_spec(args=["true"], cgroup="/scow/x")
    check(spec)
    assert len(DEFAULT_CAPABILITIES) == 14
    assert spec["process"]["capabilities"]["bounding"] == sorted(DEFAULT_CAPABILITIES)
    assert "ambient" not in spec["process"]["capabilities"]
    assert {entry["type"] for entry in spec["linux"]["namespaces"]} == {
        "mount",
        "network",
        "uts",
        "pid",
        "ipc",
        "cgroup",
    }


def test_each_spec_is_its_own():
    first = default_spec(args=["true"], cgroup="/scow/x")
    first["mounts"].clear()
    first["linux"]["maskedPaths"].clear()
    second = default_spec(args=["true"], cgroup="/scow/x")
    assert second["mounts"]
    assert second["linux"]["maskedPaths"]


def test_namespaces_are_shared_joined_or_own():
    spec = default_spec(args=["x"], cgroup="/c", namespaces={"pid": None, "network": "/proc/1/ns/net", "ipc": ""})
    listed = {entry["type"]: entry.get("path") for entry in spec["linux"]["namespaces"]}
    assert "pid" not in listed
    assert listed["network"] == "/proc/1/ns/net"
    assert listed["ipc"] is None


def test_only_harmless_devices_are_allowed():
    rules = device_rules()
    assert rules[0] == {"allow": False, "access": "rwm"}
    assert all(rule["access"] == "m" or rule["type"] == "c" for rule in rules[1:])
    assert not any(rule.get("major") == 8 for rule in rules)
    assert device_rules(privileged=True) == [{"allow": True, "access": "rwm"}]


def test_devices_of_the_host():
    paths = {device["path"] for device in host_devices()}
    assert "/dev/null" in paths
    assert not any(path.startswith(("/dev/pts", "/dev/shm")) for path in paths)
    (null,) = devices_at("/dev/null", "/dev/nothing")
    assert (null["path"], null["type"], null["major"], null["minor"]) == ("/dev/nothing", "c", 1, 3)


@pytest.mark.parametrize("path", ["/nowhere", "/etc/passwd"])
def test_what_is_no_device_is_refused(path):
    with pytest.raises(InvalidArgument, match="gathering device information"):
        devices_at(path)


def test_a_small_init_is_asked_for_by_annotation():
    assert default_spec(args=["x"], cgroup="/c", init=True)["annotations"] == {"scow.init": "true"}
