"""Quiet containers share a supervisor: nobody who has to do with one of them notices."""

import asyncio
import json
import os
import signal

import pytest

from scow.linux import pidfd
from scow.logs.driver import LogConfig
from scow.tasks.attachment import Attachment
from scow.tasks.pool import SharedSupervisors
from scow.tasks.task import Task
from scow.tasks.tasks import Tasks
from support.shims import ended, keeper_of, kill, lines_of, log_of, name_of, read_some, shim_of

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not pidfd.tells_after_reaping(), reason="the kernel does not tell how a reaped process ended"),
]

#: Ends with code 3 when it gets a signal, from the moment it says so.
NAP = "trap 'exit 3' TERM; echo on; while true; do sleep 0.01; done"


@pytest.fixture(autouse=True)
def _at_once(world) -> None:
    world.shared = SharedSupervisors(quiet=0.02)


async def shared(task) -> int:
    """The warden that serves it, once one does."""
    while True:
        pid = await shim_of(task)
        if name_of(pid) == "scow-shims":
            return pid
        await asyncio.sleep(0.01)


async def own(task) -> int:
    """The shim of its own that serves it, once one does."""
    while True:
        pid = await shim_of(task)
        if name_of(pid) == "scow-shim":
            return pid
        await asyncio.sleep(0.01)


async def another_keeper(world, before: int) -> bool:
    try:
        return await asyncio.to_thread(keeper_of, world) != before
    except (FileNotFoundError, ConnectionRefusedError):
        return False


async def nap(world, tasks: Tasks) -> Task:
    """A container that runs NAP, and has got so far."""
    attachment = Attachment.open()
    task = await world.launch(tasks, world.spec(world.id(), "sh", "-c", NAP), attachments=[attachment])
    await read_some(attachment, b"on\n")
    attachment.close()
    return task


async def naps(world, tasks: Tasks, number: int) -> list[Task]:
    """So many of them, each served by a warden."""
    made = [await nap(world, tasks) for _ in range(number)]
    for task in made:
        await shared(task)
    return made


def test_quiet_containers_share_one_process(world):
    async def scenario(tasks: Tasks) -> None:
        made = await naps(world, tasks, 4)
        wardens = {await shim_of(task) for task in made}
        assert len(wardens) == 1
        for task in made:
            assert json.loads((task.directory / "state.json").read_text())["shim"] in wardens
            assert task.shim[0] in wardens
        for task in made:
            await task.kill(15)
            assert (await task.wait()).code == 3
        for pid in wardens:  # it has nothing left to do
            ended(pid)

    world.do(scenario)


def test_the_connection_is_the_same(world):
    async def scenario(tasks: Tasks) -> None:
        task = await world.launch(tasks, world.spec(world.id(), "sleep", "1000"))
        connection = task.connection
        await shared(task)
        assert task.connection is connection
        await task.kill(9)
        assert (await task.wait()).code == 137

    world.do(scenario)


def test_everything_can_be_asked_of_it(world, read_outputs):
    async def scenario(tasks: Tasks) -> None:
        name = world.id()
        script = "trap 'echo got it' USR1; trap 'exit 3' TERM; echo begin; while true; do sleep 0.01; done"
        task = await world.launch(tasks, world.spec(name, "sh", "-c", script), log=log_of(world, name))
        await shared(task)
        attachment = Attachment.open()
        process = world.spec("x", "sh", "-c", "echo out; exit 9")["process"]
        found = await task.exec("one", process, attachment=attachment)
        assert await read_outputs(attachment) == ("out\n", "")
        assert (await found.wait()).code == 9
        assert task.exec_exit("one").code == 9
        await task.pause()
        assert (await task.ask({"do": "status"}))["paused"]
        await task.resume()
        attachment = Attachment.open()
        await task.attach(attachment)
        await task.kill(signal.SIGUSR1)
        await read_some(attachment, b"got it\n")
        attachment.close()
        assert lines_of(world, name) == ["begin\n", "got it\n"]
        await task.clear_log()
        assert lines_of(world, name) == []
        await task.kill(15)
        assert (await task.wait()).code == 3

    world.do(scenario)


