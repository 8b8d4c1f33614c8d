"""The sockets the daemon answers on: UNIX, TCP, TCP with mutual TLS, and those systemd hands over."""

import contextlib
import grp
import ipaddress
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from scow.daemon.config import Config
from scow.errors import InvalidArgument, System, Unavailable
from scow.web.tls import TlsConfig

log = logging.getLogger("scow.daemon")

#: sd_listen_fds(3): the first descriptor systemd passes.
LISTEN_FDS_START = 3
BACKLOG = 1024
MAX_UNIX_PATH = 107


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound, listening socket; `tls` None serves in the clear."""

    address: str
    socket: socket.socket
    tls: TlsConfig | None


@contextlib.contextmanager
def listeners(config: Config) -> Iterator[list[Listener]]:
    """Bind every ``-H`` for as long as the block runs; the paths of UNIX sockets are removed at its end.

    Raises:
        InvalidArgument: a malformed address, or TCP without client certificates beyond loopback.
        System: the address cannot be bound; says why.
    """
    with contextlib.ExitStack() as held:
        found: list[Listener] = []
        for address in config.hosts:
            scheme, separator, rest = address.partition("://")
            if not separator:
                raise InvalidArgument(
                    f"invalid bind address {address!r}: write unix://PATH, tcp://ADDRESS:PORT or fd://"
                )
            if scheme == "unix":
                found.append(Listener(address, held.enter_context(_unix(rest, config)), None))
            elif scheme == "tcp":
                found.append(Listener(address, held.enter_context(_tcp(address, rest, config)), tls_of(config)))
            elif scheme == "fd":
                found += [Listener(address, held.enter_context(sock), None) for sock in _from_systemd()]
            else:
                raise InvalidArgument(f"invalid bind address {address!r}: the scheme must be unix, tcp or fd")
        yield found


def tls_of(config: Config) -> TlsConfig | None:
    """The daemon's TLS settings, None when it has none."""
    if not (config.flag("tls") or config.flag("tlsverify")):
        return None
    return TlsConfig(
        cert=config.text("tlscert"),
        key=config.text("tlskey"),
        ca=config.text("tlscacert") or None,
        verify_peer=config.flag("tlsverify"),
    )


@contextlib.contextmanager
def _unix(path: str, config: Config) -> Iterator[socket.socket]:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    folder = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # A socket's name may have 107 bytes; through the folder's descriptor only its last part counts.
        name = path if len(path) <= MAX_UNIX_PATH else f"/proc/self/fd/{folder}/{os.path.basename(path)}"
        _drop_stale(name, path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        mask = os.umask(0o117)
        try:
            sock.bind(name)
        except OSError as error:
            sock.close()
            raise System(f"cannot listen on unix://{path}: {error.strerror}") from error
        finally:
            os.umask(mask)
        os.chown(path, -1, _group(config.text("group")))
        sock.listen(BACKLOG)
        mine = os.stat(path).st_ino
        try:
            yield sock
        finally:
            sock.close()
            with contextlib.suppress(OSError):
                if os.stat(path).st_ino == mine:
                    os.unlink(path)
    finally:
        os.close(folder)


def _drop_stale(name: str, path: str) -> None:
    """Remove a dead daemon's socket; refuse a living one's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(name)
        except FileNotFoundError:
            return
        except OSError:
            os.unlink(path)
            return
    raise Unavailable(f"unix://{path} is served by another daemon: stop it or choose another -H")


def _group(wanted: str) -> int:
    """Group id for the UNIX socket: the one named, else scow, else docker, else root's."""
    if wanted.isdigit():
        return int(wanted)
    for name in (wanted,) if wanted else ("scow", "docker"):
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            if wanted:
                raise InvalidArgument(
                    f"no such group {wanted!r}: create it with groupadd or leave --group out"
                ) from None
    return 0


def _tcp(address: str, rest: str, config: Config) -> socket.socket:
    host, port = _host_and_port(address, rest, config)
    if not config.flag("tlsverify"):
        # TLS that asks the client for nothing hides what is said from others; it keeps nobody out.
        missing = "without TLS" if tls_of(config) is None else "to clients without certificates"
        if not config.allow_plain_tcp and not _loopback(host):
            raise InvalidArgument(
                f"refusing to serve {address} {missing}: whoever reaches it is root on this machine. Give --tlsverify "
                "--tlscacert --tlscert --tlskey, bind to 127.0.0.1, or force it with --allow-plain-tcp"
            )
        log.warning("%s is served %s: every local user who reaches it is root", address, missing)
    try:
        family, _, _, _, where = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError as error:
        raise System(f"cannot listen on {address}: {error.strerror or error}") from error
    return sock


def _host_and_port(address: str, rest: str, config: Config) -> tuple[str, int]:
    host, colon, port = rest.rpartition(":")
    if not colon:
        host, port = rest, "2376" if config.flag("tls") or config.flag("tlsverify") else "2375"
    if not (port.isascii() and port.isdigit() and 0 <= int(port) <= 65535):
        raise InvalidArgument(f"invalid bind address {address!r}: write tcp://ADDRESS:PORT")
    return host.strip("[]"), int(port)


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _from_systemd() -> list[socket.socket]:
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise InvalidArgument(
            "-H fd:// needs sockets from systemd: start scowd by a socket unit, or give unix:// or tcp://"
        )
    count = int(os.environ.get("LISTEN_FDS", "0"))
    return [socket.socket(fileno=LISTEN_FDS_START + index) for index in range(count)]
