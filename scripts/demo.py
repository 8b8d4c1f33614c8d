"""Scow's whole job on one machine: engine, image, build, run, isolation, registry, a second host, and a clean end.

Everything lives in a temporary folder and in two network namespaces that play two machines joined by a cable, so the
demo needs nothing of the host's network and leaves nothing behind. Each step prints what is run, what it shows, and its
time.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
ONE, TWO = "scow-demo-one", "scow-demo-two"
ADDRESS = {ONE: "10.213.0.1", TWO: "10.213.0.2"}
REGISTRY = f"{ADDRESS[ONE]}:5000"
#: Images of host programs need the distribution's own interpreter, not one from a user's folder.
HOST_PYTHON = "/usr/bin/python3"


class DemoFailed(Exception):
    """A step did not show what it should; the text says which."""


def say(text: str = "") -> None:
    print(text, flush=True)


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Print a heading, run the block, print how long it took."""
    say(f"\n\033[1m== {title}\033[0m" if sys.stdout.isatty() else f"\n== {title}")
    started = time.perf_counter()
    yield
    say(f"   ({time.perf_counter() - started:.2f} s)")


def show(text: str) -> None:
    for line in text.rstrip("\n").splitlines():
        say(f"   {line}")


def expect(fact: bool, sentence: str) -> None:
    if not fact:
        raise DemoFailed(sentence)
    say(f"   ✓ {sentence}")


def on(machine: str, *command: str) -> list[str]:
    """`command`, to be run on one of the two machines."""
    return ["nsenter", f"--net=/run/netns/{machine}", "--", *command]


