"""Attach: a client's connection to the streams of a container's first process, before it starts or while it runs.

The attachment is registered before the client is answered: no output between the answer and the first read is lost. One
that was opened before the start waits in `Container.pending` and travels to the shim with the launch.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from scow.containers import detach
from scow.containers.container import Container
from scow.containers.context import Context
from scow.containers.pump import Peer, Pump
from scow.containers.state import ATTACH, require
from scow.tasks.attachment import Attachment

#: Seconds a registered client has to be answered.
UNCLAIMED = 30.0

#: Seconds between the switch of protocols and the first replayed byte. docker-py reads the answer's head through a
#: buffer and the stream past it: bytes that arrive together with the head are lost to it.
AFTER_SWITCH = 0.01

#: Reads what was logged up to a time (ns), framed as the stream is.
Replay = Callable[[Container, "AttachRequest", int], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """What the client asks for; `keys` are its detach keys as text, "" for the default."""

    logs: bool = False
    stream: bool = False
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    keys: str = ""


class Session:
    """A registered connection; `run` it on the client's stream."""

    def __init__(
        self,
        context: Context,
        container: Container,
        attachment: Attachment | None,
        request: AttachRequest,
        replay: AsyncIterator[bytes] | None,
        keys: bytes,
    ) -> None:
        self.tty = container.record.config.tty
        self._context = context
        self._container = container
        self._attachment = attachment
        self._request = request
        self._replay = replay
        self._keys = keys
        # A client that goes away before it is answered never gets to `run`; its end must not fill up for ever.
        self._unclaimed = asyncio.get_running_loop().call_later(UNCLAIMED, self.close)

    async def run(self, peer: Peer) -> None:
        """Replay what was asked for, then copy both ways until either side is done."""
        config = self._container.record.config
        self._unclaimed.cancel()
        try:
            if self._replay is not None:
                await asyncio.sleep(AFTER_SWITCH)
                async for data in self._replay:
                    await peer.write(data)
            if self._attachment is None:
                return
            pump = Pump(
                self._attachment,
                keys=self._keys if config.tty else None,
                stdin=self._request.stdin and config.open_stdin,
                outputs=self._request.stdout or self._request.stderr,
                close_stdin=config.stdin_once and not config.tty,
            )
            if await pump.run(peer):
                self._context.tell(self._container, "detach")
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the container's streams; the container goes on."""
        self._unclaimed.cancel()
        if self._attachment is not None:
            with contextlib.suppress(ValueError):
                self._container.pending.remove(self._attachment)
            self._attachment.close()


async def attach(context: Context, ref: str, request: AttachRequest, replay: Replay) -> Session:
    """Register a client with the container's streams.

    Raises:
        NoSuchContainer, InvalidArgument: detach keys that are none.
        Conflict: it is paused or being removed.
    """
    container = context.get(ref)
    keys = detach.parse(request.keys)
    require(ATTACH, container.state, container.name, container.id)
    attachment = None
    if request.stream:
        attachment = await _register(container, request)
    past = replay(container, request, time.time_ns()) if request.logs else None
    context.tell(container, "attach")
    return Session(context, container, attachment, request, past, keys)


async def _register(container: Container, request: AttachRequest) -> Attachment:
    stdin = request.stdin and container.record.config.open_stdin
    config = container.record.config
    attachment = Attachment.open(
        stdin=stdin, stdout=request.stdout, stderr=request.stderr, ends_stdin=config.stdin_once and not config.tty
    )
    if container.task is None:
        container.pending.append(attachment)
        return attachment
    try:
        await container.task.attach(attachment)
    except BaseException:
        attachment.close()
        raise
    return attachment
