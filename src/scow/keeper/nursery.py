"""The nursery: the process that shims are forked from. It does nothing else.

A page that the forking process changes afterwards is no longer shared with what it forked: the keeper, which serves
sockets and timers between two forks, left half a megabyte to each shim that way. The nursery leaves a few pages. It
makes its children the keeper's, who reaps them.

::

    keeper                                    nursery
    {"first", "parent"}                   ──▶ what the next ones park
    "p" or "c" + the shim's socket        ──▶ forks a shim that parks a child, or not
                                          ◀── its pid, or "-" and an errno
"""

from __future__ import annotations

import gc
import os
import socket
import sys

from scow.linux import proc
from scow.linux.fds import close_all_but, receive_with_fds, send_with_fds
from scow.linux.namespaces import fork_sibling
from scow.runtime import documents
from scow.shim import main as shim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from scow.shim.protocol import Message

_PACKET = 128 << 10
_PARK, _COLD = b"p", b"c"


class Nursery:
    """The keeper's side. A nursery that has died is replaced when it is needed."""

    def __init__(self, permitted: int) -> None:
        self._permitted = permitted
        self._first: tuple[Message, str | None] | None = None
        self._end: socket.socket | None = None
        self._pids: set[int] = set()

    def park(self, end: socket.socket, first: Message, parent: str | None) -> int:
        """Fork a shim that parks a child with `first` prepared; its pid. `end` stays the caller's.

        Raises:
            OSError: there is no room for a process.
        """
        if self._first != (first, parent):
            self._first = first, parent
            self._close()
        return self._ask(_PARK, end)

    def fork(self, end: socket.socket) -> int:
        """Fork a shim that does everything from the beginning; see `park`."""
        return self._ask(_COLD, end)

    def ended(self, pid: int) -> bool:
        """A child of the keeper has ended; True if it was a nursery."""
        was_ours = pid in self._pids
        self._pids.discard(pid)
        return was_ours

    def _ask(self, word: bytes, end: socket.socket) -> int:
        for attempt in range(2):
            try:
                ours = self._end or self._start()
                send_with_fds(ours, word, [end.fileno()])
                answer = ours.recv(32)
            except (BrokenPipeError, ConnectionResetError):
                answer = b""
            if answer.startswith(b"-"):
                raise OSError(int(answer[1:]), os.strerror(int(answer[1:])), "shim")
            if answer:
                return int(answer)
            self._close()
            if attempt:
                break
        raise OSError(0, "the nursery of shims died twice", "shim")

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pid = os.fork()
            if pid == 0:
                become({theirs.fileno()}, lambda: _serve(theirs, self._permitted))
        self._pids.add(pid)
        self._end = ours
        if self._first is not None:
            first, parent = self._first
            send_with_fds(ours, documents.dump({"first": first, "parent": parent}))
        return ours

    def _close(self) -> None:
        if self._end is not None:
            self._end.close()
            self._end = None


def _serve(end: socket.socket, permitted: int) -> None:
    """Be the nursery, until the keeper hangs up."""
    gc.disable()
    shim.turn_deaf()
    proc.set_title("scow-nursery")
    first: Message | None = None
    parent: str | None = None
    while True:
        try:
            data, fds = receive_with_fds(end, _PACKET, 1)
        except ConnectionResetError:
            return
        if not data:
            return
        if not fds:
            told = documents.parse(data)
            first, parent = told["first"], told["parent"]
            gc.collect()
            gc.freeze()
            continue
        theirs = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fds[0])
        try:
            pid = fork_sibling()
        except OSError as error:
            answer = b"-%d" % (error.errno or 0)
        else:
            if pid == 0:
                _be_shim(theirs, permitted, first if data == _PARK else None, parent)
            answer = b"%d" % pid
        theirs.close()
        try:
            end.send(answer)
        except (BrokenPipeError, ConnectionResetError):  # the keeper was killed
            return


def _be_shim(end: socket.socket, permitted: int, first: Message | None, parent: str | None) -> NoReturn:
    become({end.fileno()}, lambda: shim.main(end, permitted, first, parent))


def become(needed: set[int], body: Callable[[], None]) -> NoReturn:
    """In a forked child: forget the process it was forked from but for the descriptors `needed`, never come back."""
    code = 1
    try:
        close_all_but(needed)
        gc.enable()
        body()
        code = 0
    except BaseException as error:
        # The last line of a shim: nothing may unwind into the code of the process it was forked from.
        sys.excepthook(type(error), error, error.__traceback__)
        sys.stderr.flush()
    finally:
        os._exit(code)
