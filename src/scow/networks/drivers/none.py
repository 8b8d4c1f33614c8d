"""The none network: a namespace with a loopback interface, which every sandbox has from the start."""

from scow.networks.endpoint import Endpoint
from scow.networks.network import Network
from scow.networks.sandbox import Sandbox


class NoneDriver:
    """Loopback only."""

    links = False

    async def build(self, network: Network) -> None:
        """There is nothing on the host."""

    async def has(self, network: Network) -> bool:
        """It has no bridge."""
        return False

    async def destroy(self, network: Network) -> None:
        """There was nothing on the host."""

    async def connect(self, sandbox: Sandbox, network: Network, endpoint: Endpoint, *, way_out: bool) -> None:
        """The loopback has been up since the namespace was made."""

    async def disconnect(
        self, sandbox: Sandbox | None, endpoint: Endpoint, successor: Endpoint | None, *, was_way_out: bool
    ) -> None:
        """There is no link to take away."""
