"""Where the daemon is: ``-H``, the environment and the TLS options become one `Endpoint`.

Order: the flag, then ``SCOW_HOST``, then ``DOCKER_HOST``, then the default socket. Pure but for looking whether
certificate files exist.
"""

from __future__ import annotations

import os

from scow.errors import InvalidArgument, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_SOCKET = "/run/scow.sock"
DEFAULT_HOST = f"unix://{DEFAULT_SOCKET}"
PLAIN_PORT = 2375
TLS_PORT = 2376


class TlsFiles:
    """Which certificates to show and whom to trust; "" means none."""

    __slots__ = ("ca", "cert", "key", "verify")

    def __init__(self, ca: str, cert: str, key: str, verify: bool) -> None:
        self.ca = ca
        self.cert = cert
        self.key = key
        self.verify = verify


class Endpoint:
    """One address of a daemon. `path` is set for a UNIX socket, `host` and `port` for TCP."""

    __slots__ = ("given", "host", "path", "port", "text", "tls")

    def __init__(
        self, text: str, *, path: str = "", host: str = "", port: int = 0, tls: TlsFiles | None = None
    ) -> None:
        self.text = text
        self.path = path
        self.host = host
        self.port = port
        self.tls = tls
        self.given = True  # False when nobody named a host: the daemon may be started on demand


def parse(text: str, tls: TlsFiles | None = None) -> Endpoint:
    """``unix:///run/scow.sock``, ``tcp://host:2375``, ``host:2375`` → Endpoint.

    Raises:
        InvalidArgument: not an address.
        Unsupported: ssh:// and fd://, with the way round.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "tcp", text
    if scheme == "unix":
        return Endpoint(f"unix://{rest or DEFAULT_SOCKET}", path=rest or DEFAULT_SOCKET)
    if scheme == "ssh":
        raise Unsupported(
            f'unable to parse docker host "{text}": ssh is not spoken here; '
            "forward the socket with 'ssh -L /tmp/scow.sock:/run/scow.sock HOST' and use -H unix:///tmp/scow.sock"
        )
    if scheme not in ("tcp", "http", "https") or not rest:
        raise InvalidArgument(f'unable to parse docker host "{text}": expected unix:///PATH or tcp://HOST:PORT')
    address = rest.split("/", 1)[0]
    host, port = _split_port(address, text, TLS_PORT if tls or scheme == "https" else PLAIN_PORT)
    return Endpoint(f"tcp://{address}", host=host or "localhost", port=port, tls=tls)


def _split_port(address: str, text: str, default: int) -> tuple[str, int]:
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        colon, port = rest[:1], rest[1:]
    else:
        host, colon, port = address.rpartition(":")
        if not colon:
            host, port = address, ""
    if not port and colon != ":":
        return host, default
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise InvalidArgument(f'unable to parse docker host "{text}": invalid port "{port}"')
    return host, int(port)


def variable(environment: Mapping[str, str], name: str) -> str:
    """``SCOW_<name>`` or, where that is not set, ``DOCKER_<name>``; "" for neither."""
    return environment.get(f"SCOW_{name}") or environment.get(f"DOCKER_{name}") or ""


def config_dir(environment: Mapping[str, str], flag: str = "") -> str:
    """The directory of ``config.json``: --config, SCOW_CONFIG, DOCKER_CONFIG or Docker's own ``~/.docker``."""
    return flag or variable(environment, "CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")


def choose(
    environment: Mapping[str, str],
    *,
    host: str = "",
    config: str = "",
    tls: bool = False,
    verify: bool | None = None,
    files: Mapping[str, str] | None = None,
) -> Endpoint:
    """The endpoint the flags and the environment mean.

    Args:
        host: value of -H, "" when not given.
        config: directory that holds the certificates when nothing else does.
        tls: --tls was given.
        verify: --tlsverify, None when not given.
        files: paths given for "ca", "cert" and "key".
    """
    if verify is None:
        verify = bool(variable(environment, "TLS_VERIFY"))
    secure = tls or verify or bool(variable(environment, "TLS"))
    given = host or variable(environment, "HOST")
    if not given:
        endpoint = Endpoint(DEFAULT_HOST, path=DEFAULT_SOCKET)
        endpoint.given = False
        return endpoint
    return parse(given, _files(environment, config, verify, files or {}) if secure else None)


def _files(environment: Mapping[str, str], config: str, verify: bool, given: Mapping[str, str]) -> TlsFiles:
    folder = variable(environment, "CERT_PATH") or config
    found = {}
    for name in ("ca", "cert", "key"):
        path = given.get(name, "")
        if not path:
            path = os.path.join(folder, f"{name}.pem")
            if not os.path.exists(path):
                path = ""
        found[name] = path
    return TlsFiles(found["ca"] if verify else "", found["cert"], found["key"], verify)


def default_platform(environment: Mapping[str, str]) -> str:
    """The platform images are asked for when no flag says so."""
    return variable(environment, "DEFAULT_PLATFORM")
