"""Execs in a running container."""

import asyncio
import errno

import pytest

from scow.errors import Conflict, NoSuchExec
from scow.tasks.attachment import Attachment
from scow.tasks.task import TaskFailed
from scow.tasks.tasks import Tasks

pytestmark = pytest.mark.root


def test_many_execs_at_once_each_get_their_own_streams_and_code(world, read_outputs):
    async def scenario(tasks: Tasks) -> None:
        task = await world.launch(tasks, world.spec(world.id(), "sleep", "1000"))

        async def one(number: int) -> None:
            attachment = Attachment.open(stdin=True)
            process = world.spec("x", "sh", "-c", f"read x; echo $x {number}; exit {number}")["process"]
            found = await task.exec(f"exec-{number}", process, stdin=True, attachment=attachment)
            await attachment.write(b"hello\n")
            attachment.write_eof()
            assert await read_outputs(attachment) == (f"hello {number}\n", "")
            assert (await found.wait()).code == number
            assert task.exec_exit(f"exec-{number}").code == number

        await asyncio.gather(*(one(number) for number in range(20)))
        await task.kill(9)
        await task.wait()

    world.do(scenario)


def test_an_exec_is_inside_everything(world, read_outputs):
    async def scenario(tasks: Tasks) -> None:
        first = Attachment.open()
        spec = world.spec(world.id(), "sh", "-c", "touch /here; echo; sleep 1000")
        task = await world.launch(tasks, spec, attachments=[first])
        await first.read()
        first.close()
        attachment = Attachment.open()
        script = "hostname; ls /here; ps -o args; cat /proc/self/cgroup /proc/1/cgroup; ls /proc/$$/fd; pwd; true"
        process = world.spec("x", "sh", "-c", script, cwd="/tmp")["process"]
        await task.exec("inside", process, attachment=attachment)
        out, err = await read_outputs(attachment)
        assert err == ""
        assert out.startswith("box\n/here\n")
        assert "sleep 1000" in out
        groups = [line for line in out.splitlines() if ":" in line and line[0].isdigit()]
        assert len(groups) == 2 * len(set(groups))
        assert out.endswith("0\n1\n2\n/tmp\n")
        await task.kill(9)
        await task.wait()

    world.do(scenario)


def test_an_exec_with_a_terminal(world, read_everything):
    async def scenario(tasks: Tasks) -> None:
        task = await world.launch(tasks, world.spec(world.id(), "sleep", "1000"))
        attachment = Attachment.open(stdin=True)
        process = world.spec("x", "sh", "-c", "tty; read x; stty size; exit 4", tty=True)["process"]
        found = await task.exec("tty", process, stdin=True, attachment=attachment)
        await found.resize(40, 100)
        await attachment.write(b"\n")
        text = (await read_everything(attachment)).decode()
        assert "/dev/pts/" in text
        assert "40 100" in text
        assert (await found.wait()).code == 4
        await task.kill(9)
        await task.wait()

    world.do(scenario)


def test_an_exec_may_be_somebody_else_and_privileged(world, read_outputs):
    async def scenario(tasks: Tasks) -> None:
        task = await world.launch(tasks, world.spec(world.id(), "sleep", "1000"))
        for user, capabilities, expected in (
            ({"uid": 1000, "gid": 1000}, None, "0000000000000000"),
            ({"uid": 0, "gid": 0}, frozenset({"CAP_CHOWN", "CAP_SYS_ADMIN"}), "0000000000200001"),
        ):
            attachment = Attachment.open()
            spec = world.spec("x", "grep", "CapEff", "/proc/self/status", user=user, capabilities=capabilities)
            await task.exec(f"u{user['uid']}", spec["process"], attachment=attachment)
            assert await read_outputs(attachment) == (f"CapEff:\t{expected}\n", "")
        await task.kill(9)
        await task.wait()

    world.do(scenario)


def test_what_cannot_be_run_leaves_no_exec(world):
    async def scenario(tasks: Tasks) -> None:
        task = await world.launch(tasks, world.spec(world.id(), "sleep", "1000"))
        attachment = Attachment.open()
        with pytest.raises(TaskFailed) as caught:
            await task.exec("e", world.spec("x", "nope")["process"], attachment=attachment)
        assert (caught.value.stage, caught.value.errno) == ("exec", errno.ENOENT)
        assert await attachment.read() == b""
        attachment.close()
        assert task.execs == {}
        with pytest.raises(NoSuchExec):
            task.exec_exit("e")
        await task.kill(9)
        await task.wait()
        with pytest.raises(Conflict):
            await task.exec("e", world.spec("x", "true")["process"])

    world.do(scenario)


def test_execs_end_with_the_container(world):
    async def scenario(tasks: Tasks) -> None:
        task = await world.launch(tasks, world.spec(world.id(), "sleep", "1000"))
        found = await task.exec("e", world.spec("x", "sleep", "1000")["process"])
        await task.kill(9)
        assert (await task.wait()).code == 137
        assert (await found.wait()).code == 137

    world.do(scenario)


def test_what_an_exec_leaves_running_does_not_hold_its_client_for_ever(world, read_outputs):
    async def scenario(tasks: Tasks) -> None:
        task = await world.launch(tasks, world.spec(world.id(), "sleep", "1000"))
        attachment = Attachment.open()
        process = world.spec("x", "sh", "-c", "(sleep 500; echo late) & echo now")["process"]
        found = await task.exec("e", process, attachment=attachment)
        assert (await found.wait()).code == 0
        async with asyncio.timeout(10):
            assert await read_outputs(attachment) == ("now\n", "")
        await task.kill(9)
        await task.wait()

    world.do(scenario)
