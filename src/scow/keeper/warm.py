"""Running what every start runs, once, before the first fork.

The interpreter rewrites bytecode it has seen a few times (PEP 659), and ctypes, caches and kernel tables fill at first
use. Done in the keeper this is shared by all shims; done in each child it costs a page fault and a copied page.
Nothing here changes anything: mounts are detached and closed, messages go from hand to hand.
"""

from __future__ import annotations

import contextlib
import os

from scow.errors import EngineError
from scow.linux import cgroup
from scow.linux.capabilities import mask
from scow.linux.fds import open_in_root
from scow.linux.mount import clone_tree, mount_setattr, new_mount
from scow.linux.pidfd import pidfd_open
from scow.linux.proc import start_time
from scow.logs import jsonfile, local, options
from scow.runtime import documents
from scow.runtime.apply import is_directory
from scow.runtime.bundle import example
from scow.runtime.rootfs import plan
from scow.runtime.sync import channels
from scow.shim import protocol

#: What a shim imports only when it knows its log driver: a millisecond and 0.7 MB each, unless it is here already.
DRIVERS = (jsonfile, local)
#: The interpreter specializes a function at its eighth run.
_ROUNDS = 10


def warm() -> None:
    """Do it. What this host cannot do is left to fail in front of somebody who can be told."""
    with contextlib.suppress(EngineError, OSError):
        cgroup.layout()
        spec = example()
        for _ in range(_ROUNDS):
            _round(documents.parse(documents.dump(spec)))


def _round(spec: dict[str, object]) -> None:
    plan(spec, [])
    mask(["CAP_CHOWN", "CAP_KILL"])
    start_time(os.getpid())
    options.limits("json-file", {})
    ours, theirs = channels()
    protocol.send(ours.socket, {"do": "warm"})
    protocol.receive(theirs.socket)
    ours.send({"at": "warm"})
    theirs.receive()
    ours.close()
    theirs.close()
    tree = clone_tree("/dev/null")
    mount_setattr(tree, add=0)
    is_directory(tree)
    made = new_mount("tmpfs", [("mode", "755")])
    for fd in (tree, made, open_in_root(made, "/", os.O_PATH), pidfd_open(os.getpid())):
        os.close(fd)