class Host:
    """One of the two machines: a network namespace, an engine in it, and the client's way to reach the engine."""

    def __init__(self, name: str, work: Path, client: list[str], client_on: str = ONE) -> None:
        self.name, self.work, self.client, self.client_on = name, work, client, client_on
        self.processes: list[subprocess.Popen[bytes]] = []
        work.mkdir()
        (work / "daemon.json").write_text("{}\n")

    def inside(self, *command: str) -> list[str]:
        return on(self.name, *command)

    def start(self, *command: str) -> None:
        """Start a server in this machine and return once it says it is ready."""
        reader, writer = os.pipe()
        with (self.work / "log").open("ab") as log:
            process = subprocess.Popen(
                self.inside(*command, "--ready-fd", str(writer)), pass_fds=(writer,), stdout=log, stderr=log
            )
        os.close(writer)
        self.processes.append(process)
        with open(reader, "rb") as ready:
            if not ready.read(1):
                raise DemoFailed(f"{command[0]} did not start:\n{(self.work / 'log').read_text()}")

    def engine(self, *options: str) -> None:
        self.start(
            str(BIN / "scowd"), "--data-root", str(self.work / "data"), "--exec-root", str(self.work / "run"),
            "--config-file", str(self.work / "daemon.json"), "--insecure-registry", REGISTRY, *options,
        )  # fmt: skip

    def scow(self, *arguments: str, quiet: bool = False, status: int = 0, folder: Path | None = None) -> str:
        """Run the `scow` client against this machine's engine; its output, shown unless `quiet`."""
        command = on(self.client_on, str(BIN / "scow"), *self.client, *arguments)
        if not quiet:
            say(f"   $ scow {' '.join(arguments)}")
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        if not quiet:
            show(done.stdout + done.stderr)
        if done.returncode != status:
            raise DemoFailed(
                f"scow {' '.join(arguments)} ended with {done.returncode}, not {status}: {done.stdout}{done.stderr}"
            )
        return done.stdout.strip()

    def fetch(self, url: str, data: str | None = None) -> str:
        """GET (or POST `data` to) `url` from this machine, once the server behind it answers."""
        program = (
            "import sys, urllib.request as r\n"
            "data = sys.argv[2].encode() if len(sys.argv) > 2 else None\n"
            "print(r.build_opener(r.ProxyHandler({})).open(sys.argv[1], data, timeout=10).read().decode(), end='')"
        )
        say(f"   $ curl {url}" + (f" --data '{data}'" if data is not None else ""))
        done = subprocess.run(
            self.inside(sys.executable, "-c", program, url, *([data] if data is not None else [])),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise DemoFailed(f"fetching {url} failed: {done.stderr.strip().splitlines()[-1]}")
        show(done.stdout)
        return done.stdout

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(timeout=60)
        self.processes.clear()


def sh(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wire() -> None:
    """Two network namespaces joined by one cable."""
    for name in (ONE, TWO):
        sh("ip", "netns", "add", name)
        sh("ip", "-n", name, "link", "set", "lo", "up")
    sh("ip", "link", "add", "eth0", "netns", ONE, "type", "veth", "peer", "name", "eth0", "netns", TWO)
    for name in (ONE, TWO):
        sh("ip", "-n", name, "address", "add", f"{ADDRESS[name]}/24", "dev", "eth0")
        sh("ip", "-n", name, "link", "set", "eth0", "up")


def certificates(folder: Path) -> None:
    """An authority, a server's certificate for the second machine and a client's, with openssl."""
    folder.mkdir()
    sh("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
       "-subj", "/CN=demo authority", "-keyout", f"{folder}/ca-key.pem", "-out", f"{folder}/ca.pem")  # fmt: skip
    for name, extension in (("server", f"subjectAltName=IP:{ADDRESS[TWO]}"), ("client", "extendedKeyUsage=clientAuth")):
        stem = "" if name == "client" else "server-"
        sh("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
           "-keyout", f"{folder}/{stem}key.pem", "-out", f"{folder}/{name}.csr")  # fmt: skip
        (folder / "extension").write_text(extension + "\n")
        sh("openssl", "x509", "-req", "-in", f"{folder}/{name}.csr", "-CA", f"{folder}/ca.pem", "-CAkey",
           f"{folder}/ca-key.pem", "-CAcreateserial", "-days", "2", "-extfile", f"{folder}/extension",
           "-out", f"{folder}/{stem}cert.pem")  # fmt: skip


def first_host(one: Host, work: Path) -> None:
    """Engine, base images, build, two containers and what they share."""
    with step("Start an engine in a data root of its own"):
        one.engine("-H", f"unix://{one.work}/scow.sock", "--bip", "10.201.0.1/16")
        one.scow("version", "--format", "scowd {{.Server.Version}}, API {{.Server.APIVersion}}")
    with step("Base images without any registry: Debian's static busybox, and the host's own Python"):
        one.scow("image", "bootstrap", "busybox")
        one.scow("image", "from-host", "python", HOST_PYTHON, "/bin/sh", "/bin/mkdir", "/bin/ls", "/bin/hostname")
        one.scow("images")
    with step("Build a web application from a two-stage Dockerfile"):
        shutil.copytree(HERE / "demo-app", work / "app")
        one.scow("build", "-t", "notes", str(work / "app"))
        one.scow("history", "notes")
    with step("Run two containers from the one image"):
        one.scow("run", "-d", "--name", "web1", "--hostname", "web1", "--memory", "128m", "-p", "8081:8000", "notes")
        one.scow("run", "-d", "--name", "web2", "--hostname", "web2", "--memory", "128m", "-p", "8082:8000", "notes")
        one.scow("ps")


def sharing(one: Host) -> None:
    """One image, two containers, two states; and walls between them."""
    with step("They answer on published ports, share the image's layers, and not their changes"):
        one.scow("exec", "web1", "python3", "-c", WAIT_FOR_PORT, quiet=True)
        one.scow("exec", "web2", "python3", "-c", WAIT_FOR_PORT, quiet=True)
        one.fetch("http://127.0.0.1:8081/notes", "written in web1")
        first = json.loads(one.fetch("http://127.0.0.1:8081/notes"))
        second = json.loads(one.fetch("http://127.0.0.1:8082/notes"))
        expect(first["notes"] == ["written in web1"] and second["notes"] == [], "a note in web1 is not in web2")
        images = {one.scow("inspect", "-f", "{{.Image}}", name, quiet=True) for name in ("web1", "web2")}
        expect(len(images) == 1, "both stand on the same image, stored once")
        one.scow("diff", "web1")
        one.scow("ps", "-s", "--format", "table {{.Names}}\t{{.Size}}")
    with step("Isolation: own processes, own network, own hostname, a memory limit that holds"):
        one.scow("exec", "web1", "sh", "-c", "echo /proc/[0-9]*")
        one.scow("top", "web1")
        one.scow("exec", "web1", "hostname")
        one.scow("run", "--rm", "--network", "none", "busybox", "ip", "-o", "link")
        one.scow("run", "--name", "hungry", "--memory", "32m", "busybox", "sh", "-c", "tail /dev/zero", status=137)
        killed = one.scow("inspect", "-f", "{{.State.OOMKilled}}", "hungry", quiet=True)
        expect(killed == "true", "a container that wants more than its 32 MiB is killed, alone")
        one.scow("rm", "hungry", quiet=True)


#: Run inside a container: returns once its server listens, by waiting for the socket and not for the clock.
WAIT_FOR_PORT = (
    "import socket, time, sys\n"
    "end = time.monotonic() + 20\n"
    "while time.monotonic() < end:\n"
    "    try: socket.create_connection(('127.0.0.1', 8000)).close(); sys.exit(0)\n"
    "    except OSError: time.sleep(0.02)\n"
    "sys.exit(1)"
)


def second_host(one: Host, two: Host, work: Path) -> str:
    """Registry, push, and a second engine that is reached by mutual TLS only; the digest that travelled."""
    with step("Start a registry on the first host and push"):
        one.start(str(BIN / "scow-registry"), "--root", str(work / "registry"), "--addr", REGISTRY)
        one.scow("tag", "notes", f"{REGISTRY}/demo/notes:1.0")
        one.scow("push", f"{REGISTRY}/demo/notes:1.0")
        digests = json.loads(
            one.scow("image", "inspect", "-f", "{{json .RepoDigests}}", f"{REGISTRY}/demo/notes:1.0", quiet=True)
        )
        digest = next(text.partition("@")[2] for text in digests if text.startswith(REGISTRY))
    with step("Start a second engine, the other host: TCP with mutual TLS, nothing else"):
        certificates(work / "tls")
        two.engine(
            "-H", f"tcp://{ADDRESS[TWO]}:2376", "--tlsverify", "--tlscacert", f"{work}/tls/ca.pem",
            "--tlscert", f"{work}/tls/server-cert.pem", "--tlskey", f"{work}/tls/server-key.pem",
            "--bip", "10.202.0.1/16",
        )  # fmt: skip
        stranger = subprocess.run(
            one.inside(str(BIN / "scow"), "-H", f"tcp://{ADDRESS[TWO]}:2376", "version"), capture_output=True, text=True
        )
        expect(stranger.returncode != 0, "a client without a certificate is turned away")
    with step("From the first host: pull by digest on the second, run, fetch across the cable"):
        two.scow("pull", f"{REGISTRY}/demo/notes@{digest}")
        two.scow(
            "run", "-d", "--name", "web", "--hostname", "far-away", "-p", "8080:8000", f"{REGISTRY}/demo/notes@{digest}"
        )
        two.scow("exec", "web", "python3", "-c", WAIT_FOR_PORT, quiet=True)
        answer = json.loads(one.fetch(f"http://{ADDRESS[TWO]}:8080/notes"))
        expect(answer["host"] == "far-away", "the same image, by digest, runs on the other host")
        two.scow("rm", "-f", "web")
    return digest


def again(one: Host, work: Path) -> None:
    """The cache, and the image after its containers are gone."""
    with step("Build again: everything comes from the cache"):
        before = one.scow("image", "inspect", "-f", "{{.Id}}", "notes", quiet=True)
        one.scow("build", "-t", "notes", str(work / "app"))
        expect(
            one.scow("image", "inspect", "-f", "{{.Id}}", "notes", quiet=True) == before, "the same image, nothing ran"
        )
    with step("Delete the containers: the image is unaltered"):
        one.scow("rm", "-f", "web1", "web2")
        fresh = one.scow("run", "--rm", "notes", "ls", "/var/lib/notes")
        expect(fresh == "", "a new container starts from the image, without web1's note")
        expect(one.scow("image", "inspect", "-f", "{{.Id}}", "notes", quiet=True) == before, "its id is what it was")


def leftovers(work: Path) -> list[str]:
    """What of the demo is still on this machine: processes, mounts, cgroups, links, rules."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(work) in command and process.name != str(os.getpid()):
                found.append(f"process {process.name}: {command}")
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(work) in line]
    known = {path.name for path in work.glob("*/data/containers/*")}
    found += [str(path) for path in Path("/sys/fs/cgroup").glob("*/scow/*") if path.is_dir() and path.name in known]
    for name in (ONE, TWO):
        links = [line.split(":")[1].strip() for line in sh("ip", "-n", name, "-o", "link").splitlines()]
        found += [f"link {link} in {name}" for link in links if link.startswith("veth")]
    return found


def clean(hosts: list[Host], work: Path, step_down: Callable[[], None]) -> None:
    with step("Stop everything and look for what is left"):
        step_down()
        left = leftovers(work)
        for name in (ONE, TWO):
            sh("ip", "netns", "delete", name)
        shutil.rmtree(work)
        expect(left == [], f"no process, mount, link or cgroup is left{': ' + '; '.join(left) if left else ''}")
        expect(not any(name in sh("ip", "netns", "list") for name in (ONE, TWO)), "and no network namespace")


def main() -> int:
    started = time.perf_counter()
    work = Path(tempfile.mkdtemp(prefix="scow-demo-"))
    one = Host(ONE, work / "one", ["-H", f"unix://{work}/one/scow.sock"])
    tls = [
        "--tlsverify",
        "--tlscacert",
        f"{work}/tls/ca.pem",
        "--tlscert",
        f"{work}/tls/cert.pem",
        "--tlskey",
        f"{work}/tls/key.pem",
    ]
    # Its client runs on the first host: the cable is the only way over.
    two = Host(TWO, work / "two", ["-H", f"tcp://{ADDRESS[TWO]}:2376", *tls], client_on=ONE)
    for name in (ONE, TWO):
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)  # of a demo that was killed
    wire()

    def stop_all() -> None:
        two.stop()
        one.stop()

    try:
        first_host(one, work)
        sharing(one)
        second_host(one, two, work)
        again(one, work)
    except (DemoFailed, subprocess.CalledProcessError) as failure:
        say(f"\nThe demo failed: {failure}")
        for host in (one, two):
            if (host.work / "log").exists():
                say(f"--- log of {host.name}")
                show("\n".join((host.work / "log").read_text().splitlines()[-30:]))
        stop_all()
        for name in (ONE, TWO):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
        shutil.rmtree(work, ignore_errors=True)
        return 1
    clean([one, two], work, stop_all)
    say(f"\nDone in {time.perf_counter() - started:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
