"""A hostile image and a hostile root inside a default container, on a real kernel: nothing of the host is reached.

The programs of the attacks are Python run inside the container from this machine's interpreter, bound read-only: what
limits them (capabilities, seccomp, namespaces, cgroups, mounts) is the container's.
"""

import contextlib
import http.client
import io
import os
import stat
import sys
import tarfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from scow.linux.syscall import syscall
from support.raw import RawClient
from support.tars import tar
from support.world import World

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

PYTHON = f"/py/bin/python3.{sys.version_info.minor}"
INTERPRETER = [f"{sys.base_prefix}:/py:ro", "/usr:/usr:ro", "/lib:/lib:ro", "/lib64:/lib64:ro"]
SLEEP = ["sleep", "1000"]
RENAME_EXCHANGE = 2


@pytest.fixture
def client(world: World) -> Iterator[docker.DockerClient]:
    made = world.docker()
    yield made
    for container in made.containers.list(all=True):
        with contextlib.suppress(docker.errors.NotFound):
            container.remove(force=True, v=True)
    made.volumes.prune(filters={"all": True})


def ready(container) -> None:
    """Wait for the first line an attack writes."""
    end = time.monotonic() + 20
    while not container.logs().startswith(b"ready\n"):
        assert time.monotonic() < end, container.logs()
        time.sleep(0.02)


def forget(client, image: str) -> None:
    """Remove an image and whatever was made of it."""
    for container in client.containers.list(all=True):
        container.remove(force=True, v=True)
    client.images.remove(image, force=True)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the host that no container was given."""
    path = tmp_path / "host" / "secret"
    path.parent.mkdir()
    path.write_text("of the host")
    path.chmod(0o600)
    return path


def attack(client, program: str, **options) -> str:
    """Run Python in a container; what it wrote."""
    out = client.containers.run(
        "busybox", [PYTHON, "-I", "-c", textwrap.dedent(program)], volumes=INTERPRETER, stderr=True, **options
    )
    return out.decode()


def shell(client, script: str, **options) -> str:
    return client.containers.run("busybox", ["sh", "-c", script], stderr=True, **options).decode()


@contextlib.contextmanager
def exchanging(one: Path, two: Path) -> Iterator[None]:
    """Meanwhile the two names are exchanged as fast as can be, as a program that shares the folder would."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            syscall("renameat2", -100, os.fsencode(one), -100, os.fsencode(two), RENAME_EXCHANGE)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


# -- a process in a default container ---------------------------------------------------------------------------------


