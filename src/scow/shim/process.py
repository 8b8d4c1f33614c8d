"""What a process that was forked to be a shim does, from its first moment to its last."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import os
import signal

from scow.linux import proc
from scow.linux.constants import PR_SET_CHILD_SUBREAPER
from scow.runtime.create import park, unpark
from scow.shim import protocol
from scow.shim.handover import retire
from scow.shim.loop import Loop
from scow.shim.main import Shim

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from scow.shim.protocol import Message

_IGNORED = (int(signal.SIGTERM), int(signal.SIGINT), int(signal.SIGHUP))


def main(end: socket.socket, permitted: int, first: Message | None = None, parent: str | None = None) -> None:
    """Be a shim, in a process just forked for it (`scow.keeper.nursery`); returns when there is nothing left to do.

    The request comes over `end`: {"id", "directory" (of the task; holds config.json and perhaps seccomp.bpf), "cgroup"
    (path or null), "terminal", "stdin", "log" (LogConfig's fields or null), "network" (a descriptor of the namespace is
    passed), "filter" (there is one), "attachments": [streams]} with the control socket, the root file system (a
    detached mount), [the network namespace], and a socket per attachment. The keeper adds "quiet", see
    `scow.shim.handover.retire`.

    Args:
        end: to the keeper; if it closes before a request came there is none to serve.
        permitted: capabilities this process holds.
        first: park a child with this prepared (see `scow.runtime.prepare.split`), and tell the keeper when it is.
        parent: cgroup below which the parked child has one.
    """
    loop = settle_in()
    parked = None if first is None else park(first, parent, permitted)
    try:
        if parked is not None:
            parked.advance()
            with contextlib.suppress(BrokenPipeError):  # the keeper has gone
                protocol.send(end, {"at": "parked"})
        request, fds = protocol.receive(end)
        if request is None:
            # A keeper that hangs up without having read our word resets the connection; what it sent is still there.
            request, fds = protocol.receive(end)
    except BaseException:
        request = None
        raise
    finally:
        if parked is not None and request is None:
            unpark(parked, parent)
    if request is None:
        return
    shim = Shim(request, end, permitted, loop)
    shim.launch(fds, parked)
    retire(shim)
    loop.run()
    shim.keeper.done()


def settle_in() -> Loop:
    """What every shim does first, besides what it has from the process it was forked from (`turn_deaf`)."""
    os.setsid()
    proc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    proc.set_title("scow-shim")
    return Loop()


def turn_deaf() -> None:
    """Ignore what is meant for the daemon; what is forked from this process does, too."""
    for number in _IGNORED:
        _signal.signal(number, _signal.SIG_IGN)
