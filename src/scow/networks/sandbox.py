"""A container's network namespace as the engine holds it, and what is known of the container meanwhile.

A `Sandbox` is a handle: it keeps the namespace alive while it is open and is closed once the container runs. A `Member`
is the memory of the container's connections; it lasts until the container is released and mirrors the record on disk.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from scow.linux.netlink import NetlinkSocket
from scow.networks.endpoint import Endpoint
from scow.networks.nameserver import NameServer
from scow.networks.proxy import Proxy


class Sandbox:
    """An open network namespace. `fd` is None for a container that shares the host's.

    `ahead` is an endpoint that exists in it already, made for nobody in particular.
    """

    __slots__ = ("ahead", "fd", "inner", "key")

    def __init__(
        self, key: str, fd: int | None, inner: NetlinkSocket | None = None, ahead: Endpoint | None = None
    ) -> None:
        self.key = key
        self.fd = fd
        self.inner = inner
        self.ahead = ahead

    @property
    def closed(self) -> bool:
        """Whether the namespace can no longer be reached through this handle."""
        return self.fd is None

    def socket(self) -> NetlinkSocket:
        """The netlink socket inside; opened on first use. Blocking; on the kernel thread."""
        if self.inner is None:
            if self.fd is None:
                raise ValueError("the sandbox is closed")
            self.inner = NetlinkSocket(self.fd)
        return self.inner

    def close(self) -> None:
        """Let go of the namespace; it lives on if a process is in it. Closing twice is fine."""
        if self.inner is not None:
            self.inner.close()
            self.inner = None
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


@dataclass(slots=True, eq=False)
class Member:
    """A container as the networks know it: its endpoints by network id, and what serves it."""

    key: str
    dns: tuple[str, ...] = ()
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    proxies: list[Proxy] = field(default_factory=list)
    names: NameServer | None = None
    sandbox: Sandbox | None = None

    def way_out(self) -> Endpoint | None:
        """The endpoint that provides the default route."""
        return preferred(self.endpoints.values())

    def next_link(self, prefix: str) -> str:
        """The first free interface name: eth0, eth1, …"""
        taken = {endpoint.interface for endpoint in self.endpoints.values()}
        return next(name for number in range(len(taken) + 1) if (name := f"{prefix}{number}") not in taken)


def preferred(endpoints: Iterable[Endpoint]) -> Endpoint | None:
    """Which endpoint provides the default route: the highest priority, then the first network by name."""
    able = [endpoint for endpoint in endpoints if endpoint.leads_out]
    return min(able, key=lambda endpoint: (-endpoint.gw_priority, endpoint.network_name), default=None)
