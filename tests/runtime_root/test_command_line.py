"""``scow-runtime`` as other engines drive it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scow.linux.fds import receive_with_fds

pytestmark = pytest.mark.root

START = "import sys; from scow.runtime.cli import main; sys.exit(main())"


@pytest.fixture
def runtime(world):
    """Runs the command line; a bundle of busybox is the working folder."""
    bundle = world.folder / "bundle"
    bundle.mkdir()
    (bundle / "rootfs").symlink_to(world.lower)

    def run(*args: str, input: str = "", code: int = 0) -> str:  # noqa: A002
        # Into a file: a container that goes on keeps a pipe open, and nobody would see its end.
        with open(world.folder / "output", "w+") as output:
            done = subprocess.run(
                [sys.executable, "-c", START, "--root", str(world.folder / "state"), *args],
                input=input,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=bundle,
                timeout=60,
                check=False,
            )
            output.seek(0)
            text = output.read()
        assert done.returncode == code, text
        return text

    def configure(*args: str, **process: object) -> None:
        spec = json.loads((bundle / "config.json").read_text())
        spec["process"].update(args=list(args), terminal=False, env=["PATH=/bin"], **process)
        (bundle / "config.json").write_text(json.dumps(spec))

    run.configure = configure  # type: ignore[attr-defined]
    run.bundle = bundle  # type: ignore[attr-defined]
    run("spec")
    yield run
    run("delete", "--force", "box")


def test_create_start_exec_and_delete(runtime):
    runtime.configure("sh", "-c", "echo started > /dev/shm/x; sleep 1000")
    runtime("create", "--pid-file", "pid", "box")
    state = json.loads(runtime("state", "box"))
    assert (state["status"], state["id"], state["ociVersion"]) == ("created", "box", "1.2.0")
    assert int((runtime.bundle / "pid").read_text()) == state["pid"]
    assert "already exists" in runtime("create", "box", code=1)
    runtime("start", "box")
    assert json.loads(runtime("state", "box"))["status"] == "running"
    assert "cannot start" in runtime("start", "box", code=1)
    assert "started" in runtime("exec", "box", "sh", "-c", "cat /dev/shm/x; exit 7", code=7)
    assert "uid=1000" in runtime("exec", "--user", "1000:1000", "box", "id")
    assert "executable file not found" in runtime("exec", "box", "nope", code=1)
    assert state["pid"] in json.loads(runtime("ps", "--format", "json", "box"))
    runtime("pause", "box")
    assert json.loads(runtime("state", "box"))["status"] == "paused"
    assert "paused" in runtime("exec", "box", "true", code=1)
    runtime("resume", "box")
    runtime("update", "--resources", "-", "box", input='{"pids": {"limit": 50}}')
    assert "stop it first" in runtime("delete", "box", code=1)
    assert "box" in runtime("list")
    runtime("kill", "box", "KILL")
    runtime("delete", "--force", "box")
    assert "does not exist" in runtime("state", "box", code=1)
    runtime("delete", "--force", "box")
    assert not list(Path("/sys/fs/cgroup").glob("*/scow-runtime/box"))


def test_run_gives_the_programs_output_and_code(runtime):
    runtime.configure("sh", "-c", "cat; echo err >&2; exit 3")
    assert runtime("run", "box", input="through\n", code=3) == "through\nerr\n"
    assert runtime("list", "--quiet").strip() == ""


def test_what_is_not_there_is_told_at_create_and_leaves_nothing(runtime):
    runtime.configure("nope")
    assert 'exec: "nope": executable file not found in $PATH' in runtime("create", "box", code=1)
    assert runtime("list", "--quiet").strip() == ""


def test_a_terminal_is_handed_over_a_socket(runtime, world):
    runtime.configure("sh", "-c", "tty; stty size")
    spec = json.loads((runtime.bundle / "config.json").read_text())
    spec["process"].update(terminal=True, consoleSize={"height": 20, "width": 60})
    (runtime.bundle / "config.json").write_text(json.dumps(spec))
    assert "--console-socket" in runtime("create", "box", code=1)
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(runtime.bundle)
        listener.bind("console")
        listener.listen(1)
        runtime("create", "--console-socket", "console", "box")
        peer, _ = listener.accept()
        with peer:
            _, (master,) = receive_with_fds(peer, 100, 1)
    runtime("start", "box")
    text = b""
    while b"20 60" not in text:
        text += os.read(master, 1000)
    assert b"/dev/pts/0" in text
    os.close(master)
    runtime("delete", "--force", "box")


def test_hooks_run_at_their_moments(runtime, world):
    record = world.folder / "moments"
    runtime.configure("sh", "-c", "true")
    spec = json.loads((runtime.bundle / "config.json").read_text())
    spec["hooks"] = {
        moment: [{"path": "/bin/sh", "args": ["sh", "-c", f"read state; echo {moment} $state >> {record}"]}]
        for moment in ("prestart", "createRuntime", "poststart", "poststop")
    }
    (runtime.bundle / "config.json").write_text(json.dumps(spec))
    runtime("run", "box")
    lines = record.read_text().splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["prestart", "createRuntime", "poststart", "poststop"]
    states = [json.loads(line.partition(" ")[2]) for line in lines]
    assert all(state["id"] == "box" for state in states)
    assert states[0]["pid"] > 0


def test_a_hook_that_fails_fails_the_start(runtime):
    runtime.configure("true")
    spec = json.loads((runtime.bundle / "config.json").read_text())
    for hook, words in (
        ({"path": "/bin/false"}, "exit status 1"),
        ({"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}, "exit status -9"),
        ({"path": "/nowhere"}, "no such file"),
    ):
        spec["hooks"] = {"createRuntime": [hook]}
        (runtime.bundle / "config.json").write_text(json.dumps(spec))
        assert words in runtime("run", "box", code=1)
        assert runtime("list", "--quiet").strip() == ""


def test_an_error_is_logged_in_the_format_asked_for(runtime, world):
    log = world.folder / "log"
    runtime("--log", str(log), "--log-format", "json", "start", "nobody", code=1)
    told = json.loads(log.read_text())
    assert (told["level"], told["msg"]) == ("error", "container nobody does not exist")


def test_features(runtime):
    told = json.loads(runtime("features"))
    assert "CAP_CHOWN" in told["linux"]["capabilities"]
    assert "rro" in told["mountOptions"]
