"""What happened, told to whoever listens: one bus with a short memory.

Invariants: times never run backwards nor repeat, so `since` of the last event seen continues without loss or double;
the last `MEMORY` events are replayed on request; a listener too slow for `BACKLOG` events is ended, never waited for.
With a `Journal` both hold across a daemon that was killed. `publish` may be called from any thread.
"""

import asyncio
import contextlib
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from scow.fileio import StrPath

#: Events kept for `since` (Docker keeps 256; the larger number costs about a megabyte).
MEMORY = 1024
#: Events a listener may lag behind.
BACKLOG = 8192

#: Bytes of a journal at which a new file is begun; the one before is kept.
JOURNAL = 1 << 20

log = logging.getLogger("scow.events")

#: Filters of ``GET /events``; the values are matched as `Event.matches` says.
FILTERS = frozenset(
    {"config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret"}
    | {"service", "type", "volume"}
)
#: Kinds whose filter compares the id and the name by their beginning.
BY_BEGINNING = ("container", "network", "volume", "plugin", "daemon", "node", "service", "secret", "config")

Filters = Mapping[str, Collection[str]]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened: `action` of an object of `kind` at `time` (ns since 1970)."""

    kind: str
    action: str
    id: str
    attributes: Mapping[str, str]
    time: int
    scope: str = "local"

    def to_json(self, *, legacy: bool = False) -> dict[str, Any]:
        """The API's EventMessage; `legacy` adds the flat fields API versions before 1.52 carry."""
        flat: dict[str, Any] = {}
        if legacy and self.kind in ("container", "image"):
            flat = {"status": self.action, "id": self.id}
            if self.attributes.get("image"):
                flat["from"] = self.attributes["image"]
        return flat | {
            "Type": self.kind,
            "Action": self.action,
            "Actor": {"ID": self.id, "Attributes": dict(self.attributes)},
            "scope": self.scope,
            "time": self.time // 1_000_000_000,
            "timeNano": self.time,
        }

    def matches(self, filters: Filters) -> bool:
        """Whether every filter lets the event through; values of one filter are alternatives."""
        return all(self._passes(key, values) for key, values in filters.items() if values)

    def _passes(self, key: str, values: Collection[str]) -> bool:
        if key == "event":
            # "health_status: healthy" and "exec_start: sh" are found by the word before the colon too.
            return self.action in values or self.action.partition(":")[0] in values
        if key == "type":
            return self.kind in values
        if key == "scope":
            return self.scope in values
        if key == "label":
            return all(self._labelled(value) for value in values)
        if key == "image":
            name = self.attributes.get("name" if self.kind == "image" else "image", "")
            return any(value in (self.id, name, _untagged(name)) for value in values)
        if key in BY_BEGINNING:
            name = self.attributes.get("name", "")
            return any(self.kind == key and (self.id.startswith(v) or name.startswith(v)) for v in values)
        return False

    def _labelled(self, wanted: str) -> bool:
        key, has_value, value = wanted.partition("=")
        return key in self.attributes and (not has_value or self.attributes[key] == value)


def _untagged(name: str) -> str:
    """ "reg:5000/a:1" → "reg:5000/a"."""
    head, colon, tail = name.rpartition(":")
    return head if colon and "/" not in tail else name


@dataclass(eq=False, slots=True)
class _Listener:
    loop: asyncio.AbstractEventLoop
    filters: Filters
    waiting: deque[Event] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False


