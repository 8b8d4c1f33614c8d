import pytest

from scow.api.containers import ContainerConfig, HealthConfig
from scow.containers.merge import merge, merge_env
from scow.errors import InvalidArgument

IMAGE = {
    "Entrypoint": ["/entry"], "Cmd": ["serve"], "Env": ["PATH=/bin", "A=image"], "WorkingDir": "/srv", "User": "app",
    "Labels": {"a": "1", "b": "1"}, "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}, "StopSignal": "SIGQUIT",
    "Healthcheck": {"Test": ["CMD", "ok"], "Interval": 5_000_000_000}, "OnBuild": ["RUN x"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "runs"),
    [
        (None, None, (["/entry"], ["serve"])),
        (None, ["x"], (["/entry"], ["x"])),
        (["/my"], None, (["/my"], None)),
        (["/my"], ["x"], (["/my"], ["x"])),
        ([], ["x"], ([], ["x"])),
        ([""], ["x"], (None, ["x"])),
        (None, "x", (["/entry"], ["x"])),
    ],
)
def test_command(entrypoint, cmd, runs):
    merged = merge(ContainerConfig(image="i", entrypoint=entrypoint, cmd=cmd), IMAGE)
    assert (merged.entrypoint, merged.cmd) == runs


def test_everything_else():
    user = ContainerConfig(
        image="i", env=["A=user", "PATH"], labels={"b": "2"}, exposed_ports={"81/tcp": {}},
        healthcheck=HealthConfig(retries=7),
    )  # fmt: skip
    merged = merge(user, IMAGE)
    assert merged.env == ["A=user", "PATH"]
    assert merged.labels == {"a": "1", "b": "2"}
    assert set(merged.exposed_ports) == {"80/tcp", "81/tcp"}
    assert merged.volumes == {"/data": {}}
    assert (merged.user, merged.working_dir, merged.stop_signal) == ("app", "/srv", "SIGQUIT")
    assert merged.healthcheck == HealthConfig(test=["CMD", "ok"], interval=5_000_000_000, retries=7)
    assert merged.on_build is None


@pytest.mark.parametrize("entrypoint", [None, [""]])
def test_nothing_to_run(entrypoint):
    with pytest.raises(InvalidArgument, match="no command specified"):
        merge(ContainerConfig(image="i", entrypoint=entrypoint), {})


def test_a_malformed_image_config_is_refused():
    with pytest.raises(InvalidArgument, match="image config"):
        merge(ContainerConfig(image="i", cmd=["x"]), {"Env": "A=1"})


def test_env_order_is_users_first():
    assert merge_env(["B=1"], ["A=1", "B=2", "C=3"]) == ["B=1", "A=1", "C=3"]
