"""Image configs: what is understood, what is kept, what is refused."""

import json

import pytest

from scow.errors import InvalidArgument
from scow.oci.config import History, ImageConfig
from scow.oci.digest import digest_of

DIFF = digest_of(b"layer")
DOCKER = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2024-01-01T00:00:00Z",
    "docker_version": "20.10",
    "container": "abc",
    "container_config": {"Cmd": ["x"]},
    "config": {"Cmd": ["sh"], "Env": ["A=b"], "OnBuild": None},
    "rootfs": {"type": "layers", "diff_ids": [DIFF]},
    "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "ADD", "empty_layer": False}],
}


def test_dockers_own_fields_are_kept() -> None:
    config = ImageConfig.parse(json.dumps(DOCKER).encode())
    assert config.extra == {"docker_version": "20.10", "container": "abc", "container_config": {"Cmd": ["x"]}}
    again = ImageConfig.parse(config.to_bytes())
    assert again == config
    assert json.loads(config.to_bytes())["docker_version"] == "20.10"


def test_equal_configs_have_equal_bytes() -> None:
    config = ImageConfig("amd64", "linux", diff_ids=(DIFF,), history=(History(created_by="x", empty_layer=True),))
    assert config.to_bytes() == ImageConfig.parse(config.to_bytes()).to_bytes()


def test_nulls_mean_nothing() -> None:
    data = (
        b'{"architecture":"amd64","os":"linux","config":null,"history":null,"rootfs":{"type":"layers","diff_ids":null}}'
    )
    config = ImageConfig.parse(data)
    assert (config.config, config.history, config.diff_ids, config.created) == ({}, (), (), None)


@pytest.mark.parametrize(
    "change",
    [
        {"rootfs": None},
        {"rootfs": {"type": "other", "diff_ids": []}},
        {"rootfs": {"type": "layers", "diff_ids": ["x"]}},
        {"rootfs": {"type": "layers", "diff_ids": [DIFF] * 2000}},
        {"history": [1]},
        {"history": {"a": 1}},
        {"config": []},
        {"architecture": 5},
        {"created": 5},
        {"history": [{"created_by": 5}]},
    ],
)
def test_what_is_no_config_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument, match=r"config|digest|history"):
        ImageConfig.parse(json.dumps(DOCKER | change).encode())
