"""Which daemon the flags and the environment mean."""

from pathlib import Path

import pytest

from scow.client.endpoint import choose, config_dir, parse
from scow.errors import EngineError


@pytest.mark.parametrize(
    ("text", "path", "host", "port"),
    [
        ("unix:///tmp/x.sock", "/tmp/x.sock", "", 0),
        ("unix://", "/run/scow.sock", "", 0),
        ("tcp://box:1234", "", "box", 1234),
        ("tcp://box", "", "box", 2375),
        ("box:99", "", "box", 99),
        ("tcp://[::1]:99", "", "::1", 99),
        ("tcp://[::1]", "", "::1", 2375),
        ("tcp://:99", "", "localhost", 99),
    ],
)
def test_addresses(text: str, path: str, host: str, port: int) -> None:
    found = parse(text)
    assert (found.path, found.host, found.port) == (path, host, port)


@pytest.mark.parametrize(
    "text", ["ssh://box", "fd://", "tcp://box:x", "tcp://box:0", "tcp://box:70000", "tcp://", "npipe:////x"]
)
def test_what_is_no_address_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(EngineError, match=text.partition(":")[0]):
        parse(text)


def test_the_flag_comes_first_then_our_variable_then_dockers() -> None:
    environment = {"SCOW_HOST": "unix:///scow", "DOCKER_HOST": "unix:///docker"}
    assert choose(environment, host="unix:///flag").path == "/flag"
    assert choose(environment).path == "/scow"
    assert choose({"DOCKER_HOST": "unix:///docker"}).path == "/docker"
    default = choose({})
    assert (default.path, default.given) == ("/run/scow.sock", False)
    assert choose({"DOCKER_HOST": "unix:///docker"}).given


def test_tls_by_flag_and_by_environment(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    (tmp_path / "cert.pem").touch()
    found = choose({"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path), "DOCKER_HOST": "tcp://box"})
    assert found.port == 2376
    assert found.tls is not None
    assert (found.tls.ca, found.tls.key, found.tls.verify) == (str(tmp_path / "ca.pem"), "", True)
    given = choose({}, host="tcp://box", tls=True, config=str(tmp_path), files={"cert": "/c", "key": "/k"})
    assert given.tls is not None
    assert (given.tls.ca, given.tls.cert, given.tls.key, given.tls.verify) == ("", "/c", "/k", False)
    assert choose({"DOCKER_TLS_VERIFY": "1"}, host="tcp://box", verify=False).tls is None


def test_the_folder_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert config_dir({}) == "/home/me/.docker"
    assert config_dir({"DOCKER_CONFIG": "/d", "SCOW_CONFIG": "/s"}) == "/s"
    assert config_dir({"DOCKER_CONFIG": "/d"}, "/flag") == "/flag"
