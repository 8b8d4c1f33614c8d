"""Real containers: isolation, streams, exits, as a user would notice them."""

import asyncio
import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from scow.errors import Conflict
from scow.logs.driver import LogConfig
from scow.runtime.seccomp import default_program
from scow.tasks.attachment import Attachment
from scow.tasks.spec import DEFAULT_CAPABILITIES
from scow.tasks.task import TaskFailed
from scow.tasks.tasks import Tasks

pytestmark = pytest.mark.root


def test_a_program_runs_and_its_output_and_code_come_back(world):
    async def scenario(tasks: Tasks) -> None:
        status, out, err = await world.run(tasks, "sh", "-c", "echo out; echo err >&2; exit 7")
        assert (status.code, out, err) == (7, "out\n", "err\n")
        assert status.oom_killed is False

    world.do(scenario)


def test_the_container_sees_only_itself(world):
    async def scenario(tasks: Tasks) -> None:
        _, out, _ = await world.run(
            tasks, "sh", "-c", "hostname; ps -o pid,args | wc -l; ls /proc/self/fd; ipcs | wc -l"
        )
        hostname, processes, *fds = out.split()[:6]
        assert hostname == "box"
        assert int(processes) <= 4  # header, sh, ps, wc
        assert fds[:3] == ["0", "1", "2"]
        _, out, _ = await world.run(tasks, "cat", "/proc/self/mountinfo")
        assert str(world.folder) not in re.sub(r"(lowerdir|upperdir|workdir)\S*", "", out)
        _, out, _ = await world.run(tasks, "ip", "link")
        assert re.findall(r"^\d+: (\w+)", out, re.M) == ["lo"]

    world.do(scenario)


def test_no_descriptor_of_the_engine_leaks(world):
    async def scenario(tasks: Tasks) -> None:
        _, out, _ = await world.run(tasks, "sh", "-c", "ls -1 /proc/$$/fd; true")
        assert out.split() == ["0", "1", "2"]

    world.do(scenario)


def test_default_capabilities_and_filter_are_in_force(world, read_everything):
    program = default_program(DEFAULT_CAPABILITIES)

    async def scenario(tasks: Tasks) -> None:
        attachment = Attachment.open()
        spec = world.spec(world.id(), "sh", "-c", "cat /proc/self/status; mount -t tmpfs none /tmp; echo $?")
        task = await world.launch(tasks, spec, seccomp=program, attachments=[attachment])
        text = (await read_everything(attachment)).decode("latin-1")
        await task.wait()
        status = dict(re.findall(r"^(\w+):\t(.*)$", text, re.M))
        assert status["CapEff"] == status["CapBnd"] == status["CapPrm"] == "00000000a80425fb"
        assert status["CapInh"] == status["CapAmb"] == "0000000000000000"
        assert status["Seccomp"] == "2"
        assert "ermission denied" in text or "not permitted" in text
        assert (await task.wait()).code == 0

    world.do(scenario)


