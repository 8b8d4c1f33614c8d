"""Network and endpoint records on disk: one JSON file per network, one per sandbox.

Networks live in the room's folder under the data root and survive a reboot. Endpoints live in ``<exec-root>/networks``
(a tmpfs): they only have to
survive the daemon, and after a reboot there is nothing they could describe. A record is written before the kernel is
changed, so whatever exists in the kernel has one.
"""

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from scow.errors import DataLoss, InvalidArgument
from scow.fileio import atomic_write, fsync_dir
from scow.networks.endpoint import Endpoint
from scow.networks.network import Network

log = logging.getLogger("scow.networks")

#: Bounds a damaged or foreign file; a real record is a few hundred bytes per endpoint.
MAX_RECORD = 4 << 20


class NetworkStore:
    """The records of one engine. Blocking, but small: used from the loop."""

    def __init__(self, root: Path, exec_root: Path) -> None:
        self._networks = str(root)
        self._sandboxes = str(exec_root / "networks")
        for folder in (self._networks, self._sandboxes):
            os.makedirs(folder, 0o700, exist_ok=True)

    def networks(self) -> Iterator[Network]:
        """Every network; damaged records are reported and left where they are."""
        for path, record in _records(self._networks):
            try:
                yield Network.from_json(record)
            except DataLoss as error:
                log.error("%s: %s", path, error)

    def save_network(self, network: Network) -> None:
        """Make a network durable."""
        atomic_write(f"{self._networks}/{network.id}.json", _json(network.to_json()))

    def delete_network(self, network: Network) -> None:
        """Forget a network; one without a record is fine."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self._networks}/{network.id}.json")
            fsync_dir(self._networks)

    def sandboxes(self) -> Iterator[tuple[str, list[Endpoint], tuple[str, ...]]]:
        """Every sandbox: (key, endpoints, name servers of its own)."""
        for path, record in _records(self._sandboxes):
            try:
                endpoints = [Endpoint.from_json(item) for item in record["endpoints"]]
                yield str(record["key"]), endpoints, tuple(str(server) for server in record["dns"])
            except (DataLoss, KeyError, TypeError) as error:
                log.error("%s: %s", path, error)
                os.unlink(path)

    def save_sandbox(self, key: str, endpoints: Iterable[Endpoint], dns: tuple[str, ...]) -> None:
        """Record what a sandbox is connected to."""
        record = {"key": key, "dns": list(dns), "endpoints": [endpoint.to_json() for endpoint in endpoints]}
        atomic_write(self._sandbox(key), _json(record), durable=False)

    def delete_sandbox(self, key: str) -> None:
        """Forget a sandbox."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._sandbox(key))

    def _sandbox(self, key: str) -> str:
        if not key or len(key) > 200 or "/" in key or key.startswith("."):
            raise InvalidArgument(f"invalid sandbox key {key!r}")
        return f"{self._sandboxes}/{key}.json"


def _json(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()


def _records(folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in sorted(os.listdir(folder)):
        path = f"{folder}/{name}"
        if name.endswith(".tmp"):
            os.unlink(path)
            continue
        if not name.endswith(".json"):
            continue
        try:
            with open(path, "rb") as file:
                record = json.loads(file.read(MAX_RECORD))
        except (OSError, ValueError, RecursionError) as error:
            log.error("%s: cannot be read: %s", path, error)
            continue
        if isinstance(record, dict):
            yield path, record
        else:
            log.error("%s: cannot be read: it is no JSON object", path)
