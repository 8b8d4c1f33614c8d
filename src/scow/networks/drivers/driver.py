"""What a network driver does: the kernel's side of a network. Who gets which address is not its business."""

from typing import Protocol

from scow.networks.endpoint import Endpoint
from scow.networks.network import Network
from scow.networks.sandbox import Sandbox


class Driver(Protocol):
    """One kind of network. Calls for one network do not overlap."""

    #: Whether containers get a link and addresses of their own here.
    links: bool

    async def build(self, network: Network) -> None:
        """Have everything the network needs on the host; asked again after a restart, it repairs what is missing."""

    async def has(self, network: Network) -> bool:
        """Whether the host has a link of the network's bridge's name."""

    async def destroy(self, network: Network) -> None:
        """Take the network's things from the host; nobody is connected."""

    async def connect(self, sandbox: Sandbox, network: Network, endpoint: Endpoint, *, way_out: bool) -> None:
        """Put the endpoint's link into the sandbox; with `way_out` it becomes the default route."""

    async def disconnect(
        self, sandbox: Sandbox | None, endpoint: Endpoint, successor: Endpoint | None, *, was_way_out: bool
    ) -> None:
        """Take the endpoint's link away from a container that lives on.

        Args:
            sandbox: None when the namespace cannot be reached: the link is deleted from the host's side.
            successor: provides the default route from now on, if `was_way_out`.
        """