def test_an_exec_has_no_descriptor_of_another_container(world, read_outputs):
    async def scenario(tasks: Tasks) -> None:
        made = [await world.launch(tasks, world.spec(world.id(), "cat"), stdin=True) for _ in range(3)]
        for task in made:
            await shared(task)
        attachment = Attachment.open()
        process = world.spec("x", "ls", "/proc/self/fd")["process"]
        await made[0].exec("look", process, attachment=attachment)
        assert (await read_outputs(attachment))[0].split() == ["0", "1", "2", "3"]  # 3: the folder
        running = [await task.exec("wait", world.spec("x", "sleep", "1000")["process"]) for task in made]
        for task in made:
            await task.close_stdin()  # nobody else holds it open
            assert (await task.wait()).code == 0
        assert [(await each.wait()).code for each in running] == [137] * 3

    world.do(scenario)


def test_stdin_and_terminal_move_along(world, read_outputs):
    async def scenario(tasks: Tasks) -> None:
        cat = await world.launch(tasks, world.spec(world.id(), "cat"), stdin=True)
        name = world.id()
        shell = await world.launch(tasks, world.spec(name, "sh", tty=True), stdin=True, log=log_of(world, name))
        await shared(cat)
        await shared(shell)
        attachment = Attachment.open(stdin=True)
        await cat.attach(attachment)
        await attachment.write(b"still here\n")
        attachment.write_eof()
        assert await read_outputs(attachment) == ("still here\n", "")
        assert (await cat.wait()).code == 0
        attachment = Attachment.open(stdin=True, ends_stdin=False)
        await shell.attach(attachment)
        await shell.resize(33, 77)
        await attachment.write(b"stty size; echo he''re\n")
        assert b"33 77" in await read_some(attachment, b"\nhere")
        await attachment.write(b"exit 6\n")
        assert (await shell.wait()).code == 6
        attachment.close()
        # The prompt, which has no end of line, was said before the terminal moved.
        (line,) = [line for line in lines_of(world, name) if "stty" in line]
        assert line.startswith("/ # ")

    world.do(scenario)


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_no_line_is_lost_or_repeated_on_the_way(world, driver):
    """Half a line before, half a line after."""

    async def scenario(tasks: Tasks) -> None:
        name = world.id()
        log = LogConfig(driver, str(world.folder / f"{name}.log"))
        script = "trap 'echo lf; exit 3' TERM; echo one; printf ha; while true; do sleep 0.01; done"
        task = await world.launch(tasks, world.spec(name, "sh", "-c", script), log=log)
        await shared(task)
        await task.kill(15)
        assert (await task.wait()).code == 3
        if driver == "json-file":
            assert lines_of(world, name) == ["one\n", "half\n"]
        else:
            assert (world.folder / f"{name}.log").read_bytes().count(b"ha") == 1

    world.do(scenario)


def test_an_attached_reader_keeps_the_shim(world):
    async def scenario(tasks: Tasks) -> None:
        attachment = Attachment.open()
        spec = world.spec(world.id(), "sh", "-c", NAP)
        task = await world.launch(tasks, spec, attachments=[attachment])
        other = await world.launch(tasks, world.spec(world.id(), "sleep", "1000"))
        await shared(other)
        assert name_of(await shim_of(task)) == "scow-shim"
        attachment.close()
        await shared(task)
        for each in (task, other):
            await each.kill(9)
            await each.wait()

    world.do(scenario)


def test_a_container_that_ends_on_the_way_keeps_its_code(world):
    """The keeper is held up, the shim has let go or waits for it: nobody serves, and the container ends."""

    async def scenario(tasks: Tasks) -> None:
        for step in range(6):
            task = await nap(world, tasks)
            keeper = keeper_of(world)
            os.kill(keeper, signal.SIGSTOP)
            await asyncio.sleep(0.01 * step)
            await task.kill(15)
            ended(task.pid)
            os.kill(keeper, signal.SIGCONT)
            assert (await task.wait()).code == 3

    world.do(scenario)


