"""Finding networks: by reference, by filter. Pure."""

from collections.abc import Iterable

from scow.api.filters import Filters
from scow.errors import InvalidArgument, NoSuchNetwork
from scow.networks.network import Network

FILTERS = ("dangling", "driver", "id", "label", "label!", "name", "scope", "type")
PRUNE_FILTERS = ("label", "label!", "until")


def find(networks: Iterable[Network], ref: str) -> Network:
    """The network called `ref`: its id, its name, or the beginning of one id.

    Raises:
        NoSuchNetwork: there is none.
        InvalidArgument: several ids begin so.
    """
    prefixed: list[Network] = []
    named: Network | None = None
    for network in networks:
        if network.id == ref:
            return network
        if network.name == ref:
            named = network
        if ref and network.id.startswith(ref):
            prefixed.append(network)
    if named is not None:
        return named
    if len(prefixed) > 1:
        raise InvalidArgument(f"network {ref} is ambiguous ({len(prefixed)} matches found based on ID prefix)")
    if not prefixed:
        raise NoSuchNetwork(ref)
    return prefixed[0]


def matches(network: Network, filters: Filters) -> bool:
    """Whether a network passes the filters of a list.

    Raises:
        InvalidArgument: a value makes no sense.
    """
    for kind in filters.get("type", ()):
        if kind not in ("custom", "builtin"):
            raise InvalidArgument(f"invalid filter: 'type'='{kind}'")
    kind = "builtin" if network.predefined else "custom"
    if "dangling" in filters and filters.boolean("dangling", False) != dangling(network):
        return False
    return (
        filters.exact("driver", network.driver)
        and filters.exact("scope", "local")
        and filters.exact("type", kind)
        and filters.pattern("id", network.id)
        and filters.pattern("name", network.name)
        and filters.labels(network.labels)
    )


def dangling(network: Network) -> bool:
    """Whether nobody uses it and it may be removed."""
    return not network.predefined and not network.endpoints
