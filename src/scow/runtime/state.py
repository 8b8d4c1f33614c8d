"""Containers of the OCI command line: one folder each, with state.json, the config and the start gate.

The status is not stored but found out: the recorded process, named by number and start time, either waits at its gate
(created), runs, is frozen (paused) or has ended (stopped).
"""

from __future__ import annotations

import os

from scow.errors import AlreadyExists, InvalidArgument, NotFound
from scow.fileio import atomic_write
from scow.linux import pidfd, proc
from scow.runtime import documents
from scow.runtime.cgroup import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_ROOT = "/run/scow-runtime"
_STATE, _CONFIG, _GATE = "state.json", "config.json", "start"
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


class Container:
    """One container's folder and what is recorded in it."""

    __slots__ = ("folder", "id", "recorded")

    def __init__(self, root: str, id: str) -> None:  # noqa: A002 - the spec's own word
        if not id or not set(id) <= _LETTERS or id in (".", "..") or len(id) > 1024:
            raise InvalidArgument(f"invalid container id {id!r}: use letters, digits, _ + - .")
        self.id = id
        self.folder = f"{root}/{id}"
        self.recorded: dict[str, Any] = {}

    @classmethod
    def find(cls, root: str, id: str) -> Container:  # noqa: A002
        """The container `id`.

        Raises:
            NotFound: there is none.
        """
        found = cls(root, id)
        try:
            found.recorded = documents.load(f"{found.folder}/{_STATE}")
        except FileNotFoundError:
            raise NotFound(f"container {id} does not exist") from None
        return found

    def make(self) -> None:
        """Take the id.

        Raises:
            AlreadyExists: somebody has it.
        """
        try:
            os.makedirs(os.path.dirname(self.folder), mode=0o700, exist_ok=True)
            os.mkdir(self.folder, 0o700)
        except FileExistsError:
            raise AlreadyExists(f"container with id {self.id} already exists") from None
        os.mkfifo(self.gate, 0o600)

    @property
    def gate(self) -> str:
        """The FIFO the created process waits at."""
        return f"{self.folder}/{_GATE}"

    def record(self, pid: int, bundle: str, spec: dict[str, Any], cgroup: str) -> None:
        """Write down a process just created."""
        self.recorded = {
            "pid": pid,
            "start_time": proc.start_time(pid),
            "bundle": bundle,
            "cgroup": cgroup,
            "annotations": spec.get("annotations") or {},
        }
        atomic_write(f"{self.folder}/{_CONFIG}", documents.dump(spec), durable=False)
        atomic_write(f"{self.folder}/{_STATE}", documents.dump(self.recorded), durable=False)

    def started(self) -> None:
        """Write down that the gate was opened."""
        os.unlink(self.gate)

    def spec(self) -> dict[str, Any]:
        """The config it was created with."""
        spec: dict[str, Any] = documents.load(f"{self.folder}/{_CONFIG}")
        return spec

    def cgroup(self) -> Cgroup:
        """Its control group."""
        return Cgroup.open(self.recorded["cgroup"])

    def process(self) -> int | None:
        """A pidfd of its first process, None if that has ended."""
        pid = self.recorded["pid"]
        try:
            fd = pidfd.pidfd_open(pid)
        except ProcessLookupError:
            return None
        try:
            fields = proc.stat_fields(pid)
            if fields[0] not in "ZX" and int(fields[19]) == self.recorded["start_time"]:
                return fd
        except (FileNotFoundError, ProcessLookupError):
            pass
        os.close(fd)
        return None

    def status(self) -> str:
        """ "created", "running", "paused" or "stopped" (runtime-spec runtime.md "State")."""
        fd = self.process()
        if fd is None:
            return "stopped"
        os.close(fd)
        if os.path.exists(self.gate):
            return "created"
        return "paused" if self.cgroup().frozen() else "running"

    def forget(self) -> None:
        """Remove the folder."""
        for name in os.listdir(self.folder):
            os.unlink(f"{self.folder}/{name}")
        os.rmdir(self.folder)


def identifiers(root: str) -> list[str]:
    """The ids of every container below `root`."""
    try:
        return sorted(name for name in os.listdir(root) if os.path.exists(f"{root}/{name}/{_STATE}"))
    except FileNotFoundError:
        return []
