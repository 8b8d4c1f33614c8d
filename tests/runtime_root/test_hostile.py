"""Images made to break out: every path in a root file system belongs to somebody else."""

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from scow.tasks.task import TaskFailed
from scow.tasks.tasks import Tasks

pytestmark = pytest.mark.root

SCRIPT = "cat /proc/self/mountinfo; echo ok"


def replace(path: Path, target: str) -> None:
    """A symlink in place of the folder `path`."""
    path.rmdir()
    path.symlink_to(target)


@pytest.mark.parametrize("target", ["/", "/tmp", "../../../../../proc", "/data"])
@pytest.mark.parametrize("name", ["proc", "sys"])
def test_proc_and_sys_must_be_ordinary_folders(world, name, target):
    replace(world.lower / name, target)

    async def scenario(tasks: Tasks) -> None:
        with pytest.raises(TaskFailed, match="ordinary directory") as caught:
            await world.run(tasks, "true")
        assert caught.value.stage == "mount"

    world.do(scenario)


@pytest.mark.parametrize("target", ["../../../../../../dev", "/dev2", "tmp", "/proc/self/root/../../dev"])
def test_a_symlinked_dev_stays_inside(world, target):
    replace(world.lower / "dev", target)
    before = sorted(os.listdir("/dev"))

    async def scenario(tasks: Tasks) -> None:
        # A loop, or a magic link: refused is as good as contained.
        with contextlib.suppress(TaskFailed):
            _, out, _ = await world.run(tasks, "sh", "-c", "ls /tmp /dev2; echo ok")
            assert "ok" in out

    world.do(scenario)
    assert sorted(os.listdir("/dev")) == before


@pytest.mark.parametrize("target", ["/x/../../../tmp/scow-escape", "../../../../tmp/scow-escape", "/tmp/scow-escape"])
def test_a_dangling_symlink_at_a_mount_point_is_followed_inside(world, target):
    (world.lower / "etc/hosts").symlink_to(target)

    async def scenario(tasks: Tasks) -> None:
        spec = world.spec(world.id(), "sh", "-c", "grep -q inside /etc/hosts")
        task = await world.launch(tasks, spec, files={"/etc/hosts": b"inside\n"})
        assert (await task.wait()).code == 0

    world.do(scenario)
    assert not Path("/tmp/scow-escape").exists()


def test_a_chain_of_symlinks_without_end_is_refused(world):
    (world.lower / "etc/a").symlink_to("b")
    (world.lower / "etc/b").symlink_to("a")

    async def scenario(tasks: Tasks) -> None:
        spec = world.spec(world.id(), "true")
        with pytest.raises(TaskFailed, match="too many levels"):
            await world.launch(tasks, spec, files={"/etc/a/x": b""})

    world.do(scenario)


def test_a_symlink_to_the_host_by_proc_is_not_followed(world):
    """/proc of the container is mounted when the next target is looked up: its magic links lead to the host."""
    (world.lower / "data/out").symlink_to("/proc/1/root/tmp")

    def change(spec: dict[str, Any]) -> None:
        spec["mounts"].append({"destination": "/data/out/scow-escape", "type": "tmpfs", "source": "t", "options": []})

    async def scenario(tasks: Tasks) -> None:
        with pytest.raises(TaskFailed):
            await world.run(tasks, "true", change=change)

    world.do(scenario)
    assert not Path("/tmp/scow-escape").exists()


def test_an_interpreter_line_of_proc_self_exe_cannot_write_the_interpreter(world):
    """CVE-2019-5736: the program is whoever started it; what it gets hold of lies on a read-only mount."""
    import sys

    real = Path(os.path.realpath(sys.executable))
    before = real.stat()
    script = world.lower / "bin/evil"
    script.write_text("#!/proc/self/exe\n")
    script.chmod(0o755)

    async def scenario(tasks: Tasks) -> None:
        with contextlib.suppress(TaskFailed):
            status, _, _ = await world.run(tasks, "/bin/evil")
            assert status.code != 0

    world.do(scenario)
    after = real.stat()
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)


def test_a_working_folder_by_descriptor_does_not_lead_out(world):
    """CVE-2024-21626: /proc/self/fd/N as the working folder, N a folder of the host left open."""

    async def scenario(tasks: Tasks) -> None:
        for number in range(3, 14):
            with pytest.raises(TaskFailed) as caught:
                await world.run(
                    tasks,
                    "true",
                    change=lambda spec, number=number: spec["process"].update(cwd=f"/proc/self/fd/{number}"),
                )
            assert caught.value.stage == "cwd"

    world.do(scenario)


def test_a_fake_ptmx_is_refused(world):
    (world.lower / "pts").mkdir()
    (world.lower / "pts/ptmx").write_text("not a terminal")

    def change(spec: dict[str, Any]) -> None:
        spec["mounts"] = [mount for mount in spec["mounts"] if mount["destination"] != "/dev/pts"]
        source = str(world.lower / "pts")
        spec["mounts"].append({"destination": "/dev/pts", "type": "bind", "source": source, "options": ["bind"]})

    async def scenario(tasks: Tasks) -> None:
        with pytest.raises(TaskFailed, match="pseudo terminal") as caught:
            await world.run(tasks, "true", tty=True, change=change)
        assert caught.value.stage == "terminal"

    world.do(scenario)


def test_masked_and_read_only_paths_hold(world):
    async def scenario(tasks: Tasks) -> None:
        script = (
            "cat /proc/keys | wc -c; ls /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/hostname; echo $?;"
            "echo h > /proc/sysrq-trigger; echo $?; touch /sys/fs/cgroup/x; echo $?"
        )
        _, out, _ = await world.run(tasks, "sh", "-c", script)
        assert out.split() == ["0", "0", "1", "1", "1"]

    world.do(scenario)