SYSTEM_CALLS = """
    import ctypes, errno
    libc = ctypes.CDLL(None, use_errno=True)
    b = ctypes.create_string_buffer
    calls = {
        "mount": (165, b(b"t"), b(b"/mnt"), b(b"tmpfs"), 0, 0), "umount2": (166, b(b"/proc/keys"), 2),
        "pivot_root": (155, b(b"."), b(b".")), "fsopen": (430, b(b"tmpfs"), 0), "open_tree": (428, -100, b(b"/"), 1),
        "mount_setattr": (442, -100, b(b"/sys"), 0, b(32), 32), "setns": (308, 0, 0), "bpf": (321, 0, b(128), 128),
        "perf_event_open": (298, b(128), 0, -1, -1, 0), "keyctl": (250, 0, -3, 0),
        "add_key": (248, b(b"user"), b(b"x"), b(b"x"), 1, -3), "io_uring_setup": (425, 8, b(256)),
        "userfaultfd": (323, 0), "open_by_handle_at": (304, -100, b(128), 0), "kexec_load": (246, 0, 0, 0, 0),
        "init_module": (175, 0, 0, b(b"")), "iopl": (172, 3), "acct": (163, b(b"/x")), "swapon": (167, b(b"/x"), 0),
        "settimeofday": (164, b(16), 0), "reboot": (169, 0, 0, 0, 0), "syslog": (103, 3, b(10), 10),
        "personality": (135, 0x0400000), "sethostname": (170, b(b"x"), 1), "fanotify_init": (300, 0, 0),
        "pidfd_getfd": (438, -1, 0, 0), "x32 mount": (0x40000000 | 165, b(b"t"), b(b"/mnt"), b(b"tmpfs"), 0, 0),
        "clone newuser": (56, 0x10000000 | 17, 0, 0, 0, 0),
    }
    for kind, flag in {"mnt": 0x20000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000, "pid": 0x20000000,
                       "net": 0x40000000, "cgroup": 0x2000000}.items():
        calls["unshare " + kind] = (272, flag)
    for name, (number, *arguments) in calls.items():
        given = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
        if libc.syscall(ctypes.c_long(number), *given) != -1 or ctypes.get_errno() != errno.EPERM:
            print(name, errno.errorcode.get(ctypes.get_errno()))
    print("tried", len(calls))
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of system calls are those of x86_64")
def test_what_leads_to_the_kernel_is_refused(client) -> None:
    assert attack(client, SYSTEM_CALLS) == "tried 35\n"


def test_files_of_the_kernel_cannot_be_written(client) -> None:
    hooks = (
        "/proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sysrq-trigger /proc/sys/vm/drop_caches "
        "/sys/kernel/uevent_helper /sys/kernel/mm/ksm/run"
    )
    script = (
        f"for f in {hooks}; do [ ! -e $f ] || ! (echo 1 > $f) 2>/dev/null || echo wrote $f; done;"
        "for g in /sys/fs/cgroup /sys/fs/cgroup/*/; do"
        "  for f in release_agent notify_on_release cgroup.procs devices.allow; do"
        "    ! (echo 1 > $g/$f) 2>/dev/null || echo wrote $g/$f; done;"
        "  ! mkdir $g/x 2>/dev/null || echo made $g/x; done;"
        "find /sys -type f -writable 2>/dev/null | head -3 | while read f; do"
        "  (: > $f) 2>/dev/null && echo sys $f; done;"
        "echo -17 > /proc/self/oom_score_adj 2>/dev/null; cat /proc/self/oom_score_adj"
    )
    assert shell(client, script) == "0\n"


def test_the_disks_of_the_host_cannot_be_opened(client) -> None:
    numbers = {os.stat(entry.path).st_rdev for entry in os.scandir("/dev") if stat.S_ISBLK(os.stat(entry.path).st_mode)}
    made = "".join(f"mknod /d{number} b {os.major(number)} {os.minor(number)};" for number in numbers)
    made += "mknod /dmem c 1 1; mknod /dkmsg c 1 11; mknod /dtun c 10 200;"
    script = f"{made} for d in /d[0-9kmt]*; do head -c1 $d; done 2>&1; true"
    seen = shell(client, script)
    assert seen.count("Operation not permitted") == len(seen.splitlines()) == len(numbers) + 3


def test_nothing_is_left_open_and_nobody_else_is_seen(client) -> None:
    program = """
        import os
        print(sorted(int(fd) for fd in os.listdir("/proc/self/fd")))
        print(sorted(int(pid) for pid in os.listdir("/proc") if pid.isdigit()))
        print(open("/proc/net/unix").read().count("\\n"))
        print(sorted(line.partition("=")[0] for line in open("/proc/1/environ").read().split("\\0") if line))
        print([line.split()[4] for line in open("/proc/self/mountinfo") if "master:" in line or "shared:" in line])
    """
    fds, pids, sockets, environment, shared = attack(client, program).splitlines()
    assert fds == "[0, 1, 2, 3]"  # the last is the listing's own
    assert pids == "[1]"
    assert sockets == "1"  # the heading: no abstract socket of the host
    assert environment == "['HOME', 'HOSTNAME', 'PATH']"
    assert shared == "[]"


def test_the_small_init_is_out_of_reach(client) -> None:
    program = """
        import os
        for name in ("exe", "mem", "maps", "environ", "root/etc", "cwd", "ns/mnt"):
            try:
                os.close(os.open(f"/proc/1/{name}", os.O_RDONLY))
                print("opened", name)
            except PermissionError:
                pass
        print(open("/proc/1/comm").read().strip())
    """
    assert attack(client, program, init=True) == "scow-init\n"
    # Even a debugger's capability does not make the interpreter's file writable: it lies on a read-only mount.
    program = """
        import os
        copy = os.open("/proc/1/exe", os.O_PATH)
        for path in ("/proc/1/exe", f"/proc/self/fd/{copy}"):
            try:
                os.open(path, os.O_WRONLY)
                print("opened")
            except OSError:
                pass
        print(bool(os.fstatvfs(copy).f_flag & os.ST_RDONLY))
    """
    assert attack(client, program, init=True, cap_add=["SYS_PTRACE"]) == "True\n"


SPY = """
    import os
    seen = set()
    print("ready", flush=True)
    while not os.path.exists("/stop"):
        for pid in os.listdir("/proc"):
            if not pid.isdigit() or int(pid) in (1, os.getpid()):
                continue
            for name in ("root" + PATH, "cwd" + PATH):
                try:
                    with open(f"/proc/{pid}/{name}") as file:
                        seen.add(file.read())
                except OSError:
                    pass
            try:
                for fd in os.listdir(f"/proc/{pid}/fd"):
                    found = os.readlink(f"/proc/{pid}/fd/{fd}")
                    if "scow" in found or "/tasks" in found:
                        seen.add(found)
            except OSError:
                pass
    print("seen", seen, flush=True)
