"""The peers: crun and runc without an engine, Podman with one of its own folders. What cannot run here is said.

Everything happens in a mount and network namespace of the bench's own: the unified hierarchy of a hybrid host is taken
away there (old crun cannot do with it), and no packet leaves the machine.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from report import children, pss, quiet, timed

UNIFIED = "/sys/fs/cgroup/unified"
_HOLD = 'if mountpoint -q "$1"; then umount "$1"; fi; ip link set lo up; echo; exec sleep infinity'


@contextlib.contextmanager
def apart() -> Iterator[list[str]]:
    """Words in front of a command that has it run in the peers' namespaces."""
    command = ["unshare", "-m", "-n", "sh", "-c", _HOLD, "sh", UNIFIED]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        yield ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", f"--net=/proc/{holder.pid}/ns/net", "--"]
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def root_file_system(folder: Path) -> Path:
    """A folder with busybox and the names used here."""
    made = folder / "rootfs"
    (made / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "/bin/busybox", made / "bin" / "busybox")
    for name in ("true", "sh", "sleep", "cat", "yes", "head", "dd"):
        (made / "bin" / name).symlink_to("busybox")
    return made


class Runtime:
    """crun or runc: `run` of a bundle; no image, no network, no API, no record."""

    def __init__(self, name: str, folder: Path, prefix: list[str]) -> None:
        made = folder / name
        made.mkdir()
        quiet(*prefix, name, "spec", "-b", str(made))
        spec = json.loads((made / "config.json").read_text())
        spec["process"] |= {"terminal": False, "args": ["true"], "rlimits": []}
        spec["root"] = {"path": str(folder / "rootfs"), "readonly": True}
        (made / "config.json").write_text(json.dumps(spec))
        self.command = [*prefix, name, "run", "-b", str(made), f"bench-{os.getpid()}"]

    def run(self) -> None:
        """One container from nothing to its end."""
        quiet(*self.command)


class Podman:
    """Podman with folders of its own, cgroupfs, and limits this machine can give."""

    LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")

    def __init__(self, folder: Path, prefix: list[str], runtime: str) -> None:
        store = ["--root", str(folder / "podman"), "--runroot", str(folder / "podman-run"), "--runtime", runtime]
        self.words = [*prefix, "podman", *store, "--cgroup-manager", "cgroupfs"]
        archive = subprocess.Popen(["tar", "-C", str(folder / "rootfs"), "-c", "."], stdout=subprocess.PIPE)
        subprocess.run([*self.words, "import", "-", "busybox"], stdin=archive.stdout, check=True, capture_output=True)
        assert archive.stdout is not None
        archive.stdout.close()
        archive.wait()

    def run(self, *words: str) -> None:
        """``podman run --rm`` of busybox."""
        quiet(*self.words, "run", "--rm", *self.LIMITS, "busybox", *words)

    def begin(self, *words: str) -> str:
        """``podman run -d``: the id."""
        command = [*self.words, "run", "-d", *self.LIMITS, "busybox", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def do(self, *words: str) -> None:
        """Any other command."""
        quiet(*self.words, *words)

    def memory(self, count: int) -> float:
        """PSS of the monitors of `count` containers, each."""
        made = [self.begin("sleep", "1000") for _ in range(count)]
        try:
            monitors = [pid for pid in children(1) if _name(pid) == "conmon"]
            return sum(map(pss, monitors)) / max(len(monitors), 1)
        finally:
            self.do("rm", "-f", "-t", "0", *made)

    def stop_and_remove(self) -> tuple[float, float]:
        """Milliseconds of ``stop`` and of ``rm``, each."""
        made = self.begin("sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.01; done")
        return timed(lambda: self.do("stop", made)), timed(lambda: self.do("rm", made))

    def close(self) -> None:
        """Remove what is left."""
        self.do("rm", "-f", "-a", "-t", "0")
        self.do("rmi", "-f", "busybox")


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


class Peers:
    """Those that run here; `runtimes` and `podman` (None where it does not)."""

    def __init__(self, folder: Path, prefix: list[str]) -> None:
        root_file_system(folder)
        self.runtimes: dict[str, Runtime] = {}
        self.podman: Podman | None = None
        for name in ("crun", "runc"):
            if shutil.which(name) is None:
                _say(f"{name} is not installed")
                continue
            try:
                runtime = Runtime(name, folder, prefix)
                runtime.run()
                self.runtimes[name] = runtime
            except subprocess.CalledProcessError as error:
                _say(f"{name} does not run here: {error}")
        if shutil.which("podman") is None or not self.runtimes:
            _say("podman is not installed, or has no runtime")
            return
        try:
            podman = Podman(folder, prefix, next(iter(self.runtimes)))
            podman.run("true")
            self.podman = podman
        except subprocess.CalledProcessError as error:
            _say(f"podman does not run here: {error}")


@contextlib.contextmanager
def peers(folder: Path) -> Iterator[Peers]:
    """The peers of this machine, in namespaces that end with the block."""
    with apart() as prefix:
        found = Peers(folder, prefix)
        try:
            yield found
        finally:
            if found.podman is not None:
                found.podman.close()


def _say(sentence: str) -> None:
    print(f"peer: {sentence}", file=sys.stderr, flush=True)
