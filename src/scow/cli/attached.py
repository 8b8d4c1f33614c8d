"""A container with the caller's streams on it: what run, start -a and attach have in common.

Wait and attach are asked for before the container starts, so that no exit and no output is lost.
"""

from __future__ import annotations

from scow.cli.streams import Streams, proxy
from scow.client import jsontext
from scow.client.client import path
from scow.errors import EngineError, System

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scow.cli.session import Session
    from scow.client.client import Client
    from scow.client.http import Response


class Attachment:
    """What is to be attached, and how.

    Args:
        condition: of wait: "next-exit" for a container about to start, "removed" for one that removes itself,
            "not-running" for one that runs.
        keys: detach keys, "" for the default.
    """

    __slots__ = ("condition", "identifier", "keys", "signals", "stderr", "stdin", "stdout", "tty")

    def __init__(
        self,
        identifier: str,
        *,
        tty: bool,
        stdin: bool,
        condition: str,
        keys: str,
        signals: bool,
        stdout: bool = True,
        stderr: bool = True,
    ) -> None:
        self.identifier = identifier
        self.tty = tty
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.condition = condition
        self.keys = keys
        self.signals = signals


def join(session: Session, attachment: Attachment, start: Callable[[], object] | None = None) -> int:
    """Attach, call `start`, move bytes until the output ends, and return the container's exit code.

    Raises:
        Detached: the caller typed the detach keys; the container runs on.
    """
    target = ("containers", attachment.identifier)
    waiter = Waiter(session.fresh_client(), attachment.identifier, attachment.condition)
    query = {"stream": True, "stdin": attachment.stdin, "stdout": attachment.stdout, "stderr": attachment.stderr}
    try:
        stream = session.client.hijack(path(*target, "attach"), {**query, "detachKeys": attachment.keys})
        try:
            waiter.ready()
        except BaseException:
            stream.close()
            raise
    except BaseException:
        waiter.close()
        raise
    beside = session.fresh_client()
    streams = Streams(
        stream,
        tty=attachment.tty,
        stdin=0 if attachment.stdin else None,
        keys=attachment.keys,
        on_signal=proxy(lambda name: beside.post(path(*target, "kill"), {"signal": name}))
        if attachment.signals
        else None,
        on_resize=lambda rows, columns: resize(beside, path(*target, "resize"), rows, columns),
    )
    try:
        with streams:
            if start:
                start()
            streams.resize()
            streams.copy(session.console)
        return waiter.code()
    finally:
        waiter.close()


def resize(client: Client, target: str, rows: int, columns: int) -> None:
    """Set the size of a terminal; one that is gone meanwhile needs none."""
    try:
        client.post(target, {"h": rows, "w": columns})
    except EngineError:
        client.close()


def console_size(tty: bool) -> list[int]:
    """[rows, columns] for a container with a terminal, [] when ours has no size."""
    if not tty:
        return []
    from scow.cli.terminal import size

    rows, columns = size(1)
    return [rows, columns] if rows else []


class Waiter:
    """``POST …/wait``, whose answer comes when the container ends."""

    def __init__(self, client: Client, identifier: str, condition: str) -> None:
        self._client = client
        self._asked = client.begin("POST", path("containers", identifier, "wait"), {"condition": condition})
        self._response: Response | None = None

    def ready(self) -> Response:
        """Return once the daemon waits: from now on no end is missed.

        Raises:
            ApiError: it does not.
        """
        if self._response is None:
            self._response = self._client.finish(self._asked, "POST")
        return self._response

    def code(self) -> int:
        """Wait for the end.

        Raises:
            System: the daemon could not wait.
        """
        answer = jsontext.loads(self.ready().body())
        failure = (answer.get("Error") or {}).get("Message")
        if failure:
            raise System(f"Error waiting for container: {failure}")
        return int(answer["StatusCode"])

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
        else:
            self._asked.close()