async def half_way(world, tasks: Tasks) -> tuple[Task, int, Task]:
    """A container, its warden, which is held up, and another container, whose shim waits for the warden to take it."""
    first = await nap(world, tasks)
    warden = await shared(first)
    os.kill(warden, signal.SIGSTOP)
    task = await nap(world, tasks)
    while not waits(task.shim[0]):
        await asyncio.sleep(0.01)
    return first, warden, task


def waits(pid: int) -> bool:
    """Whether a shim waits for the next one: in poll(2), and not for all that it serves, in epoll_wait(2)."""
    with open(f"/proc/{pid}/syscall") as file:
        return file.read().split()[0] in ("7", "73")


async def ends_well(*tasks: Task) -> None:
    for task in tasks:
        await task.kill(15)
        assert (await task.wait()).code == 3


def test_what_is_asked_while_it_moves_is_answered(world, read_outputs):
    async def scenario(tasks: Tasks) -> None:
        first, warden, task = await half_way(world, tasks)
        attachment = Attachment.open()
        process = world.spec("x", "sh", "-c", "echo out; exit 9")["process"]
        asked = asyncio.ensure_future(task.exec("on-the-way", process, attachment=attachment))
        await asyncio.sleep(0)
        other = Tasks(world.exec_root, world.pool, world.shared)  # a daemon that comes just then
        coming = asyncio.ensure_future(other.open())
        await asyncio.sleep(0)
        os.kill(warden, signal.SIGCONT)
        found = await asked
        assert await read_outputs(attachment) == ("out\n", "")
        assert (await found.wait()).code == 9
        await coming
        assert {each.pid for each in other.all()} == {first.pid, task.pid}
        await ends_well(first, task)
        theirs = other.get(task.id)
        assert theirs is not None
        assert (await theirs.wait()).code == 3
        await other.close()

    world.do(scenario)


def test_a_container_that_ends_half_way_keeps_its_code(world):
    async def scenario(tasks: Tasks) -> None:
        first, warden, task = await half_way(world, tasks)
        await task.kill(15)
        ended(task.pid)
        os.kill(warden, signal.SIGCONT)
        assert (await task.wait()).code == 3
        await ends_well(first)

    world.do(scenario)


def test_a_warden_that_does_not_answer_gets_nothing(world):
    """Nor can it take it later."""

    async def scenario(tasks: Tasks) -> None:
        first, warden, task = await half_way(world, tasks)
        shim = task.shim[0]
        while waits(shim):
            await asyncio.sleep(0.01)
        assert await shim_of(task) == shim
        os.kill(warden, signal.SIGCONT)
        await shim_of(first)  # it has seen everything that had been sent to it
        assert await shim_of(task) in (shim, warden)
        await ends_well(first, task)

    world.do(scenario)


WHO = ["warden", "keeper", "shim", "shim keeper", "warden keeper", "warden shim"]


@pytest.mark.parametrize("who", WHO)
def test_killed_half_way_nobody_takes_anything_along(world, who):
    async def scenario(tasks: Tasks) -> None:
        first, warden, task = await half_way(world, tasks)
        pids = {"warden": warden, "keeper": keeper_of(world), "shim": task.shim[0]}
        before = task.shim[0]
        kill(*(pids[each] for each in who.split()))
        if "warden" not in who:
            os.kill(warden, signal.SIGCONT)
        if who == "warden":  # its shim goes on as if it had never asked
            assert await shim_of(task) == before
        await shim_of(first)
        await shim_of(task)
        await ends_well(first, task)

    world.do(scenario)


def test_a_killed_warden_has_successors_for_all(world):
    async def scenario(tasks: Tasks) -> None:
        made = await naps(world, tasks, 5)
        warden = await shim_of(made[0])
        kill(warden)
        for task in made:
            assert await shim_of(task) != warden
        await made[0].kill(15)
        assert (await made[0].wait()).code == 3
        for task in made[1:]:
            assert await shared(task) != warden
            await task.kill(15)
            assert (await task.wait()).code == 3

    world.do(scenario)


