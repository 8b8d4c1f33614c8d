"""The keeper's own life."""

import asyncio
import os
import select

import pytest

from scow.keeper import main as keeper
from scow.linux import pidfd
from scow.shim import protocol
from scow.tasks.tasks import Tasks

pytestmark = pytest.mark.root


def keeper_pid(world) -> int:
    end = protocol.connect(str(world.exec_root), "keeper.sock")
    hello, _ = protocol.receive(end)
    end.close()
    assert hello is not None
    return int(hello["pid"])


def test_a_second_daemon_finds_the_keeper_of_the_first(world):
    async def main() -> None:
        first = Tasks(world.exec_root)
        await first.open()
        pid = keeper_pid(world)
        await first.close()
        second = Tasks(world.exec_root)
        await second.open()
        assert keeper_pid(world) == pid
        await second.close(stop_keeper=True)

    asyncio.run(main())


def test_a_keeper_without_daemon_and_shims_ends_by_itself(world):
    async def main() -> int:
        tasks = Tasks(world.exec_root)
        await tasks.open()
        pid = keeper_pid(world)
        await tasks.close()
        return pid

    fd = pidfd.pidfd_open(asyncio.run(main()))
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    assert poller.poll((keeper.IDLE + 10) * 1000)
    os.close(fd)


def test_nobody_may_look_into_keeper_or_shim(world):
    """Not dumpable: even the same user needs CAP_SYS_PTRACE, which no container has."""

    async def scenario(tasks: Tasks) -> None:
        task = await world.launch(tasks, world.spec(world.id(), "sleep", "1000"))
        shim = (await task.ask({"do": "status"}))["shim"]
        with open(f"/proc/{shim}/comm") as file:
            assert file.read() == "scow-shim\n"
        with open(f"/proc/{shim}/cmdline") as file:
            assert file.read().rstrip("\0") == "scow-shim"
        # The interpreter shows as a file of a mount that nobody else has, and cannot be opened for writing.
        with pytest.raises(OSError):
            os.open(f"/proc/{shim}/exe", os.O_WRONLY)
        await task.kill(9)
        await task.wait()

    world.do(scenario)


def test_what_the_daemon_may_inherit_ends_with_the_daemon(world):
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)

    async def scenario(tasks: Tasks) -> None:
        task = await world.launch(tasks, world.spec(world.id(), "sleep", "1000"))
        os.close(writer)
        assert os.read(reader, 1) == b""
        await task.kill(9)
        await task.wait()

    world.do(scenario)
    os.close(reader)


def test_many_starts_at_once(world):
    async def scenario(tasks: Tasks) -> None:
        results = await asyncio.gather(*(world.run(tasks, "echo", str(number)) for number in range(12)))
        assert [(status.code, out) for status, out, _ in results] == [(0, f"{number}\n") for number in range(12)]

    world.do(scenario)
