"""The daemon's directives: one table, two places to give them, clear refusals."""

import json
from pathlib import Path

import pytest

from scow.daemon.config import load
from scow.errors import InvalidArgument


def written(tmp_path: Path, content: object) -> str:
    path = tmp_path / "daemon.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_defaults_are_dockers_places_under_our_name(tmp_path: Path) -> None:
    config, _ = load(["--config-file", written(tmp_path, {})])
    assert config.hosts == ("unix:///run/scow.sock",)
    assert str(config.data_root) == "/var/lib/scow"
    assert str(config.pidfile) == "/run/scow/scowd.pid"


def test_flags_and_file_are_joined(tmp_path: Path) -> None:
    path = written(tmp_path, {"labels": ["a=b"], "default-address-pools": [{"base": "10.10.0.0/16", "size": 24}]})
    config, _ = load(["--config-file", path, "-H", "unix:///a", "-H", "tcp://127.0.0.1:1", "--debug", "--mtu", "1400"])
    assert config.hosts == ("unix:///a", "tcp://127.0.0.1:1")
    assert config.flag("debug")
    assert config.number("mtu") == 1400
    assert config.list("labels") == ("a=b",)
    assert config.address_pools == (("10.10.0.0/16", 24),)


def test_a_pool_as_dockerd_writes_it(tmp_path: Path) -> None:
    config, _ = load(["--config-file", written(tmp_path, {}), "--default-address-pool", "base=10.9.0.0/16,size=20"])
    assert config.address_pools == (("10.9.0.0/16", 20),)


def test_validate_only_checks(tmp_path: Path) -> None:
    assert load(["--config-file", written(tmp_path, {}), "--validate"])[1] is True


@pytest.mark.parametrize(
    ("content", "flags", "sentence"),
    [
        ("{", [], "is not valid JSON"),
        ("[]", [], "must hold one JSON object"),
        ({"colour": 1}, [], "don't match any configuration option: colour"),
        ({"debug": "yes"}, [], "invalid value for debug .* expected true or false"),
        ({"mtu": True}, [], "expected a number"),
        ({"debug": True}, ["--debug"], "specified both as a flag and in the configuration file: debug"),
        ({}, ["--bip", "10.9.0.0/16"], "name the bridge's own address"),
        ({}, ["--bip", "10.9.0.1"], "name the bridge's own address"),
        ({}, ["--default-address-pool", "base=10.0.0.0/16"], "write base="),
        ({}, ["--default-address-pool", "base=10.0.0.0/16,size=8"], "must lie between"),
        ({}, ["--log-level", "loud"], "use one of debug"),
        ({}, ["--log-driver", "carrier-pigeon"], "unknown log-driver"),
        ({}, ["--label", "x"], "bad attribute format: x"),
        ({}, ["--data-root", "relative"], "absolute path"),
        ({}, ["--registry-mirror", "mirror:5000"], "invalid mirror"),
        ({}, ["--tlsverify"], "give the daemon's certificate and key"),
        ({}, ["--mtu", "wide"], "expected a number"),
        ({}, ["--icc=perhaps"], "write true or false"),
    ],
)
def test_refusals_say_what_to_do(tmp_path: Path, content: object, flags: list[str], sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        load(["--config-file", written(tmp_path, content), *flags])


def test_a_missing_file_that_was_named_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="cannot read the configuration file"):
        load(["--config-file", str(tmp_path / "none.json")])