@pytest.mark.parametrize("both", [False, True], ids=["keeper", "keeper and warden"])
def test_the_keeper_is_killed(world, both):
    async def scenario(tasks: Tasks) -> None:
        made = await naps(world, tasks, 3)
        warden = await shim_of(made[0])
        keeper = keeper_of(world)
        kill(*([keeper, warden] if both else [keeper]))
        await made[0].kill(15)
        assert (await made[0].wait()).code == 3
        while not await another_keeper(world, keeper):
            await asyncio.sleep(0.01)
        for task in made[1:]:
            await shim_of(task)
            await task.kill(15)
            assert (await task.wait()).code == 3

    world.do(scenario)


def test_a_flood_gets_a_shim_of_its_own(world):
    """Every line of it is there, and it comes back when it is quiet again."""
    script = "trap 'exit 3' TERM; read x; seq 1 300000; echo over; while true; do sleep 0.01; done"

    async def scenario(tasks: Tasks) -> None:
        name = world.id()
        task = await world.launch(tasks, world.spec(name, "sh", "-c", script), stdin=True, log=log_of(world, name))
        other = await world.launch(tasks, world.spec(world.id(), "sleep", "1000"))
        warden = await shared(task)
        assert await shared(other) == warden
        pids = set()
        attachment = Attachment.open(stdin=True, stdout=False, stderr=False, ends_stdin=False)
        await task.attach(attachment)
        await attachment.write(b"go\n")
        attachment.close()
        while not pids - {warden}:
            pids.add(await shim_of(task))
        assert await shim_of(other) == warden
        await shared(task)
        lines = lines_of(world, name)
        assert lines == [*(f"{number}\n" for number in range(1, 300001)), "over\n"]
        for each in (task, other):
            await each.kill(15 if each is task else 9)
            assert (await each.wait()).code == (3 if each is task else 137)

    world.do(scenario)


def test_a_flood_takes_who_is_attached_along(world):
    async def scenario(tasks: Tasks) -> None:
        name = world.id()
        script = "read x; seq 1 300000; exit 3"
        task = await world.launch(tasks, world.spec(name, "sh", "-c", script), stdin=True, log=log_of(world, name))
        await shared(task)
        attachment = Attachment.open(stdin=True)
        await task.attach(attachment)
        await attachment.write(b"go\n")
        found = b""
        while data := await attachment.read():
            found += data
        attachment.close()
        assert (await task.wait()).code == 3
        size = sum(len(f"{number}\n") for number in range(1, 300001))
        assert size <= len(found) <= size + 8 * (size // 100)

    world.do(scenario)


def test_one_that_fails_takes_no_other_along(world):
    async def scenario(tasks: Tasks) -> None:
        made = await naps(world, tasks, 3)
        warden = await shim_of(made[0])
        connections = [task.connection for task in made]
        assert connections[0] is not None
        # What no daemon says is more than a shim is prepared for.
        await connections[0].send({"n": 1, "do": "kill", "group": True, "signal": "no number"})
        await connections[0].until_closed()
        log = world.exec_root / "keeper.log"
        assert "its shim has failed, and gets a successor" in log.read_text()
        log.write_text("")
        await shim_of(made[0])
        assert {await shim_of(task) for task in made[1:]} == {warden}
        assert [task.connection for task in made[1:]] == connections[1:]
        for task in made:
            await task.kill(15)
            assert (await task.wait()).code == 3

    world.do(scenario)


def test_it_can_be_turned_off(world):
    world.shared = SharedSupervisors(most=0, quiet=0.0)

    async def scenario(tasks: Tasks) -> None:
        task = await nap(world, tasks)
        shim = await shim_of(task)
        process = world.spec("x", "true")["process"]
        await (await task.exec("one", process)).wait()
        assert await shim_of(task) == shim
        await task.kill(15)
        assert (await task.wait()).code == 3

    world.do(scenario)


def test_a_full_warden_gets_no_more(world):
    world.shared = SharedSupervisors(most=2, quiet=0.02)

    async def scenario(tasks: Tasks) -> None:
        made = await naps(world, tasks, 5)
        served = [await shim_of(task) for task in made]
        assert sorted(served.count(pid) for pid in set(served)) == [1, 2, 2]
        for task in made:
            await task.kill(9)
            await task.wait()

    world.do(scenario)