def test_a_user_keeps_no_capabilities_and_may_reopen_its_stdout(world):
    def change(spec: dict[str, Any]) -> None:
        spec["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5, 7]}
        spec["process"]["noNewPrivileges"] = True

    async def scenario(tasks: Tasks) -> None:
        script = "id; echo again > /dev/stdout; grep -E 'CapEff|NoNewPrivs' /proc/self/status"
        status, out, err = await world.run(tasks, "sh", "-c", script, change=change)
        assert (status.code, err) == (0, "")
        assert "uid=1000(user) gid=1000" in out
        assert "groups=" in out
        assert "again" in out
        assert "CapEff:\t0000000000000000" in out
        assert "NoNewPrivs:\t1" in out

    world.do(scenario)


@pytest.mark.parametrize(
    ("args", "number", "words"),
    [
        (["nope"], errno.ENOENT, "executable file not found in $PATH"),
        (["/bin/nope"], errno.ENOENT, "no such file or directory"),
        (["/etc/passwd"], errno.EACCES, "permission denied"),
        (["/etc"], errno.EACCES, "permission denied"),
    ],
)
def test_what_cannot_be_executed_says_why_and_leaves_nothing(world, args, number, words):
    async def scenario(tasks: Tasks) -> None:
        with pytest.raises(TaskFailed, match=re.escape(words)) as caught:
            await world.run(tasks, *args)
        assert (caught.value.stage, caught.value.errno, caught.value.path) == ("exec", number, args[0])
        assert tasks.all() == []

    world.do(scenario)


def test_a_missing_working_folder_is_made_and_a_file_is_refused(world):
    async def scenario(tasks: Tasks) -> None:
        status, _, _ = await world.run(
            tasks, "sh", "-c", 'test "$PWD" = /new/place', change=lambda spec: spec["process"].update(cwd="/new/place")
        )
        assert status.code == 0
        with pytest.raises(TaskFailed) as caught:
            await world.run(tasks, "true", change=lambda spec: spec["process"].update(cwd="/etc/passwd"))
        assert caught.value.stage == "cwd"

    world.do(scenario)


def test_a_killed_container_reports_its_signal(world):
    async def scenario(tasks: Tasks) -> None:
        task = await world.launch(tasks, world.spec(world.id(), "sleep", "1000"))
        await task.kill(9)
        assert (await task.wait()).code == 137
        with pytest.raises(Conflict):
            await task.kill(9)

    world.do(scenario)


def test_running_out_of_memory_is_told(world):
    def change(spec: dict[str, Any]) -> None:
        spec["linux"]["resources"]["memory"] = {"limit": 24 << 20, "swap": 24 << 20}

    async def scenario(tasks: Tasks) -> None:
        status, _, _ = await world.run(tasks, "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1", change=change)
        assert (status.code, status.oom_killed) == (137, True)

    world.do(scenario)


def test_32_mib_through_stdin_and_back(world, read_everything):
    async def scenario(tasks: Tasks) -> None:
        attachment = Attachment.open(stdin=True)
        task = await world.launch(tasks, world.spec(world.id(), "cat"), stdin=True, attachments=[attachment])
        block = bytes(range(256)) * 4096

        async def feed() -> None:
            for _ in range(32):
                await attachment.write(block)
            attachment.write_eof()

        from scow.api.streams import Decoder

        _, framed = await asyncio.gather(feed(), read_everything(attachment))
        assert b"".join(data for _, data in Decoder().feed(framed)) == block * 32
        assert (await task.wait()).code == 0

    world.do(scenario)


def test_half_closing_stdin_reaches_the_program(world, read_outputs):
    async def scenario(tasks: Tasks) -> None:
        attachment = Attachment.open(stdin=True)
        spec = world.spec(world.id(), "sh", "-c", "cat; echo after")
        task = await world.launch(tasks, spec, stdin=True, attachments=[attachment])
        await attachment.write(b"before\n")
        attachment.write_eof()
        assert await read_outputs(attachment) == ("before\nafter\n", "")
        await task.wait()

    world.do(scenario)


def test_an_attachment_that_does_not_end_stdin_leaves_it_open(world, read_outputs):
    async def scenario(tasks: Tasks) -> None:
        first = Attachment.open(stdin=True, stdout=False, stderr=False, ends_stdin=False)
        second = Attachment.open(stdin=True)
        task = await world.launch(tasks, world.spec(world.id(), "cat"), stdin=True, attachments=[first, second])
        await first.write(b"one\n")
        first.write_eof()
        first.close()
        assert (await second.read()).endswith(b"one\n")
        await second.write(b"two\n")
        second.write_eof()
        assert await read_outputs(second) == ("two\n", "")
        assert (await task.wait()).code == 0

    world.do(scenario)


def test_without_stdin_the_program_reads_end_of_file(world):
    async def scenario(tasks: Tasks) -> None:
        status, out, _ = await world.run(tasks, "cat")
        assert (status.code, out) == (0, "")

    world.do(scenario)


def test_a_terminal_knows_its_size_and_is_the_controlling_one(world, read_everything):
    async def scenario(tasks: Tasks) -> None:
        attachment = Attachment.open(stdin=True)
        spec = world.spec(
            world.id(), "sh", "-c", "stty size; tty; echo > /dev/tty; read x; stty size; ls -l /dev/console", tty=True
        )
        spec["process"]["consoleSize"] = {"height": 11, "width": 22}
        task = await world.launch(tasks, spec, stdin=True, attachments=[attachment])
        assert task.tty
        await task.resize(33, 77)
        await attachment.write(b"\n")
        text = (await read_everything(attachment)).decode()
        assert "/dev/pts/0" in text
        assert "33 77" in text
        assert (await task.wait()).code == 0

    world.do(scenario)


def test_everything_written_before_the_end_is_logged_before_the_end_is_told(world):
    async def scenario(tasks: Tasks) -> None:
        path = world.folder / "log" / "out.log"
        path.parent.mkdir()
        log = LogConfig("json-file", str(path), {})
        spec = world.spec(world.id(), "sh", "-c", "seq 1 20000; printf end >&2")
        task = await world.launch(tasks, spec, log=log)
        await task.wait()
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert "".join(line["log"] for line in lines if line["stream"] == "stdout").split() == [
            str(number) for number in range(1, 20001)
        ]
        assert lines[-1]["log"] == "end" or any(line["log"] == "end" for line in lines)

    world.do(scenario)


def test_a_small_init_reaps_and_passes_signals_on(world, read_outputs):
    async def scenario(tasks: Tasks) -> None:
        attachment = Attachment.open()
        script = "trap 'echo got; exit 5' TERM; (sleep 0.01 &); echo pid $$; while :; do sleep 0.05; done"
        task = await world.launch(
            tasks, world.spec(world.id(), "sh", "-c", script, init=True), attachments=[attachment]
        )
        assert b"pid 2" in await attachment.read()
        for path in ("exe", "maps", "mem"):
            probe = await task.exec(f"x{path}", world.spec("x", "cat", f"/proc/1/{path}")["process"])
            assert (await probe.wait()).code != 0
        await task.kill(15)
        out, _ = await read_outputs(attachment)
        assert out == "got\n"
        assert (await task.wait()).code == 5

    world.do(scenario)


def test_files_are_bound_over_the_image_and_gone_with_the_task(world, read_everything):
    async def scenario(tasks: Tasks) -> None:
        attachment = Attachment.open()
        spec = world.spec(world.id(), "sh", "-c", "cat /etc/hosts /deep/down/file; echo more >> /etc/hosts")
        task = await world.launch(
            tasks, spec, files={"/etc/hosts": b"hosts\n", "/deep/down/file": b"deep\n"}, attachments=[attachment]
        )
        text = await read_everything(attachment)
        assert b"hosts\n" in text
        assert b"deep\n" in text
        assert (await task.wait()).code == 0
        assert (world.upper / "etc/hosts").read_bytes() == b""

    world.do(scenario)


def test_binds_are_read_only_when_asked(world):
    shared = world.folder / "shared"
    shared.mkdir()
    (shared / "file").write_text("content")

    def change(spec: dict[str, Any]) -> None:
        spec["mounts"] += [
            {"destination": "/ro", "type": "bind", "source": str(shared), "options": ["rbind", "ro", "rprivate"]},
            {"destination": "/rw", "type": "bind", "source": str(shared), "options": ["rbind", "rprivate"]},
            {"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "mode=700", "noexec"]},
        ]

    async def scenario(tasks: Tasks) -> None:
        script = "cat /ro/file; touch /ro/x; echo $?; touch /rw/y; echo $?; stat -c %a /t"
        _, out, _ = await world.run(tasks, "sh", "-c", script, change=change)
        assert out == "content1\n0\n700\n"
        assert (shared / "y").exists()

    world.do(scenario)


def test_binding_the_hosts_root_does_not_show_the_container_in_it(world):
    def change(spec: dict[str, Any]) -> None:
        spec["mounts"].append({"destination": "/host", "type": "bind", "source": "/", "options": ["rbind", "ro"]})

    async def scenario(tasks: Tasks) -> None:
        _, out, _ = await world.run(tasks, "ls", "/host", change=change)
        assert set(out.split()) >= {"usr", "etc"}

    world.do(scenario)


def test_a_read_only_root_keeps_volumes_writable(world):
    def change(spec: dict[str, Any]) -> None:
        spec["mounts"].append({"destination": "/v", "type": "tmpfs", "source": "tmpfs", "options": []})

    async def scenario(tasks: Tasks) -> None:
        script = "touch /x; echo $?; touch /v/x; echo $?; touch /dev/shm/x; echo $?"
        _, out, _ = await world.run(tasks, "sh", "-c", script, readonly=True, change=change)
        assert out == "1\n0\n0\n"

    world.do(scenario)


def test_pid_and_network_can_be_shared_with_another_container(world):
    async def scenario(tasks: Tasks) -> None:
        first = await world.launch(tasks, world.spec(world.id(), "sleep", "1000"))
        paths = {
            kind: f"/proc/{first.pid}/ns/{name}" for kind, name in (("pid", "pid"), ("network", "net"), ("ipc", "ipc"))
        }
        _, out, _ = await world.run(tasks, "sh", "-c", "readlink /proc/self/ns/net; ps -o args", namespaces=paths)
        assert os.readlink(f"/proc/{first.pid}/ns/net") in out
        assert "sleep 1000" in out
        await first.kill(9)
        await first.wait()

    world.do(scenario)


def test_with_the_hosts_pids_offspring_ends_with_the_container(world):
    async def scenario(tasks: Tasks) -> None:
        spec = world.spec(world.id(), "sh", "-c", "sleep 1000 & exit 3", namespaces={"pid": None})
        task = await world.launch(tasks, spec)
        assert (await task.wait()).code == 3
        await task.delete()
        assert not Path(f"/sys/fs/cgroup/pids{spec['linux']['cgroupsPath']}").exists()

    world.do(scenario)


def test_a_sysctl_of_the_host_is_refused(world):
    async def scenario(tasks: Tasks) -> None:
        own = lambda spec: spec["linux"].update(sysctl={"net.ipv4.ip_forward": "1"})  # noqa: E731
        _, out, _ = await world.run(tasks, "cat", "/proc/sys/net/ipv4/ip_forward", change=own)
        assert out == "1\n"
        for name in ("kernel.panic", "net.ipv4/../../kernel/panic", "vm.swappiness"):
            with pytest.raises(TaskFailed, match="not in a namespace"):
                await world.run(tasks, "true", change=lambda spec, name=name: spec["linux"].update(sysctl={name: "1"}))

    world.do(scenario)


async def silence(attachment: Attachment) -> None:
    """Raise TimeoutError as soon as nothing has come for half a second."""
    async with asyncio.timeout(5):
        while True:
            async with asyncio.timeout(0.5):
                await attachment.read()


def test_pausing_stops_the_clock_of_the_program(world):
    async def scenario(tasks: Tasks) -> None:
        attachment = Attachment.open()
        task = await world.launch(
            tasks, world.spec(world.id(), "sh", "-c", "while echo x; do :; done"), attachments=[attachment]
        )
        await attachment.read()
        await task.pause()
        with pytest.raises(TaskFailed, match="paused"):
            await task.exec("e", world.spec("x", "true")["process"])
        # What was on its way still arrives; then there is silence.
        with pytest.raises(TimeoutError):
            await silence(attachment)
        await task.resume()
        assert await attachment.read()
        await task.kill(9)
        assert (await task.wait()).code == 137
        attachment.close()

    world.do(scenario)