"""


@pytest.mark.parametrize("more", [{}, {"cap_add": ["SYS_PTRACE"]}], ids=["default", "debugger"])
def test_an_exec_brings_nothing_of_the_host_in(client, secret: Path, more) -> None:
    """CVE-2016-9962, CVE-2024-21626: a process on its way in is watched for its root, working folder and files."""
    program = f"PATH = {str(secret)!r}\n{textwrap.dedent(SPY)}"
    container = client.containers.run(
        "busybox", [PYTHON, "-I", "-c", program], volumes=INTERPRETER, detach=True, **more
    )
    ready(container)
    for _ in range(20):
        assert container.exec_run(["true"]).exit_code == 0
        assert container.exec_run(["true"], tty=True).exit_code == 0
    container.exec_run(["touch", "/stop"])
    container.wait()
    assert container.logs() == b"ready\nseen set()\n"


def test_the_terminal_of_an_exec_takes_no_input_from_inside(client) -> None:
    container = client.containers.run("busybox", SLEEP, volumes=INTERPRETER, detach=True)
    program = "import fcntl; print(fcntl.ioctl(0, 0x5412, b'x'))"
    code, out = container.exec_run([PYTHON, "-I", "-c", program], tty=True, stdin=True)
    # TIOCSTI is a matter between the container and its own terminal; the caller's is another one.
    assert b"/dev/pts/" in container.exec_run(["tty"], tty=True, stdin=True).output
    assert code in (0, 1), out


# -- a hostile image --------------------------------------------------------------------------------------------------


def built(world: World, name: str, dockerfile: str, *members) -> None:
    context = tar(("Dockerfile", textwrap.dedent(dockerfile).encode()), *members)
    world.scow("build", "-q", "-t", name, "-", data=context.getvalue())


@pytest.mark.parametrize("place", ["/proc", "/proc/sys", "/link/self"])
def test_an_image_cannot_hide_proc(world: World, client, place: str) -> None:
    """CVE-2019-19921: masks and labels would land on what the image brings instead of the kernel's files."""
    built(world, "hidden", f"FROM busybox\nRUN ln -s /proc /link\nVOLUME {place}\n")
    with pytest.raises(docker.errors.APIError, match="inside /proc"):
        client.containers.run("hidden", ["true"])
    forget(client, "hidden")


def test_accounts_of_an_image_that_are_no_files(world: World, client) -> None:
    """/etc/passwd as a FIFO, a device, a link to the host's: nothing waits, nothing is opened, nothing is followed."""
    null = {"devmajor": 1, "devminor": 5}  # /dev/zero would never end
    for what, fields in (("fifo", {}), ("char", null), ("->/proc/1/root/etc/passwd", {}), ("->passwd", {})):
        layer = tar(("etc", "dir"), ("etc/passwd", what, fields), ("etc/group", what, fields))
        client.api.import_image_from_data(layer.getvalue(), repository="strange", tag="latest")
        with pytest.raises(docker.errors.APIError, match="unable to find user daemon"):
            client.containers.create("strange", ["/true"], user="daemon").start()
        forget(client, "strange")


