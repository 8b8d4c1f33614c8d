"""The processes behind containers, and killing them."""

import asyncio
import json
import os
import select
import signal

from scow.linux import pidfd
from scow.logs.driver import LogConfig
from scow.shim import protocol


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


def log_of(world, name: str) -> LogConfig:
    return LogConfig("json-file", str(world.folder / f"{name}.log"))


def lines_of(world, name: str) -> list[str]:

    with open(world.folder / f"{name}.log") as file:
        return [json.loads(line)["log"] for line in file]


async def read_some(attachment, marker: bytes) -> bytes:
    found = b""
    async with asyncio.timeout(20):
        while marker not in found:
            data = await attachment.read()
            assert data, found
            found += data
    return found


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def name_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""
