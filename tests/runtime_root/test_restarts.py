"""Daemon, keeper and shim die independently; containers run on and no exit is lost."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from scow.linux import pidfd
from scow.shim import protocol, reaper
from scow.tasks.attachment import Attachment
from scow.tasks.tasks import Tasks

pytestmark = pytest.mark.root


def ended(pid: int) -> None:
    """Wait until process `pid` has ended (or is gone)."""
    import select

    try:
        fd = pidfd.pidfd_open(pid)
    except ProcessLookupError:
        return
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    assert poller.poll(20_000)
    os.close(fd)


def daemon(world, scenario) -> None:
    """A daemon in a process of its own that is killed as soon as `scenario` returns."""
    pid = os.fork()
    if pid == 0:
        try:

            async def main() -> None:
                tasks = Tasks(world.exec_root)
                await tasks.open()
                async with asyncio.timeout(30):
                    await scenario(tasks)
                os.kill(os.getpid(), signal.SIGKILL)

            asyncio.run(main())
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def test_a_container_survives_its_daemon_and_is_found_again(world, read_outputs):
    name = world.id()

    async def first(tasks: Tasks) -> None:
        task = await world.launch(tasks, world.spec(name, "cat"), stdin=True)
        await task.exec("running", world.spec("x", "sleep", "1000")["process"])
        done = await task.exec("done", world.spec("x", "sh", "-c", "exit 9")["process"])
        assert (await done.wait()).code == 9

    daemon(world, first)

    async def second(tasks: Tasks) -> None:
        task = tasks.get(name)
        assert task is not None
        assert task.pid > 0
        assert task.started_at > 0
        assert list(task.execs) == ["running"]
        assert task.exec_exit("done").code == 9
        attachment = Attachment.open(stdin=True)
        await task.attach(attachment)
        await attachment.write(b"still here\n")
        attachment.write_eof()
        assert await read_outputs(attachment) == ("still here\n", "")
        assert (await task.wait()).code == 0
        assert (await task.execs["running"].wait()).code == 137

    world.do(second)


def test_an_exit_nobody_was_there_to_hear_is_on_record(world):
    name = world.id()

    async def first(tasks: Tasks) -> None:
        await world.launch(tasks, world.spec(name, "sh", "-c", "read x; exit 42"), stdin=True)

    daemon(world, first)
    state = Path(world.exec_root / "tasks" / name)
    shim = protocol.connect(str(state), protocol.SOCKET_NAME)
    message, _ = protocol.receive(shim)
    assert message is not None
    protocol.send(shim, {"n": 1, "do": "close_stdin"})
    shim.close()
    ended(message["shim"])

    async def second(tasks: Tasks) -> None:
        task = tasks.get(name)
        assert task is not None
        assert (await task.wait()).code == 1 or (await task.wait()).code == 42
        await task.delete()
        assert tasks.get(name) is None

    world.do(second)


def test_a_keeper_that_is_killed_is_replaced_and_nobody_notices(world):
    async def scenario(tasks: Tasks) -> None:
        task = await world.launch(tasks, world.spec(world.id(), "sleep", "1000"))
        end = protocol.connect(str(world.exec_root), "keeper.sock")
        hello, _ = protocol.receive(end)
        end.close()
        assert hello is not None
        os.kill(hello["pid"], signal.SIGKILL)
        ended(hello["pid"])
        status, out, _ = await world.run(tasks, "echo", "again")
        assert (status.code, out) == (0, "again\n")
        assert not task.ended.done()
        await task.kill(15)
        await task.kill(9)
        assert (await task.wait()).code == 137

    world.do(scenario)


def test_a_launch_that_was_cut_off_leaves_nothing(world):
    half = world.exec_root / "tasks" / "half"
    half.mkdir(parents=True)
    (half / protocol.SPEC_NAME).write_text('{"linux": {"cgroupsPath": "/scow-test/half"}}')
    (world.exec_root / "tasks" / "stray").write_text("what is this?")

    async def scenario(tasks: Tasks) -> None:
        assert tasks.all() == []

    world.do(scenario)


def test_half_a_record_counts_as_none(tmp_path):
    (tmp_path / "exit.json").write_text('{"code": 0, "finis')
    assert reaper.read(str(tmp_path / "exit.json")) is None


def test_a_client_that_never_reads_does_not_stop_the_others(world, read_everything):
    async def scenario(tasks: Tasks) -> None:
        lazy, eager = Attachment.open(), Attachment.open()
        spec = world.spec(world.id(), "dd", "if=/dev/zero", "bs=64k", "count=8")
        task = await world.launch(tasks, spec, attachments=[lazy, eager])
        assert len(await read_everything(eager)) > 8 * 65536
        assert (await task.wait()).code == 0
        assert len(await read_everything(lazy)) > 8 * 65536

    world.do(scenario)
