import pytest

from scow.api.containers import (
    CreateBody,
    DeviceMapping,
    DeviceRequest,
    HealthConfig,
    HostConfig,
    PortBinding,
    RestartPolicy,
)
from scow.containers.validate import check, parse_device_rule
from scow.errors import InvalidArgument


def body(host=None, **config):
    return CreateBody(image="busybox", host_config=HostConfig(**(host or {})), **config)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"working_dir": "srv"}, "needs to be an absolute path"),
        ({"env": ["=x"]}, "invalid environment variable: =x"),
        ({"env": [""]}, "invalid environment variable"),
        ({"stop_signal": "SIGFOO"}, "invalid signal: SIGFOO"),
        ({"exposed_ports": {"http": {}}}, "invalid port"),
        ({"volumes": {"data": {}}}, "invalid volume specification"),
        ({"volumes": {"//": {}}}, "invalid volume specification"),
        ({"hostname": "a" * 65}, "invalid hostname"),
        ({"cmd": ["a\0b"]}, "NUL"),
        (
            {"healthcheck": HealthConfig(test=["CMD", "x"], interval=5)},
            "Interval in Healthcheck cannot be less than 1ms",
        ),
        ({"healthcheck": HealthConfig(test=["WHAT"])}, "Unknown healthcheck type"),
        ({"healthcheck": HealthConfig(test=["CMD"])}, "names no command"),
    ],
)
def test_config(config, sentence):
    with pytest.raises(InvalidArgument) as caught:
        check(body(**config))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ({"restart_policy": RestartPolicy(name="sometimes")}, "unknown policy 'sometimes'"),
        ({"restart_policy": RestartPolicy(name="always", maximum_retry_count=3)}, "only be used with 'on-failure'"),
        ({"restart_policy": RestartPolicy(name="always"), "auto_remove": True}, "can't create 'AutoRemove' container"),
        ({"ipc_mode": "shared"}, "invalid IPC mode: shared"),
        ({"pid_mode": "container:"}, "invalid PID mode"),
        ({"cgroupns_mode": "public"}, "invalid cgroup namespace mode"),
        ({"runtime": "kata"}, "unknown or invalid runtime name: kata"),
        ({"isolation": "hyperv"}, "invalid isolation"),
        ({"oom_score_adj": 2000}, "oom score adj"),
        ({"network_mode": "container:"}, "invalid container format"),
        ({"network_mode": "container:a", "dns": ["1.1.1.1"]}, "dns and the network mode"),
        ({"port_bindings": {"80/tcp": [PortBinding(host_port="x")]}}, "invalid port specification"),
        ({"sysctls": {"kernel.hostname": "x"}}, "not in a separate kernel namespace"),
        ({"sysctls": {"net.a": "1"}, "network_mode": "host"}, "host network namespace"),
        ({"cap_add": ["FLY"]}, 'invalid CapAdd: unknown capability: "CAP_FLY"'),
        ({"device_requests": [DeviceRequest(capabilities=[["gpu"]])]}, "could not select device driver"),
        ({"devices": [DeviceMapping(path_on_host="null")]}, "not an absolute path"),
        ({"devices": [DeviceMapping(path_on_host="/dev/null", cgroup_permissions="x")]}, "invalid device mode"),
        ({"device_cgroup_rules": ["c 1 rwm"]}, "invalid device cgroup rule format"),
        ({"extra_hosts": ["db"]}, "bad format for add-host"),
        ({"dns": ["dns.example"]}, "bad DNS address"),
        ({"storage_opt": {"size": "1g"}}, "pquota"),
        ({"shm_size": -1}, "SHM size"),
        ({"memory": 5}, "6MB"),
        ({"security_opt": ["x=y"]}, "invalid --security-opt"),
    ],
)  # fmt: skip
def test_host(host, sentence):
    with pytest.raises(InvalidArgument) as caught:
        check(body(host))
    assert sentence in str(caught.value)


def test_a_rich_request_is_fine():
    host = {
        "network_mode": "host", "port_bindings": {"80/tcp": [PortBinding(host_port="80")]}, "cap_add": ["all"],
        "tmpfs": {"/run": "rw,noexec,size=64k,mode=1777"}, "device_cgroup_rules": ["c 13:* rwm"],
        "restart_policy": RestartPolicy(name="on-failure", maximum_retry_count=2), "sysctls": {"kernel.sem": "1"},
    }  # fmt: skip
    assert check(body(host)) == ["Published ports are discarded when using host network mode"]


def test_device_rules():
    assert parse_device_rule("c 13:* rwm") == ("c", 13, None, "rwm")
    for rule in ("", "c 1:2", "x 1:2 r", "c 1:2 q", "c 1:-2 r", "c 1:2 r w"):
        with pytest.raises(InvalidArgument):
            parse_device_rule(rule)
