"""Logins in config.json and in credential helpers."""

import base64
import json
import os
from pathlib import Path

import pytest

from scow.client.credentials import DEFAULT_SERVER, ConfigFile, domain_of, encode, server_of
from scow.errors import EngineError, InvalidArgument, System

HELPER = """#!/bin/sh
echo "$1" >> "{log}"
case "$1" in
  get) read server; [ "$server" = known.example.com ] || {{ echo "credentials not found in native keychain"; exit 1; }}
       echo '{{"ServerURL":"known.example.com","Username":"<token>","Secret":"s3cret"}}';;
  store|erase) cat >> "{log}";;
esac
"""


def write(folder: Path, value: object) -> ConfigFile:
    (folder / "config.json").write_text(json.dumps(value))
    return ConfigFile(str(folder))


def test_a_login_is_stored_found_and_erased(tmp_path: Path) -> None:
    config = ConfigFile(str(tmp_path / "new"))
    said = config.store({"serveraddress": "r.example.com:5000", "username": "me", "password": "p:w"})
    assert str(tmp_path / "new" / "config.json") in said
    again = ConfigFile(str(tmp_path / "new"))
    assert again.find("r.example.com:5000") == {
        "serveraddress": "r.example.com:5000",
        "username": "me",
        "password": "p:w",
    }
    assert os.stat(again.path).st_mode & 0o777 == 0o600
    assert again.erase("r.example.com:5000")
    assert not ConfigFile(str(tmp_path / "new")).erase("r.example.com:5000")


def test_what_this_program_does_not_know_is_kept(tmp_path: Path) -> None:
    write(tmp_path, {"plugins": {"x": {}}, "auths": {}}).store({"serveraddress": "h", "username": "a", "password": "b"})
    assert json.loads((tmp_path / "config.json").read_text())["plugins"] == {"x": {}}


def test_entries_are_found_by_host_and_tokens_win(tmp_path: Path) -> None:
    packed = base64.b64encode(b"me:pw").decode()
    config = write(
        tmp_path, {"auths": {"https://h.example.com/v2/": {"auth": packed}, "t": {"auth": "", "identitytoken": "tok"}}}
    )
    assert config.find("h.example.com")["username"] == "me"
    assert config.find("t") == {"serveraddress": "t", "identitytoken": "tok"}
    assert config.find("other") == {}


def test_a_helper_is_asked_and_gets_passwords_by_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    helper = tmp_path / "docker-credential-test"
    helper.write_text(HELPER.format(log=log))
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    config = write(tmp_path, {"credsStore": "test"})
    assert config.find("known.example.com") == {"identitytoken": "s3cret", "serveraddress": "known.example.com"}
    assert config.find("unknown.example.com") == {}
    assert config.store({"serveraddress": "s", "username": "u", "password": "hidden"}) == ""
    assert "hidden" not in (tmp_path / "config.json").read_text()
    assert '"Secret":"hidden"' in log.read_text()


def test_a_missing_helper_and_a_hostile_name_are_said(tmp_path: Path) -> None:
    with pytest.raises(System, match="docker-credential-nothere"):
        write(tmp_path, {"credsStore": "nothere"}).find("h")
    with pytest.raises(InvalidArgument, match="helper name"):
        write(tmp_path, {"credsStore": "../../bin/sh"}).find("h")


@pytest.mark.parametrize("text", ["{", "[]", "null", '"x"'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(EngineError, match=r"config\.json"):
        ConfigFile(str(tmp_path))


def test_a_damaged_entry_says_how_to_mend_it(tmp_path: Path) -> None:
    with pytest.raises(System, match="scow login h"):
        write(tmp_path, {"auths": {"h": {"auth": "abc"}}}).find("h")


@pytest.mark.parametrize(
    ("name", "domain", "server"),
    [
        ("busybox", "docker.io", DEFAULT_SERVER),
        ("me/app", "docker.io", DEFAULT_SERVER),
        ("localhost/app", "localhost", "localhost"),
        ("host:5000/a/b", "host:5000", "host:5000"),
        ("r.example.com/a", "r.example.com", "r.example.com"),
    ],
)
def test_the_registry_of_a_name(name: str, domain: str, server: str) -> None:
    assert domain_of(name) == domain
    assert server_of(domain) == server


def test_the_header_is_url_safe() -> None:
    value = {"username": "ü?>~", "password": "~~~???"}
    header = encode(value)
    assert "+" not in header
    assert "/" not in header
    assert json.loads(base64.urlsafe_b64decode(header)) == value