def test_links_of_an_image_where_the_engine_mounts_stay_inside(world: World, client, secret: Path) -> None:
    out = str(secret)
    layer = tar(
        ("etc", "dir"), ("etc/hosts", f"->{out}"), ("etc/resolv.conf", f"->../../../../..{out}"),
        ("etc/hostname", "->loop"), ("dev", f"->{secret.parent}"), ("work", f"->{secret.parent}"), ("bin", "dir"),
        ("bin/busybox", Path("/bin/busybox").read_bytes(), {"mode": 0o755}),
    )  # fmt: skip
    client.api.import_image_from_data(layer.getvalue(), repository="linked", tag="latest")
    with contextlib.suppress(docker.errors.APIError, docker.errors.ContainerError):
        client.containers.run("linked", ["/bin/busybox", "sh", "-c", "echo x > /work/made"], working_dir="/work")
    assert secret.read_text() == "of the host"
    assert os.listdir(secret.parent) == ["secret"]
    forget(client, "linked")


# -- copies and volumes, while somebody exchanges folders for links ---------------------------------------------------


SWAP = """
    import ctypes, os
    os.makedirs("/a/in"); open("/a/in/secret", "w").write("mine")
    os.makedirs("/w/d"); open("/w/d/secret", "w").write("mine"); os.symlink(TARGET, "/w/l")
    open("/w/f", "w").write("mine"); os.mknod("/w/dev", 0o60600, os.makedev(*DISK))
    libc = ctypes.CDLL(None)
    print("ready", flush=True)
    while True:
        libc.syscall(316, -100, b"/w/d", -100, b"/w/l", 2)
        libc.syscall(316, -100, b"/w/f", -100, b"/w/dev", 2)
"""


def disk() -> tuple[int, int]:
    """A block device of this machine that can be read."""
    for name in os.listdir("/dev"):
        if name.startswith(("vd", "sd", "nvme")) and stat.S_ISBLK((info := os.stat(f"/dev/{name}")).st_mode):
            return os.major(info.st_rdev), os.minor(info.st_rdev)
    pytest.skip("no disk here")


