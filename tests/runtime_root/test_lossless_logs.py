"""A container's log is whole, and says nothing twice, however often the shim that writes it is killed."""

import os
import random
import select
import signal

import pytest

from scow.linux import pidfd
from scow.logs.driver import LogConfig
from scow.logs.reader import LogReader
from scow.tasks.tasks import Tasks

pytestmark = pytest.mark.root

LINES = 60_000
KILLS = 40
#: Numbered lines on both streams in bursts, some longer than an entry, some unfinished when the burst ends.
WRITE = f"""
long=$(head -c 20000 /dev/zero | tr '\\0' y)
i=0
while [ $i -lt {LINES} ]; do
  echo "$i out"
  echo "$i err" >&2
  i=$((i+1))
  if [ $((i % 500)) = 0 ]; then
    printf "$i "
    sleep 0.02
    echo "$long"
    i=$((i+1))
    echo "$((i-1)) err" >&2
  fi
done
exit 42
"""


async def kill_shim(task) -> None:
    """kill -9 whoever supervises the task now."""
    pid = int((await task.ask({"do": "status"}))["shim"])
    fd = pidfd.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    assert poller.poll(20_000)
    os.close(fd)


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_lines_are_neither_lost_nor_doubled(world, driver):
    folder = world.folder / f"log-{driver}"
    folder.mkdir()
    log = LogConfig(driver, str(folder / "log"), {"max-size": "300k", "max-file": "1000", "compress": "false"})
    chance = random.Random(5)

    async def scenario(tasks: Tasks) -> None:
        task = await world.launch(tasks, world.spec(world.id(), "sh", "-c", WRITE), log=log)
        killed = 0
        while killed < KILLS and not task.ended.done():
            with LogReader(log) as reader:  # some way on from where the last one was killed
                list(reader.blocks(tail=0, finished=False))
                with reader.follow() as follower:
                    select.select([follower], [], [], 5)
                    for _ in range(chance.randrange(4)):
                        follower.blocks()
                        select.select([follower], [], [], 0.02)
            await kill_shim(task)
            killed += 1
        assert killed == KILLS
        assert (await task.wait()).code == 42
        await task.delete()

    world.do(scenario)
    with LogReader(log) as reader:
        found = [(entry.stream, entry.data) for entry in reader.read()]
    for stream in (1, 2):
        text = b"".join([data for number, data in found if number == stream])
        assert [int(line.split()[0]) for line in text.splitlines()] == list(range(LINES + 1))
