"""A shim may be killed at any moment: its container goes on under another, and ends with its own exit code."""

import asyncio
import contextlib
import os
import select
import signal
import socket

import pytest

from scow.linux import pidfd
from scow.logs.driver import LogConfig
from scow.shim import protocol
from scow.tasks.attachment import Attachment
from scow.tasks.tasks import Tasks

pytestmark = pytest.mark.root

#: Whether a pidfd tells how a process ended that somebody else has reaped.
KERNEL_TELLS = tuple(map(int, os.uname().release.split("-")[0].split(".")[:2])) >= (6, 15)
#: Counts aloud until it gets a signal, then ends with code 3.
COUNT = "trap 'exit 3' TERM; i=0; while true; do i=$((i+1)); echo line $i; sleep 0.01; done"


def ended(pid: int) -> None:
    """Wait until process `pid` has ended (or is gone)."""
    try:
        fd = pidfd.pidfd_open(pid)
    except ProcessLookupError:
        return
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    assert poller.poll(20_000)
    os.close(fd)


def kill(*pids: int) -> None:
    """kill -9, all of them before any of them can do anything more."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)
    for pid in pids:
        ended(pid)


async def shim_of(task) -> int:
    return int((await task.ask({"do": "status"}))["shim"])


def keeper_of(world) -> int:
    end = protocol.connect(str(world.exec_root), "keeper.sock")
    hello, _ = protocol.receive(end)
    end.close()
    assert hello is not None
    return int(hello["pid"])


async def kill_shim(world, task) -> None:
    kill(await shim_of(task))


async def kill_keeper_and_shim(world, task) -> None:
    kill(keeper_of(world), await shim_of(task))


async def kill_keeper_then_shim(world, task) -> None:
    shim = await shim_of(task)
    kill(keeper_of(world))
    kill(shim)


async def kill_shim_then_keeper(world, task) -> None:
    keeper = keeper_of(world)
    kill(await shim_of(task))
    kill(keeper)


async def kill_two_shims(world, task) -> None:
    for _ in range(2):
        kill(await shim_of(task))


DEATHS = [kill_shim, kill_keeper_and_shim, kill_keeper_then_shim, kill_shim_then_keeper, kill_two_shims]
deaths = pytest.mark.parametrize("death", DEATHS, ids=lambda death: death.__name__)


def log_of(world, name: str) -> LogConfig:
    return LogConfig("json-file", str(world.folder / f"{name}.log"))


def lines_of(world, name: str) -> list[str]:
    import json

    with open(world.folder / f"{name}.log") as file:
        return [json.loads(line)["log"] for line in file]


async def count(world, tasks: Tasks, **options):
    """A container that counts, and has begun to."""
    attachment = Attachment.open()
    name = world.id()
    task = await world.launch(tasks, world.spec(name, "sh", "-c", COUNT), attachments=[attachment], **options)
    await read_some(attachment, b"line 1\n")
    attachment.close()
    return task


def names_in(task) -> str:
    found = ""
    for pid in task.cgroup().pids():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm") as file:
            found += file.read()
    return found


async def read_some(attachment, marker: bytes) -> bytes:
    found = b""
    async with asyncio.timeout(20):
        while marker not in found:
            data = await attachment.read()
            assert data, found
            found += data
    return found


@deaths
def test_output_and_exit_code_are_the_programs(world, death):
    async def scenario(tasks: Tasks) -> None:
        name = world.id()
        log = log_of(world, name)
        task = await world.launch(tasks, world.spec(name, "sh", "-c", COUNT), log=log)
        pid, started = task.pid, task.started_at
        await death(world, task)
        attachment = Attachment.open()
        await task.attach(attachment)
        for _ in range(10):
            await read_some(attachment, b"line")
        attachment.close()
        assert (task.pid, task.started_at) == (pid, started)
        await task.kill(15)
        status = await task.wait()
        assert (status.code, status.error) == (3, "")
        lines = lines_of(world, name)
        assert len(lines) > 5
        assert lines == [f"line {number}\n" for number in range(1, len(lines) + 1)]

    world.do(scenario)


@deaths
def test_execs_can_be_started_afterwards(world, death, read_outputs):
    async def scenario(tasks: Tasks) -> None:
        task = await world.launch(tasks, world.spec(world.id(), "sleep", "1000"))
        await death(world, task)
        attachment = Attachment.open()
        process = world.spec("x", "sh", "-c", "echo out; exit 9")["process"]
        found = await task.exec("after", process, attachment=attachment)
        assert await read_outputs(attachment) == ("out\n", "")
        assert (await found.wait()).code == 9
        assert task.exec_exit("after").code == 9
        await task.kill(9)
        assert (await task.wait()).code == 137

    world.do(scenario)


@deaths
def test_an_exec_that_runs_ends_with_its_own_code(world, death):
    async def scenario(tasks: Tasks) -> None:
        task = await world.launch(tasks, world.spec(world.id(), "sleep", "1000"))
        script = "trap 'exit 5' TERM; while true; do echo busy; sleep 0.01; done"
        attachment = Attachment.open()
        found = await task.exec("during", world.spec("x", "sh", "-c", script)["process"], attachment=attachment)
        await read_some(attachment, b"busy")
        attachment.close()
        await death(world, task)
        await shim_of(task)
        assert not found.ended.done()
        await found.kill(15)
        assert (await found.wait()).code == 5
        assert task.exec_exit("during").code == 5
        await task.kill(9)
        await task.wait()

    world.do(scenario)


@pytest.mark.parametrize("death", [kill_shim, kill_two_shims], ids=lambda death: death.__name__)
def test_stdin_stays_open_and_can_be_ended(world, death, read_outputs):
    async def scenario(tasks: Tasks) -> None:
        task = await world.launch(tasks, world.spec(world.id(), "cat"), stdin=True)
        await death(world, task)
        attachment = Attachment.open(stdin=True)
        await task.attach(attachment)
        await attachment.write(b"still here\n")
        attachment.write_eof()
        assert await read_outputs(attachment) == ("still here\n", "")
        assert (await task.wait()).code == 0

    world.do(scenario)


def test_stdin_survives_keeper_and_shim_one_after_the_other(world, read_outputs):
    """The new keeper gets from the shim what the old one held."""

    async def scenario(tasks: Tasks) -> None:
        task = await world.launch(tasks, world.spec(world.id(), "cat"), stdin=True)
        before = tasks._introductions
        kill(keeper_of(world))
        while tasks._introductions is before:
            await asyncio.sleep(0.01)
        await tasks._introductions
        await kill_shim(world, task)
        attachment = Attachment.open(stdin=True)
        await task.attach(attachment)
        await attachment.write(b"still here\n")
        attachment.write_eof()
        assert await read_outputs(attachment) == ("still here\n", "")
        assert (await task.wait()).code == 0

    world.do(scenario)


def test_a_shim_killed_while_it_is_brought_together_with_a_new_keeper(world):
    async def scenario(tasks: Tasks) -> None:
        task = await count(world, tasks)
        shim, before = await shim_of(task), tasks._introductions
        os.kill(shim, signal.SIGSTOP)  # it does not answer the introduction
        kill(keeper_of(world))
        while tasks._introductions is before:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # until it has been asked
        kill(shim)
        assert await shim_of(task) != shim
        await task.kill(15)
        assert (await task.wait()).code == 3

    world.do(scenario)


def test_an_input_that_had_ended_stays_ended(world):
    async def scenario(tasks: Tasks) -> None:
        script = "trap 'exit 4' TERM; cat; while true; do sleep 0.01; done"
        task = await world.launch(tasks, world.spec(world.id(), "sh", "-c", script), stdin=True)
        await task.close_stdin()
        await kill_shim(world, task)
        await shim_of(task)
        while "sleep" not in names_in(task):
            await asyncio.sleep(0.01)
        await task.kill(15)
        assert (await task.wait()).code == 4

    world.do(scenario)


def test_the_end_of_input_reaches_the_process_at_once(world):
    """Nobody but the shim may keep it open then."""

    async def scenario(tasks: Tasks) -> None:
        task = await world.launch(tasks, world.spec(world.id(), "cat"), stdin=True)
        await kill_shim(world, task)
        await task.close_stdin()
        assert (await task.wait()).code == 0

    world.do(scenario)


@pytest.mark.parametrize("death", [kill_shim, kill_two_shims], ids=lambda death: death.__name__)
def test_a_terminal_goes_on(world, death):
    async def scenario(tasks: Tasks) -> None:
        name = world.id()
        spec = world.spec(name, "sh", tty=True)
        task = await world.launch(tasks, spec, stdin=True, log=log_of(world, name))
        await death(world, task)
        attachment = Attachment.open(stdin=True, ends_stdin=False)
        await task.attach(attachment)
        await task.resize(33, 77)
        await attachment.write(b"stty size; echo he''re\n")
        assert b"33 77" in await read_some(attachment, b"\nhere")
        await attachment.write(b"exit 6\n")
        assert (await task.wait()).code == 6
        attachment.close()

    world.do(scenario)


@deaths
def test_a_paused_container_stays_paused(world, death):
    async def scenario(tasks: Tasks) -> None:
        task = await count(world, tasks)
        await task.pause()
        await death(world, task)
        await shim_of(task)
        assert task.paused
        await task.resume()
        await task.kill(15)
        assert (await task.wait()).code == 3

    world.do(scenario)


def test_a_container_that_ends_while_nobody_supervises_it_keeps_its_code(world):
    """Shim killed, successor held up: the process ends in between."""

    async def scenario(tasks: Tasks) -> None:
        task = await count(world, tasks)
        keeper, shim = keeper_of(world), await shim_of(task)
        os.kill(keeper, signal.SIGSTOP)
        kill(shim)
        await task.kill(15)
        ended(task.pid)
        os.kill(keeper, signal.SIGCONT)
        assert (await task.wait()).code == 3

    world.do(scenario)


def test_a_container_that_ends_while_keeper_and_shim_are_dead_keeps_its_code(world):
    """The daemon has its pidfd."""

    async def scenario(tasks: Tasks) -> None:
        task = await count(world, tasks)
        pid = task.pid
        kill(keeper_of(world), await shim_of(task))
        os.kill(pid, signal.SIGTERM)
        ended(pid)
        status = await task.wait()
        assert status.code == 3 or (status.code == 255 and "not known" in status.error and not KERNEL_TELLS)

    world.do(scenario)


def test_a_container_that_ends_under_a_stranger_keeps_its_code(world):
    """Its keeper was replaced, the new one held up when its shim was killed: this one has the pidfd."""

    async def scenario(tasks: Tasks) -> None:
        task = await count(world, tasks)
        before = tasks._introductions
        kill(keeper_of(world))
        while tasks._introductions is before:
            await asyncio.sleep(0.01)
        assert tasks._introductions is not None
        await tasks._introductions
        keeper, shim = keeper_of(world), await shim_of(task)
        os.kill(keeper, signal.SIGSTOP)
        kill(shim)
        os.kill(task.pid, signal.SIGTERM)
        ended(task.pid)
        os.kill(keeper, signal.SIGCONT)
        status = await task.wait()
        assert status.code == 3 or (status.code == 255 and "not known" in status.error and not KERNEL_TELLS)

    world.do(scenario)


def test_a_shim_killed_while_it_starts_a_container_leaves_nothing(world):
    """At many moments; the launch fails, or it was over and the container runs."""

    async def attempt(tasks: Tasks, delay: float) -> bool:
        spec = world.spec(world.id(), "sleep", "1000")
        keeper = keeper_of(world)
        launch = asyncio.ensure_future(world.launch(tasks, spec))
        await asyncio.sleep(delay)
        for pid in children(keeper):
            if name_of(pid) == "scow-shim":
                os.kill(pid, signal.SIGKILL)
        try:
            task = await launch
        except Exception:  # TaskFailed of any kind
            assert tasks.get(spec["linux"]["cgroupsPath"].rpartition("/")[2]) is None
            return False
        await shim_of(task)
        await task.kill(9)
        assert (await task.wait()).code == 137
        await task.delete()
        return True

    async def scenario(tasks: Tasks) -> None:
        outcomes = [await attempt(tasks, step * 0.0007) for step in range(24)]
        assert True in outcomes
        assert False in outcomes

    world.do(scenario)


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def name_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def test_two_daemons_are_told_alike(world):
    """A successor serves whoever connects."""

    async def scenario(tasks: Tasks) -> None:
        task = await count(world, tasks)
        await kill_shim(world, task)
        await shim_of(task)
        other = protocol.connect(str(task.directory), protocol.SOCKET_NAME)
        status, _ = await asyncio.to_thread(protocol.receive, other)
        assert status is not None
        assert status["pid"] == task.pid
        await task.kill(15)
        assert (await task.wait()).code == 3
        told, _ = await asyncio.to_thread(protocol.receive, other)
        assert told is not None
        assert (told["event"], told["code"]) == ("exit", 3)
        other.shutdown(socket.SHUT_RDWR)
        other.close()

    world.do(scenario)