def ask(world: World, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
    """An answer; one that breaks off (the file went away under it) has what came."""
    with contextlib.closing(RawClient(str(world.socket))) as api:
        try:
            return api.request(method, target, body, {"Content-Type": "application/x-tar"})
        except http.client.IncompleteRead as error:
            return 200, error.partial


def fetched(world: World, container: str, path: str) -> Iterator[bytes]:
    """The content of every file that ``docker cp`` would get."""
    status, data = ask(world, "GET", f"/containers/{container}/archive?path={path}")
    if status != 200:
        return
    with contextlib.suppress(tarfile.ReadError), tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            if member.isreg():
                yield archive.extractfile(member).read()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the number of renameat2 is that of x86_64")
def test_copies_from_and_to_a_container_that_exchanges_names(world: World, client, secret: Path) -> None:
    program = f"TARGET = {str(secret.parent)!r}\nDISK = {disk()!r}\n{textwrap.dedent(SWAP)}"
    container = client.containers.run("busybox", [PYTHON, "-I", "-c", program], volumes=INTERPRETER, detach=True)
    ready(container)
    evil = tar(
        ("secret", b"mine"), ("made", b"mine"), ("dir", "dir", {"mode": 0o777}), ("pipe", "fifo", {"mode": 0o777})
    ).getvalue()
    for seconds in (2.0, 0.3):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for path in ("/w/d/secret", "/w/d", "/w/f", "/w"):
                for content in fetched(world, container.id, path):
                    assert content == b"mine"
            ask(world, "HEAD", f"/containers/{container.id}/archive?path=/w/d/secret")
            ask(world, "PUT", f"/containers/{container.id}/archive?path=/w/d", evil)
        container.kill() if seconds > 1 else None
    assert secret.read_text() == "of the host"
    assert os.listdir(secret.parent) == ["secret"]
    assert secret.stat().st_mode & 0o777 == 0o600


def test_a_subpath_of_a_shared_volume_does_not_lead_to_the_host(client, secret: Path) -> None:
    """CVE-2017-1002101: what was a folder when it was looked at is a link to the host when it is mounted."""
    volume = client.volumes.create("shared")
    root = Path(volume.attrs["Mountpoint"])
    (root / "d").mkdir()
    (root / "l").symlink_to(secret.parent)
    mount = docker.types.Mount("/m", "shared", type="volume")
    mount["VolumeOptions"] = {"Subpath": "d"}
    seen = set()
    with exchanging(root / "d", root / "l"):
        for _ in range(15):
            with contextlib.suppress(docker.errors.APIError):
                seen.add(shell(client, "ls /m", mounts=[mount]))
    assert seen <= {""}


# -- a hostile build --------------------------------------------------------------------------------------------------


def test_a_hostile_dockerfile_and_context(world: World, client, secret: Path) -> None:
    """Links in the context, in stages and in archives, to copy from or through."""
    inner = tar(("out", f"->{secret.parent}"), ("out/made", b"x"), ("../up", b"x"), ("/abs", b"x")).getvalue()
    out = str(secret)
    tried = 0
    for instruction in (
        "COPY link /got", "COPY dir/ /got/", "ADD link /got", "ADD evil.tar /x/", "COPY --from=first /link /got",
        "RUN --mount=type=bind,from=first,source=/dir,target=/m cat /m/secret > /got",
        "RUN --mount=type=cache,id=c,target=/c ln -sfn /../../../../../.. /c/d\n"
        f"RUN --mount=type=cache,id=c,source=d,target=/m cat /m{out} > /got",
        "WORKDIR /dir\nRUN cat secret > /got",
        "COPY --from=first /dir/secret /got", f"COPY ../../../../../../..{out} /got", f"COPY {out} /got",
    ):  # fmt: skip
        dockerfile = (
            f"FROM busybox AS first\nRUN ln -s {out} /link; ln -s {secret.parent} /dir\n"
            f"FROM first\n{instruction}\nRUN cat /got /got/* 2>/dev/null; true\n"
        )
        context = tar(
            ("Dockerfile", dockerfile.encode()),
            ("link", f"->{out}"),
            ("dir", f"->{secret.parent}"),
            ("evil.tar", inner),
        )
        with contextlib.closing(RawClient(str(world.socket))) as api:
            status, data = api.request(
                "POST", "/build?t=evil", context.getvalue(), {"Content-Type": "application/x-tar"}
            )
        assert status == 200
        assert b"of the host" not in data, instruction
        tried += 1
    assert tried == 11
    assert os.listdir(secret.parent) == ["secret"]
    with contextlib.suppress(docker.errors.ImageNotFound):
        forget(client, "evil")


# -- neighbours -------------------------------------------------------------------------------------------------------


def test_networks_are_closed_to_each_other(world: World, client) -> None:
    other = client.networks.create("other")
    serve = ["sh", "-c", "while :; do echo hello | nc -l -p 80; done"]
    try:
        server = client.containers.run(
            "busybox", serve, detach=True, network="other", ports={"80/tcp": ("127.0.0.1", 8099)}
        )
        server.reload()
        there = server.attrs["NetworkSettings"]["Networks"]["other"]

        def heard(address: str, port: int, network: str = "bridge") -> str:
            script = (
                f"ip route add 127.1.0.0/16 dev eth0 2>/dev/null; nc -w 1 {address} {port} </dev/null 2>/dev/null; true"
            )
            return shell(client, script, network=network)

        for _ in range(50):  # it may not listen yet
            if heard(there["IPAddress"], 80, "other") == "hello\n":
                break
        else:
            pytest.fail("a neighbour does not reach it")
        assert heard(there["IPAddress"], 80) == "", "another network is closed"
        assert heard(there["Gateway"], 8099) == "", "what is published at 127.0.0.1 is for the host alone"
        assert heard("127.0.0.1", 8099, "other") == ""
        assert world.talk("127.0.0.1", 8099) == b"hello\n", "the host reaches it"
    finally:
        for container in client.containers.list(all=True):
            container.remove(force=True)
        other.remove()