class Journal:
    """The events of one exec root in a file: one write each, so that they outlive the daemon (not the machine).

    A line is an event's fields; the first line of the first file is the time it was begun.
    """

    def __init__(self, path: StrPath) -> None:
        self._path = os.fspath(path)
        self._fd = -1
        self._size = 0
        self._failed = False

    def load(self) -> tuple[list[Event], int]:
        """What was written before, oldest first, and since when (ns) nothing is missing.

        Half a line at the end is cut off, what else cannot be read is passed over.

        Raises:
            OSError: the file cannot be opened or made.
        """
        found: list[Event] = []
        began = time.time_ns()
        for path in (f"{self._path}.1", self._path):
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                for line in file.read(2 * JOURNAL).splitlines():
                    with contextlib.suppress(ValueError, TypeError):
                        fields = json.loads(line)
                        if isinstance(fields, int):
                            began = fields
                        else:
                            found.append(Event(*fields))
        self._open()
        if not self._size:
            self._append(b"%d" % began)
        return found, min(began, found[0].time) if found else began

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._size = os.fstat(self._fd).st_size
        tail = os.pread(self._fd, JOURNAL, max(self._size - JOURNAL, 0))
        if tail and not tail.endswith(b"\n"):
            self._size -= len(tail) - (tail.rfind(b"\n") + 1)
            os.ftruncate(self._fd, self._size)

    def write(self, event: Event) -> None:
        """Append an event. A disk that does not take it costs the memory of a daemon killed later, and is said once."""
        fields = [event.kind, event.action, event.id, dict(event.attributes), event.time, event.scope]
        self._append(json.dumps(fields, separators=(",", ":")).encode())

    def _append(self, line: bytes) -> None:
        try:
            if self._size + len(line) >= JOURNAL:
                os.rename(self._path, f"{self._path}.1")
                self.close()
                self._open()
            self._size += os.write(self._fd, line + b"\n")
        except OSError as error:
            if not self._failed:
                log.error("events cannot be kept in %s: %s", self._path, error)
            self._failed = True

    def close(self) -> None:
        """Let the file go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Bus:
    """Publishes events to listeners and remembers the last ones.

    Args:
        journal: where they are kept for the next daemon; opened here.
    """

    def __init__(self, memory: int = MEMORY, journal: Journal | None = None) -> None:
        before, self._since = journal.load() if journal is not None else ([], time.time_ns())
        self._ring: deque[Event] = deque(before, maxlen=memory)
        if len(before) > len(self._ring):
            self._since = self._ring[0].time
        self._journal = journal
        self._listeners: set[_Listener] = set()
        self._lock = threading.Lock()
        self._last = before[-1].time if before else 0

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return len(self._listeners)

    def publish(
        self,
        kind: str,
        action: str,
        id: str,  # noqa: A002 - the API's word
        attributes: Mapping[str, str] | None = None,
        scope: str = "local",
    ) -> Event:
        """Tell everyone; returns the event with its time. Never blocks on a listener. Safe from any thread."""
        with self._lock:
            self._last = max(time.time_ns(), self._last + 1)
            event = Event(kind, action, id, dict(attributes or {}), self._last, scope)
            if len(self._ring) == self._ring.maxlen:
                self._since = self._ring[0].time + 1
            self._ring.append(event)
            if self._journal is not None:
                self._journal.write(event)
            hearing = [listener for listener in self._listeners if event.matches(listener.filters)]
            for listener in hearing:
                self._hand(listener, event)
        return event

    def _hand(self, listener: _Listener, event: Event) -> None:
        if len(listener.waiting) >= BACKLOG:
            listener.ended = True
        else:
            listener.waiting.append(event)
        if not listener.loop.is_closed():
            listener.loop.call_soon_threadsafe(listener.wake.set)

    def past(self, filters: Filters, since: int, until: int | None = None) -> list[Event]:
        """Remembered events with `since` ≤ time ≤ `until` (ns), oldest first."""
        with self._lock:
            remembered = list(self._ring)
        return [e for e in remembered if e.time >= since and (until is None or e.time <= until) and e.matches(filters)]

    def told(self, kind: str, action: str, id: str, since: int) -> bool:  # noqa: A002
        """Whether such an event since `since` (ns) is remembered."""
        with self._lock:
            like = (e for e in self._ring if e.time >= since and e.id == id)
            return any(e.kind == kind and e.action == action for e in like)

    def untold(self, kind: str, action: str, id: str, since: int) -> bool:  # noqa: A002
        """Whether such an event is missing: there was none since `since` (ns), and all since then is remembered.

        For a daemon that finds what its killed predecessor did, and has to tell what that one could not.
        """
        return self._since <= since and not self.told(kind, action, id, since)

    def close(self) -> None:
        """Let the journal go; what is published from now on is not kept."""
        with self._lock:
            if self._journal is not None:
                self._journal.close()
                self._journal = None

    def subscribe(
        self, filters: Filters | None = None, since: int | None = None, until: int | None = None
    ) -> AsyncIterator[Event]:
        """Events from now on (from `since`, in ns, if given) up to `until` (ns) or for ever.

        Listening begins with this call, not with the first iteration: nothing between the two is lost.
        The iterator ends by itself at `until`, or when its reader lagged `BACKLOG` events behind.
        """
        listener = _Listener(asyncio.get_running_loop(), filters or {})
        with self._lock:
            if since is not None:
                past = (e for e in self._ring if e.time >= since and (until is None or e.time <= until))
                listener.waiting.extend(e for e in past if e.matches(listener.filters))
            self._listeners.add(listener)
        return self._listen(listener, until)

    async def _listen(self, listener: _Listener, until: int | None) -> AsyncIterator[Event]:
        try:
            while True:
                while listener.waiting:
                    event = listener.waiting.popleft()
                    if until is not None and event.time > until:
                        return
                    yield event
                left = None if until is None else (until - time.time_ns()) / 1e9
                if listener.ended or (left is not None and left <= 0):
                    return
                listener.wake.clear()
                if listener.waiting:
                    continue
                try:
                    async with asyncio.timeout(left):
                        await listener.wake.wait()
                except TimeoutError:
                    continue
        finally:
            with self._lock:
                self._listeners.discard(listener)
