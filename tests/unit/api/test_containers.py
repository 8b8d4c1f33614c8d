import json

import pytest

from scow.api.containers import CreateBody, HostConfig, parse_create, to_wire, wire_name, words
from scow.errors import InvalidArgument


def test_wire_names_are_dockers():
    names = set(HostConfig.__struct_encode_fields__)
    for name in (
        "UTSMode", "BlkioDeviceReadIOps", "IOMaximumIOps", "ContainerIDFile", "CapAdd", "OomScoreAdj", "CgroupnsMode",
        "CpusetCpus", "NanoCpus", "ReadonlyRootfs", "PidsLimit",
    ):  # fmt: skip
        assert name in names
    assert wire_name("stop_timeout") == "StopTimeout"


def test_a_network_named_with_null_is_kept():
    body = parse_create(b'{"Image": "a", "Cmd": null, "NetworkingConfig": {"EndpointsConfig": {"web": null}}}')
    assert list(body.networking_config.endpoints_config) == ["web"]
    assert body.cmd is None


def test_cmd_may_be_one_word():
    assert words(parse_create(b'{"Image": "a", "Cmd": "true"}').cmd) == ["true"]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"", "EOF"),
        (b"{", "JSON"),
        (b"[]", "expected `object`"),
        (b'{"HostConfig": {"Memory": "lots"}}', "HostConfig.Memory"),
        (b'{"Env": {"a": "b"}}', "$.Env"),
        (b'{"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": 80}]}}}', "HostPort"),
    ],
)
def test_wrong_bodies_name_the_field(body, path):
    with pytest.raises(InvalidArgument) as caught:
        parse_create(body)
    assert path.lower() in str(caught.value).lower()


def test_to_wire_leaves_out_what_docker_leaves_out():
    body = CreateBody(image="a")
    plain = to_wire(body)
    assert "Healthcheck" not in plain
    assert "StopTimeout" not in plain
    assert plain["Volumes"] is None
    host = to_wire(HostConfig(init=False, sysctls={"a": "b"}))
    assert host["Init"] is False
    assert host["Sysctls"] == {"a": "b"}
    assert "Tmpfs" not in host
    assert json.dumps(host)


def test_stop_timeout_zero_is_kept():
    assert to_wire(CreateBody(stop_timeout=0))["StopTimeout"] == 0


def test_upper_and_lower_case_are_one_as_in_go():
    """docker-py's own spelling of the realtime limits, and somebody's who does not care."""
    body = parse_create(b'{"image": "x", "hostconfig": {"CPURealtimePeriod": 5, "memory": 7, "Unknown": 1}}')
    assert (body.image, body.host_config.cpu_realtime_period, body.host_config.memory) == ("x", 5, 7)
