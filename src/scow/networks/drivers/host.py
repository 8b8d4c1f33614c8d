"""The host network: the container uses the host's own namespace, so there is nothing to do but remember it."""

from scow.networks.endpoint import Endpoint
from scow.networks.network import Network
from scow.networks.sandbox import Sandbox


class HostDriver:
    """No namespace, no link, no address; ports need no publishing."""

    links = False

    async def build(self, network: Network) -> None:
        """The host's interfaces are there."""

    async def has(self, network: Network) -> bool:
        """It has no bridge."""
        return False

    async def destroy(self, network: Network) -> None:
        """The host's interfaces stay."""

    async def connect(self, sandbox: Sandbox, network: Network, endpoint: Endpoint, *, way_out: bool) -> None:
        """The container has been given no namespace; that was all."""

    async def disconnect(
        self, sandbox: Sandbox | None, endpoint: Endpoint, successor: Endpoint | None, *, was_way_out: bool
    ) -> None:
        """There is no link to take away."""
