"""``scowd``: read the configuration, open the engine, listen, and close in order when told to stop.

Signals: TERM and INT close the engine; a second one leaves at once. USR1 writes every asyncio task with its stack to
the log. HUP reads the configuration file again and takes over what may change while running (labels, debug).
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence

from scow import __version__
from scow.api import version
from scow.daemon import config as configuration
from scow.daemon.config import Config
from scow.daemon.engine import Engine, open_engine
from scow.daemon.listen import Listener, listeners
from scow.daemon.routes import all_routes
from scow.daemon.status import answer_to
from scow.errors import EngineError
from scow.fileio import atomic_write
from scow.linux import descriptors
from scow.web.origin import refuse_pages
from scow.web.server import Server

log = logging.getLogger("scow.daemon")

#: Fewer open files than this are worth a warning.
FEW_DESCRIPTORS = 4096
#: Headers on every answer (clients read Api-Version and Ostype from ``/_ping``).
HEADERS = {
    "Api-Version": version.text(version.LATEST),
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"Scow/{__version__} (linux)",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the ``scowd`` program; the exit status."""
    try:
        config, only_check = configuration.load(sys.argv[1:] if arguments is None else arguments)
    except EngineError as error:
        print(f"scowd: {error}", file=sys.stderr)
        return 1
    if only_check:
        print("configuration OK")
        return 0
    if os.geteuid() != 0:
        print("scowd: must run as root to make containers: start it with sudo", file=sys.stderr)
        return 1
    set_up_logging(config)
    raise_limits()
    os.umask(0o022)  # what is made in images and volumes has the modes that were asked for
    try:
        return asyncio.run(serve(config))
    except EngineError as error:
        log.error("%s", error)
        print(f"scowd: {error}", file=sys.stderr)
        return 1


def set_up_logging(config: Config) -> None:
    """Lines like dockerd's on standard error: time, level, message."""
    levels = {"warn": "warning", "fatal": "critical"}
    name = "debug" if config.flag("debug") else config.text("log-level")
    logging.basicConfig(
        stream=sys.stderr,
        level=levels.get(name, name).upper(),
        format='time="%(asctime)s" level=%(levelname)s room=%(name)s msg="%(message)s"',
    )


def raise_limits() -> None:
    """Have as many files open as the machine lets us: two for every container that runs."""
    limit = descriptors.raise_limit()
    if limit < FEW_DESCRIPTORS:
        log.warning(
            "at most %d files may be open, which is enough for about %d running containers: %s",
            limit,
            max(0, limit - 100) // 2,
            descriptors.MORE_FILES,
        )


async def serve(config: Config) -> int:
    """Open the engine, serve until a signal says stop, close; 0."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, stopping)
    loop.add_signal_handler(signal.SIGUSR1, dump_tasks)
    async with open_engine(config) as engine:
        server = Server(
            engine,
            all_routes(),
            status_of=answer_to,
            prefix_versions=True,
            extra_headers=HEADERS,
            admit=refuse_pages,
        )
        with contextlib.ExitStack() as held:
            sockets = held.enter_context(listeners(config))
            loop.add_signal_handler(signal.SIGHUP, reload, engine)
            for listener in sockets:
                await server.serve(listener.socket, listener.tls)
            held.enter_context(pidfile(config))
            announce(config, sockets)
            await stopping.wait()
            log.info("stopping")
            await server.close(grace=1.0)
    return 0


def _stop(stopping: asyncio.Event) -> None:
    if stopping.is_set():
        log.warning("second signal: leaving at once, containers run on")
        os._exit(1)
    stopping.set()


@contextlib.contextmanager
def pidfile(config: Config) -> Iterator[None]:
    """The process id in a file, for as long as the block runs."""
    atomic_write(config.pidfile, f"{os.getpid()}\n".encode(), mode=0o644, durable=False)
    try:
        yield
    finally:
        config.pidfile.unlink(missing_ok=True)


def announce(config: Config, sockets: Sequence[Listener]) -> None:
    """Tell the log, a parent that waits on ``--ready-fd``, and systemd that the API answers."""
    for listener in sockets:
        log.info("API listen on %s", listener.address)
    if config.ready_fd is not None:
        os.write(config.ready_fd, b"\n")
        os.close(config.ready_fd)
    notify_systemd("READY=1")


def notify_systemd(state: str) -> None:
    """sd_notify(3): one datagram to NOTIFY_SOCKET, where there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify, contextlib.suppress(OSError):
        notify.sendto(state.encode(), address)


def dump_tasks() -> None:
    """Every asyncio task with its stack, to the log's stream: what the daemon is waiting for right now."""
    for task in asyncio.all_tasks():
        task.print_stack(file=sys.stderr)


def reload(engine: Engine) -> None:
    """Take over what the configuration file says now and may change while running: labels and debug."""
    if engine.config.file is None:
        return
    try:
        fresh = configuration.read_file(engine.config.file)
    except EngineError as error:
        log.error("configuration not reloaded: %s", error)
        return
    for key in ("labels", "debug"):
        if key in fresh:
            engine.config.values[key] = fresh[key]
    logging.getLogger().setLevel("DEBUG" if engine.config.flag("debug") else "INFO")
    log.info("configuration reloaded from %s", engine.config.file)


if __name__ == "__main__":
    sys.exit(main())
