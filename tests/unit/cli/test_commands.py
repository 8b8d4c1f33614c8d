"""Command lines against a stub engine: what is asked of it, what is printed, which code is the end."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.stub_data import INSPECT, ROUTES, A
from support.stub_engine import Call, Raw, StubEngine, frame

from .conftest import Done

Stub = Callable[..., StubEngine]
Run = Callable[..., Done]

PULL: list[dict[str, Any]] = [
    {"status": "Pulling from library/busybox", "id": "latest"},
    {"status": "Downloading", "progressDetail": {"current": 1, "total": 2}, "id": "abc"},
    {"status": "Pull complete", "progressDetail": {}, "id": "abc"},
]


def container(code: int = 0, out: bytes = b"out\n", err: bytes = b"err\n", **more: Any) -> dict[str, Any]:
    """Routes of an engine whose containers say something, echo their input and end."""

    def attach(call: Call) -> None:
        sock = call.upgrade()
        sock.sendall(frame(1, out)[:5])
        sock.sendall(frame(1, out)[5:] + frame(2, err))
        if call.text("stdin"):
            got = b"".join(iter(lambda: sock.recv(65536), b""))
            sock.sendall(frame(1, got))
        sock.close()

    return {
        **ROUTES,
        "POST /containers/create": (201, {"Id": A, "Warnings": ["careful"]}),
        f"POST /containers/{A}/attach": attach,
        f"POST /containers/{A}/wait": {"StatusCode": code},
        f"POST /containers/{A}/start": (204, None),
        "POST /images/create": lambda call: iter(PULL),
        "POST /containers/web/exec": (201, {"Id": "x1"}),
        "POST /exec/x1/start": lambda call: {} if call.json()["Detach"] else attach(call),
        "GET /exec/x1/json": {"ExitCode": code, "Running": False},
        **more,
    }


# ---- run -------------------------------------------------------------------------------------------------


def test_run_shows_both_streams_and_ends_with_the_containers_code(stub: Stub, scow: Run) -> None:
    engine = stub(container(code=42))
    done = scow(engine, "run", "busybox", "sh", "-c", "exit 42")
    assert (done.code, done.out, done.err) == (42, "out\n", "WARNING: careful\nerr\n")


def test_wait_and_attach_are_asked_before_start(stub: Stub, scow: Run) -> None:
    engine = stub(container())
    scow(engine, "run", "--rm", "busybox")
    asked = [call.path.rpartition("/")[2] for call in engine.calls if A in call.path]
    assert (set(asked[:2]), asked[2:]) == ({"wait", "attach"}, ["start"])  # the first two at the same time
    assert engine.asked(f"POST /containers/{A}/wait")[0].text("condition") == "removed"


def test_input_is_sent_to_its_end(stub: Stub, program: Run) -> None:
    data = os.urandom(1 << 20).hex().encode()
    done = program(stub(container(out=b"", err=b"")), "run", "-i", "busybox", "cat", data=data)
    assert done.out.encode() == data


def test_output_larger_than_any_buffer_does_not_stall_input(stub: Stub, program: Run) -> None:
    def talkative(call: Call) -> None:
        sock = call.upgrade()
        for _ in range(64):
            sock.sendall(frame(1, b"x" * 65536))
        got = b"".join(iter(lambda: sock.recv(65536), b""))
        sock.sendall(frame(2, str(len(got)).encode()))
        sock.close()

    engine = stub(container() | {f"POST /containers/{A}/attach": talkative})
    done = program(engine, "run", "-i", "busybox", data=b"y" * (4 << 20))
    assert (len(done.out), done.err) == (64 * 65536, f"WARNING: careful\n{4 << 20}")


def test_detached_prints_the_id(stub: Stub, scow: Run, tmp_path: Path) -> None:
    engine = stub(container())
    file = tmp_path / "cid"
    done = scow(engine, "run", "-d", "--cidfile", str(file), "--name", "n", "busybox")
    assert (done.code, done.out) == (0, f"{A}\n")
    assert file.read_text() == A
    assert engine.asked("POST /containers/create")[0].text("name") == "n"
    again = scow(engine, "run", "-d", "--cidfile", str(file), "busybox")
    assert again.code == 125
    assert "container ID file found" in again.err


def test_a_missing_image_is_pulled_once(stub: Stub, scow: Run) -> None:
    def create(call: Call) -> Any:
        pulled = engine.asked("POST /images/create")
        return (201, {"Id": A}) if pulled else (404, "No such image: busybox:latest")

    engine = stub(container(**{"POST /containers/create": create}))
    done = scow(engine, "run", "busybox")
    assert done.code == 0
    assert done.err.startswith("Unable to find image 'busybox:latest' locally\nlatest: Pulling from library/busybox\n")
    assert [call.query for call in engine.asked("POST /images/create")] == [
        {"fromImage": ["busybox"], "tag": ["latest"]}
    ]
    never = scow(
        stub(container(**{"POST /containers/create": (404, "No such image: x:latest")})), "run", "--pull=never", "x"
    )
    assert (never.code, never.err.split("\n")[0]) == (125, "scow: Error response from daemon: No such image: x:latest")


@pytest.mark.parametrize(
    ("sentence", "code"),
    [
        ('exec: "x": executable file not found in $PATH: unknown', 127),
        ('exec: "x": stat x: no such file or directory: unknown', 127),
        ('exec: "/etc": permission denied: unknown', 126),
        ('exec: "/etc": is a directory: unknown', 126),
        ("driver failed programming external connectivity", 125),
    ],
)
def test_why_a_container_does_not_start_is_in_the_code(stub: Stub, scow: Run, sentence: str, code: int) -> None:
    done = scow(stub(container(**{f"POST /containers/{A}/start": (400, sentence)})), "run", "busybox")
    assert done.code == code
    assert f"scow: Error response from daemon: {sentence}\n\nRun 'scow run --help' for more information\n" in done.err


def test_a_terminal_that_is_none_is_refused(stub: Stub, program: Run) -> None:
    done = program(stub(container()), "run", "-it", "busybox")
    assert (done.code, done.err) == (1, "the input device is not a TTY\n")


def test_create_prints_the_id_and_sends_the_platform(stub: Stub, scow: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", "linux/arm64")
    engine = stub(container())
    assert scow(engine, "create", "busybox").out == f"{A}\n"
    assert engine.asked("POST /containers/create")[0].text("platform") == "linux/arm64"


# ---- exec, logs, attach ----------------------------------------------------------------------------------


def test_exec_passes_everything_and_ends_with_the_code(stub: Stub, scow: Run) -> None:
    engine = stub(container(code=3))
    done = scow(engine, "exec", "-e", "A=1", "-u", "me", "-w", "/w", "--privileged", "web", "ls", "-l")
    assert (done.code, done.out, done.err) == (3, "out\n", "err\n")
    sent = engine.asked("POST /containers/web/exec")[0].json()
    assert {key: sent[key] for key in ("Cmd", "Env", "User", "WorkingDir", "Privileged", "AttachStdin")} == {
        "Cmd": ["ls", "-l"],
        "Env": ["A=1"],
        "User": "me",
        "WorkingDir": "/w",
        "Privileged": True,
        "AttachStdin": False,
    }
    assert scow(engine, "exec", "-d", "web", "ls").out == ""


def test_exec_input(stub: Stub, program: Run) -> None:
    def echo(call: Call) -> None:
        sock = call.upgrade()
        got = b"".join(iter(lambda: sock.recv(65536), b""))
        sock.sendall(frame(1, got))
        sock.close()

    engine = stub(container(**{"POST /exec/x1/start": echo}))
    assert program(engine, "exec", "-i", "web", "cat", data=b"abc").out == "abc"
    assert engine.asked("POST /containers/web/exec")[0].json()["AttachStdin"] is True


def test_logs(stub: Stub, scow: Run) -> None:
    data = frame(1, b"l1\n") + frame(2, b"e1\n") + frame(1, b"l2\n")
    engine = stub({**ROUTES, f"GET /containers/{A}/logs": Raw(data)})
    done = scow(engine, "logs", "--tail", "5", "--since", "2026-01-02T03:04:05Z", "-t", "web")
    assert (done.out, done.err) == ("l1\nl2\n", "e1\n")
    query = engine.asked(f"GET /containers/{A}/logs")[0].query
    assert (query["tail"], query["since"], query["timestamps"]) == (["5"], ["1767323045.000000000"], ["1"])
    assert "not a time" in scow(engine, "logs", "--since", "soon", "web").err


def test_attach_needs_a_running_container(stub: Stub, scow: Run) -> None:
    stopped = {**INSPECT, "State": {"Running": False}}
    done = scow(stub({"GET /containers/web/json": stopped}), "attach", "web")
    assert (done.code, done.err) == (1, "cannot attach to a stopped container, start it first\n")


def test_start_attached(stub: Stub, scow: Run) -> None:
    done = scow(stub(container(code=7)), "start", "-a", "web")
    assert (done.code, done.out) == (7, "out\n")


# ---- one call for each name ------------------------------------------------------------------------------


def test_each_name_is_tried_and_failures_are_told(stub: Stub, scow: Run) -> None:
    engine = stub({"POST /containers/a/stop": (204, None), "POST /containers/b/stop": (404, "No such container: b")})
    done = scow(engine, "stop", "-t", "3", "-s", "INT", "b", "a")
    assert (done.code, done.out, done.err) == (1, "a\n", "Error response from daemon: No such container: b\n")
    assert engine.asked("POST /containers/a/stop")[0].query == {"t": ["3"], "signal": ["INT"]}


def test_remove_with_force_forgives_what_is_gone(stub: Stub, scow: Run) -> None:
    engine = stub({"DELETE /containers/a": (204, None), "DELETE /containers/b": (404, "No such container: b")})
    assert scow(engine, "rm", "-f", "b", "a").code == 0
    assert scow(engine, "rm", "b").code == 1
    assert engine.asked("DELETE /containers/a")[0].query == {"force": ["1"]}


def test_inspect_looks_for_every_kind_and_goes_on(stub: Stub, scow: Run) -> None:
    engine = stub({**ROUTES, "GET /volumes/data": {"Name": "data"}})
    done = scow(engine, "inspect", "data", "nope", "bridge")
    assert done.code == 1
    assert [item["Name"] for item in json.loads(done.out)] == ["data", "bridge"]
    assert done.err == "Error: No such object: nope\n"
    assert scow(engine, "inspect", "-f", "{{.Nope", "web").code == 64
    assert "unknown type" in scow(engine, "inspect", "--type", "cloud", "web").err


def test_images_are_removed_and_tagged(stub: Stub, scow: Run) -> None:
    engine = stub(
        {
            "DELETE /images/host:5000/a:b": [{"Untagged": "host:5000/a:b"}, {"Deleted": "sha256:1"}],
            "POST /images/x/tag": (201, None),
        }
    )
    assert scow(engine, "rmi", "host:5000/a:b").out == "Untagged: host:5000/a:b\nDeleted: sha256:1\n"
    assert scow(engine, "tag", "x", "host:5000/y:z").code == 0
    assert engine.asked("POST /images/x/tag")[0].query == {"repo": ["host:5000/y"], "tag": ["z"]}


def test_pull_sends_the_login(stub: Stub, scow: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    engine = stub({"POST /auth": {"Status": "Login Succeeded"}, "POST /images/create": lambda call: iter(PULL)})
    done = scow(engine, "login", "-u", "me", "-p", "pw", "host:5000")
    assert (done.code, done.out) == (0, "Login Succeeded\n")
    assert scow(engine, "pull", "host:5000/a").out.endswith("host:5000/a:latest\n")
    assert "x-registry-auth" in engine.asked("POST /images/create")[0].headers
    assert scow(engine, "pull", "-q", "busybox").out == "docker.io/library/busybox:latest\n"
    assert "x-registry-auth" not in engine.asked("POST /images/create")[1].headers
    assert scow(engine, "logout", "host:5000").code == 0
    assert json.loads((tmp_path / "config.json").read_text())["auths"] == {}


def test_save_and_export_are_whole_or_absent(stub: Stub, scow: Run, tmp_path: Path) -> None:
    def broken(call: Call) -> None:
        call.head(200, {"Content-Length": "9"})
        call.sock.sendall(b"abc")
        call.sock.close()

    target = tmp_path / "out.tar"
    assert scow(stub({"GET /images/get": Raw(b"tar")}), "save", "-o", str(target), "a", "b").code == 0
    assert target.read_bytes() == b"tar"
    assert scow(stub({"GET /containers/web/export": broken}), "export", "-o", str(target), "web").code == 1
    assert target.read_bytes() == b"tar"
    assert os.listdir(tmp_path).count("out.tar") == 1
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".out")]
    assert "no such file" in scow(stub({}), "save", "-o", f"{tmp_path}/none/x", "a").err


def test_load_and_import(stub: Stub, program: Run, tmp_path: Path) -> None:
    engine = stub(
        {
            "POST /images/load": lambda call: iter([{"stream": "Loaded image: x:1\n"}]),
            "POST /images/create": lambda call: iter([{"status": "sha256:1"}]),
        }
    )
    assert program(engine, "load", data=b"archive").out == "Loaded image: x:1\n"
    (tmp_path / "f.tar").write_bytes(b"rootfs")
    done = program(engine, "import", "-c", "CMD x", str(tmp_path / "f.tar"), "a:b")
    assert done.out == "sha256:1\n"
    call = engine.asked("POST /images/create")[0]
    assert (call.body, call.query["changes"], call.query["repo"]) == (b"rootfs", ["CMD x"], ["a"])
    assert engine.asked("POST /images/load")[0].body == b"archive"


def test_build_sends_its_options_and_writes_the_id(stub: Stub, scow: Run, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x")
    answers = [{"stream": "Step 1/1\n"}, {"aux": {"ID": "sha256:abc"}}, {"stream": "Successfully built abc\n"}]
    engine = stub({"POST /build": lambda call: iter(answers)})
    iid = tmp_path.parent / f"{tmp_path.name}-iid"
    words = f"build -t a -t b --build-arg X=1 --label k=v --target s --no-cache -m 1g --iidfile {iid}".split()
    done = scow(engine, *words, str(tmp_path))
    assert (done.code, iid.read_text()) == (0, "sha256:abc")
    assert done.out == "Sending build context to Scow daemon  2.048kB\nStep 1/1\nSuccessfully built abc\n"
    query = engine.asked("POST /build")[0].query
    assert query["t"] == ["a", "b"]
    assert json.loads(query["buildargs"][0]) == {"X": "1"}
    assert (query["target"], query["nocache"], query["memory"]) == (["s"], ["1"], ["1073741824"])
    assert scow(engine, "build", "-q", str(tmp_path)).out == "sha256:abc\n"
    assert "needs BuildKit" in scow(engine, "build", "--secret", "id=x", str(tmp_path)).err


def test_a_failed_build_ends_with_the_commands_code(stub: Stub, scow: Run, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x")
    message = "The command '/bin/sh -c exit 3' returned a non-zero code: 3"
    answers = [{"stream": "said\n"}, {"errorDetail": {"code": 3, "message": message}, "error": message}]
    engine = stub({"POST /build": lambda call: iter(answers)})
    done = scow(engine, "build", "-q", str(tmp_path))
    assert (done.code, done.out, done.err) == (3, "", f"said\n{message}\n")


def test_copies(stub: Stub, scow: Run, tmp_path: Path) -> None:
    from support.stub_tar import PathStat, tar_of

    engine = stub(
        {
            "GET /containers/web/archive": Raw(
                tar_of({"etc/": b"", "etc/hosts": b"h"}), 200, PathStat("etc", folder=True).headers
            ),
            "HEAD /containers/web/archive": Raw(b"", 200, PathStat("tmp", folder=True).headers),
            "PUT /containers/web/archive": Raw(b""),
        }
    )
    assert scow(engine, "cp", "web:/etc", str(tmp_path / "new")).code == 0
    assert (tmp_path / "new" / "hosts").read_bytes() == b"h"
    assert scow(engine, "cp", "web:/etc", str(tmp_path)).code == 0
    assert (tmp_path / "etc" / "hosts").read_bytes() == b"h"
    assert scow(engine, "cp", str(tmp_path / "new"), "web:/tmp").code == 0
    put = engine.asked("PUT /containers/web/archive")[0]
    assert put.text("path") == "/tmp"
    assert b"new/hosts" in put.body
    assert "must specify at least one container" in scow(engine, "cp", "/a", "/b").err
    assert "copying between containers" in scow(engine, "cp", "a:/a", "b:/b").err


def test_networks_and_volumes(stub: Stub, scow: Run) -> None:
    engine = stub(
        {
            "POST /networks/create": (201, {"Id": "n1"}),
            "POST /networks/n/connect": Raw(b""),
            "DELETE /networks/n": (204, None),
            "DELETE /networks/gone": (404, "network gone not found"),
            "POST /volumes/create": (201, {"Name": "v"}),
        }
    )
    words = [
        "network",
        "create",
        "--subnet",
        "10.1.0.0/16",
        "--gateway",
        "10.1.0.1",
        "--ipv6",
        "--internal",
        "-o",
        "a=b",
        "--label",
        "c",
        "n",
    ]
    assert scow(engine, *words).out == "n1\n"
    sent = engine.asked("POST /networks/create")[0].json()
    assert sent["IPAM"]["Config"] == [{"Subnet": "10.1.0.0/16", "Gateway": "10.1.0.1"}]
    assert (sent["EnableIPv6"], sent["Internal"], sent["Labels"], sent["Options"]) == (
        True,
        True,
        {"c": ""},
        {"a": "b"},
    )
    assert "EnableIPv4" not in sent
    assert scow(engine, "network", "connect", "--alias", "x,y", "--ip", "10.1.0.9", "n", "web").code == 0
    endpoint = engine.asked("POST /networks/n/connect")[0].json()["EndpointConfig"]
    assert (endpoint["Aliases"], endpoint["IPAMConfig"]["IPv4Address"]) == (["x", "y"], "10.1.0.9")
    assert scow(engine, "network", "rm", "-f", "gone", "n").code == 0
    assert scow(engine, "volume", "create", "-o", "type=tmpfs", "--label", "a=b", "v").out == "v\n"
    assert engine.asked("POST /volumes/create")[0].json()["DriverOpts"] == {"type": "tmpfs"}


def test_prune_asks_first(stub: Stub, program: Run) -> None:
    engine = stub(ROUTES)
    done = program(engine, "container", "prune", data=b"n\n")
    assert (done.code, "WARNING! This will remove all stopped containers." in done.out) == (0, True)
    assert engine.asked("POST /containers/prune") == []
    assert "Deleted Containers:\nabc\n" in program(engine, "container", "prune", data=b"y\n").out


def test_update_sends_only_what_was_given(stub: Stub, scow: Run) -> None:
    engine = stub({"POST /containers/web/update": {"Warnings": []}})
    assert scow(engine, "update", "-m", "1g", "--cpus", "2", "--restart", "always", "web").out == "web\n"
    assert engine.asked("POST /containers/web/update")[0].json() == {
        "Memory": 1 << 30,
        "NanoCpus": 2 * 10**9,
        "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0},
    }
    assert "must provide one or more flags" in scow(engine, "update", "web").err


# ---- the command line itself -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("nope", 1, "scow: 'nope' is not a scow command.\nSee 'scow --help'\n"),
        ("image nope", 1, "scow: unknown command: scow image nope\n\nUsage:  scow image\n"),
        (
            "run --x",
            125,
            "unknown flag: --x\n\nUsage:  scow run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun 'scow run --help'",
        ),
        ("--x", 125, "unknown flag: --x\n\nUsage:  scow [OPTIONS] COMMAND [ARG...]\n"),
        ("run", 1, "scow: 'scow run' requires at least 1 argument\n\nUsage:  scow run"),
        ("rename a", 1, "scow: 'scow rename' requires 2 arguments\n"),
        ("ps x", 1, "scow: 'scow ps' accepts no arguments\n"),
        ("images a b", 1, "scow: 'scow images' requires at most 1 argument\n"),
        ("-H ftp://x ps", 1, 'unable to parse docker host "ftp://x"'),
        ("-c other ps", 1, 'context "other": context not found'),
        (
            "-H unix:///nothere ps",
            1,
            "Cannot connect to the scow daemon at unix:///nothere. Is the scow daemon running?\n",
        ),
        ("ps --format {{.ID", 1, "failed to parse template: template: :1: unclosed action\n"),
    ],
)
def test_what_is_wrong_is_said_as_docker_says_it(words: str, code: int, message: str, stub: Stub, scow: Run) -> None:
    given: list[Any] = words.split()
    if given[0] == "ps" and "--format" in given:
        given.insert(0, stub(ROUTES))
    done = scow(*given)
    assert done.code == code
    assert message in done.err
    assert done.out == ""


def test_help_for_every_command(scow: Run) -> None:
    from scow.cli.table import ENTRIES, GROUPS

    for entry in ENTRIES:
        for name in entry.names if entry.module != "registry" else ():
            done = scow(*name.split(), "--help")
            assert done.out.startswith("Usage:  scow ")
            assert done.code == 0
    for group in GROUPS:
        assert f"Usage:  scow {group} COMMAND" in scow(group).out


def test_version_without_a_daemon_shows_the_client_and_fails(scow: Run) -> None:
    done = scow("-H", "unix:///nothere", "version")
    assert (done.code, done.out.startswith("Client:\n Version:")) == (1, True)
    assert scow("--version").out.startswith("Scow version ")
    assert scow("-H", "unix:///nothere", "version", "-f", "{{.Client.APIVersion}}").out == "1.55\n"


def test_output_nobody_reads_is_no_traceback(stub: Stub) -> None:
    import subprocess
    import sys

    engine = stub(ROUTES)
    process = subprocess.Popen(
        [sys.executable, "-m", "scow.cli.main", f"--host={engine.url}", "ps"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(30) == 141
    assert process.stderr.read() == b""
    process.stderr.close()
