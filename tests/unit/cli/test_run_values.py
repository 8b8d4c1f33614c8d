"""One word of ``run`` → one piece of the API's object."""

from pathlib import Path

import pytest

from scow.cli import run_values
from scow.errors import InvalidArgument


def test_published_ports() -> None:
    def binding(address: str, port: str) -> dict[str, str]:
        return {"HostIp": address, "HostPort": port}

    assert run_values.published("8080:80") == [("80/tcp", binding("", "8080"))]
    assert run_values.published("80/udp") == [("80/udp", binding("", ""))]
    assert run_values.published("127.0.0.1:8080:80") == [("80/tcp", binding("127.0.0.1", "8080"))]
    assert run_values.published("127.0.0.1::80") == [("80/tcp", binding("127.0.0.1", ""))]
    assert run_values.published("[::1]:8080:80/SCTP") == [("80/sctp", binding("::1", "8080"))]
    assert run_values.published("8000-8001:80-81") == [("80/tcp", binding("", "8000")), ("81/tcp", binding("", "8001"))]
    assert run_values.published("8000-8009:80") == [("80/tcp", binding("", "8000-8009"))]
    assert run_values.published("target=80,published=8080,protocol=udp") == [("80/udp", binding("", "8080"))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no port specified: <empty>"),
        ("x", "invalid containerPort: x"),
        ("80:x", "invalid containerPort: x"),
        ("x:80", "invalid hostPort: x"),
        ("70000:80", "invalid hostPort: 70000"),
        ("80:90-80", "invalid containerPort: 90-80"),
        ("80-82:80-81", "invalid ranges specified for container and host Ports: 80-81 and 80-82"),
        ("a:b:c:d", "invalid IP address: a:b"),
        ("999.1.1.1:80:80", "invalid IP address"),
        ("80/icmp", "invalid proto: icmp"),
    ],
)
def test_ports_that_are_none(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        run_values.published(text)


def test_exposed_ports() -> None:
    assert run_values.exposed("80-81/udp") == ["80/udp", "81/udp"]
    with pytest.raises(InvalidArgument, match="invalid port format for --expose"):
        run_values.exposed("80:80")


def test_volumes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_values.volume("/data") == ("", "/data")
    assert run_values.volume("name:/data:ro") == ("name:/data:ro", "/data")
    assert run_values.volume("./here:/data") == (f"{tmp_path}/here:/data", "/data")
    for text, words in (("a:b:c:d", "too many colons"), (":/x", "empty section"), ("a:", "empty section")):
        with pytest.raises(InvalidArgument, match=words):
            run_values.volume(text)


def test_environment_from_words_files_and_the_caller(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MINE", "here")
    monkeypatch.delenv("NONE", raising=False)
    file = tmp_path / "env"
    file.write_text("\ufeff# comment\n\n  A=1 \nB=x=y\nMINE\nNONE\n")
    assert run_values.environment([run_values.env_word("MINE"), run_values.env_word("NONE")], [str(file)]) == [
        "A=1 ",
        "B=x=y",
        "MINE=here",
        "MINE=here",
        "NONE",
    ]
    file.write_text("a b=1\n")
    with pytest.raises(InvalidArgument, match="contains whitespaces"):
        run_values.environment([], [str(file)])
    with pytest.raises(InvalidArgument, match="no such file"):
        run_values.environment([], [str(tmp_path / "none")])
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidArgument, match="invalid utf8"):
        run_values.environment([], [str(file)])


def test_devices() -> None:
    def device(host: str, inside: str, mode: str) -> dict[str, str]:
        return {"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": mode}

    assert run_values.device("/dev/a") == device("/dev/a", "/dev/a", "rwm")
    assert run_values.device("/dev/a:r") == device("/dev/a", "/dev/a", "r")
    assert run_values.device("/dev/a:/dev/b:rw") == device("/dev/a", "/dev/b", "rw")
    for text in ("", "a:b:c:d", "/dev/a:/dev/b:x", ":x"):
        with pytest.raises(InvalidArgument):
            run_values.device(text)


def test_limits() -> None:
    assert run_values.ulimit_word("nofile=1024:2048") == {"Name": "nofile", "Soft": 1024, "Hard": 2048}
    assert run_values.ulimit_word("core=-1") == {"Name": "core", "Soft": -1, "Hard": -1}
    for text in ("x=1", "nofile", "nofile=a", "nofile=5:4", "nofile=-1:5"):
        with pytest.raises(InvalidArgument):
            run_values.ulimit_word(text)
    assert run_values.bps_word("/dev/sda:1mb") == {"Path": "/dev/sda", "Rate": 1 << 20}
    assert run_values.iops_word("/dev/sda:9") == {"Path": "/dev/sda", "Rate": 9}
    assert run_values.weight_word("/dev/sda:500") == {"Path": "/dev/sda", "Weight": 500}
    for parser, text in (
        (run_values.bps_word, "sda:1"),
        (run_values.iops_word, "/dev/a:x"),
        (run_values.weight_word, "/dev/a:5"),
    ):
        with pytest.raises(InvalidArgument):
            parser(text)


def test_hosts_and_addresses() -> None:
    assert run_values.host_word("a:1.2.3.4") == "a:1.2.3.4"
    assert run_values.host_word("a=[::1]") == "a:::1"
    assert run_values.host_word("a:host-gateway") == "a:host-gateway"
    for text in ("a", "a:", ":1.2.3.4", "a:x"):
        with pytest.raises(InvalidArgument):
            run_values.host_word(text)
    assert run_values.is_address("::1")
    assert not run_values.is_address("1.2.3")


def test_restart_policies() -> None:
    assert run_values.restart_policy("on-failure:3") == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert run_values.restart_policy("always") == {"Name": "always", "MaximumRetryCount": 0}
    for text in (":3", "on-failure:x", "on-failure:"):
        with pytest.raises(InvalidArgument, match="invalid restart policy format"):
            run_values.restart_policy(text)


def test_security_profiles_are_read_here(tmp_path: Path) -> None:
    profile = tmp_path / "p.json"
    profile.write_text('{ "defaultAction": "SCMP_ACT_ALLOW" }')
    words, unmasked = run_values.security(
        [f"seccomp={profile}", "no-new-privileges", "systempaths=unconfined", "apparmor:unconfined"]
    )
    assert words == ['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}', "no-new-privileges", "apparmor:unconfined"]
    assert unmasked
    assert run_values.security(["seccomp=unconfined"]) == (["seccomp=unconfined"], False)
    for text in ("nonsense", f"seccomp={tmp_path}/none"):
        with pytest.raises(InvalidArgument):
            run_values.security([text])


def test_gpus() -> None:
    assert run_values.gpus_word("all") == {"Capabilities": [["gpu"]], "Count": -1}
    assert run_values.gpus_word('"device=0,1"') == {"Capabilities": [["gpu"]], "DeviceIDs": ["0", "1"]}
    with pytest.raises(InvalidArgument, match="unexpected key"):
        run_values.gpus_word("x=1")


def test_rules_for_devices() -> None:
    assert run_values.rule_word("c 1:* rwm") == "c 1:* rwm"
    for text in ("", "c 1 rwm", "x 1:3 r", "c 1:3 x", "c 1:3 "):
        with pytest.raises(InvalidArgument):
            run_values.rule_word(text)
