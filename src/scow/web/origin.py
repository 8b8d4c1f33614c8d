"""Web pages kept off an API: what a browser on the same machine sends to a TCP port is told from what a program sends.

A page of anybody's may make a browser post to ``http://127.0.0.1:2375`` or open a websocket there, and by a name that
turns into 127.0.0.1 (DNS rebinding) read the answers too. Browsers name the page in ``Origin``, and cannot lie in
``Host``: the first must be the address asked, the second, on the loopback, no name that could belong to somebody else.
A UNIX socket is out of a browser's reach, and a client certificate is not given to pages unasked.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from scow.web.request import Peer, Request
from scow.web.response import Refusal


def refuse_pages(request: Request) -> None:
    """Let programs through.

    Raises:
        Refusal: 403, the request comes from a web page.
    """
    peer = request.peer
    if not peer.address or peer.common_name is not None:
        return
    host = request.headers.get("host", "")
    origin = request.headers.get("origin")
    if origin is not None and _host(f"//{origin.partition('://')[2]}") != _host(f"//{host}"):
        raise Refusal(403, f"requests from web pages are refused (Origin: {origin[:100]})")
    if host and _from_loopback(peer) and not _is_ours(_host(f"//{host}")):
        raise Refusal(
            403, f"refused: Host is {host[:100]!r}, which could be anybody's name: use localhost or an IP address"
        )


def _host(address: str) -> tuple[str, int | None]:
    """Lower-case host and port of "//host:port"; ("", None) if it is none."""
    try:
        parts = urlsplit(address)
        return (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return "", None


def _from_loopback(peer: Peer) -> bool:
    try:
        address = ipaddress.ip_address(peer.address.rpartition(":")[0].partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _is_ours(host: tuple[str, int | None]) -> bool:
    name = host[0]
    if name == "localhost" or name.endswith(".localhost") or name == socket.gethostname().lower():
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
