"""``scow-registry``: an OCI registry on one folder.

``scow-registry [serve] --root DIR --addr HOST:PORT [--tls-cert F --tls-key F] [--htpasswd F]`` serves until TERM or
INT; ``scow-registry garbage-collect --root DIR`` removes what no manifest needs; ``scow-registry hash-password``
reads a password from standard input and prints its hash for the accounts file.
"""

import argparse
import asyncio
import base64
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from scow.errors import EngineError, InvalidArgument, System
from scow.fileio import lock_file
from scow.registry.codes import answer_to
from scow.registry.server import blobs, collect, manifests, shacrypt, tags
from scow.registry.server.app import App, guarded
from scow.registry.server.htpasswd import Accounts
from scow.web.router import Routes
from scow.web.server import Server
from scow.web.tls import TlsConfig

log = logging.getLogger("scow.registry")

DEFAULT_ADDRESS = "127.0.0.1:5000"
DEFAULT_ROOT = "/var/lib/scow-registry"
#: Sent with every answer; clients take it as the sign of a version 2 registry.
HEADERS = {"Docker-Distribution-Api-Version": "registry/2.0"}
#: Seconds requests get to finish when the server is told to stop.
GRACE = 10.0
HASH_ROUNDS = 100_000


def all_routes() -> Routes:
    """Every operation of the specification, behind the accounts."""
    routes = Routes()
    for module in (tags, blobs, manifests):
        routes.merge(module.routes)
    return guarded(routes)


def server(app: App) -> Server:
    """A web server for `app`; give it sockets with `Server.serve`."""
    return Server(app, all_routes(), status_of=answer_to, extra_headers=HEADERS)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the program; the exit status."""
    arguments = _parse(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(stream=sys.stderr, level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        if arguments.command == "hash-password":
            return _hash_password()
        root = Path(arguments.root)
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with lock_file(root / "lock", f"the registry folder {root}"):
            if arguments.command == "garbage-collect":
                return _collect(root, dry_run=arguments.dry_run, untagged=arguments.delete_untagged)
            return asyncio.run(_serve(root, arguments))
    except (EngineError, OSError) as error:
        print(f"scow-registry: {error}", file=sys.stderr)
        return 1


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scow-registry", description="An OCI distribution registry on one folder.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve the registry (the default)")
    serve.add_argument(
        "--root", default=DEFAULT_ROOT, help=f"folder of blobs and repositories (default {DEFAULT_ROOT})"
    )
    serve.add_argument("--addr", default=DEFAULT_ADDRESS, metavar="HOST:PORT", help=f"default {DEFAULT_ADDRESS}")
    serve.add_argument("--tls-cert", metavar="FILE", help="certificate chain; serves https")
    serve.add_argument("--tls-key", metavar="FILE", help="key of --tls-cert")
    serve.add_argument("--tls-client-ca", metavar="FILE", help="accept only clients this authority signed")
    serve.add_argument("--htpasswd", metavar="FILE", help="accounts; without it everybody may pull and push")
    serve.add_argument("--no-delete", action="store_true", help="refuse to delete manifests, tags and blobs")
    serve.add_argument("--ready-fd", type=int, metavar="FD", help="write the address to this descriptor when serving")
    gather = commands.add_parser("garbage-collect", help="remove blobs no manifest needs; not while serving")
    gather.add_argument("--root", default=DEFAULT_ROOT)
    gather.add_argument("--dry-run", "-d", action="store_true", help="only say what would be removed")
    gather.add_argument("--delete-untagged", "-m", action="store_true", help="remove manifests no tag leads to")
    commands.add_parser("hash-password", help="print the hash of the password on standard input")
    words = list(argv)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words.insert(0, "serve")
    return parser.parse_args(words)


async def _serve(root: Path, arguments: argparse.Namespace) -> int:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    accounts = Accounts.read(Path(arguments.htpasswd)) if arguments.htpasswd else None
    app = App.open(root, accounts, deletable=not arguments.no_delete)
    web = server(app)
    tls = _tls(arguments)
    sock = bind(arguments.addr)
    try:
        await web.serve(sock, tls)
        host, port = sock.getsockname()[:2]
        address = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
        log.info("serving %s on %s%s", root, address, "" if accounts else ", open to everybody who reaches it")
        if arguments.ready_fd is not None:
            os.write(arguments.ready_fd, f"{address}\n".encode())
            os.close(arguments.ready_fd)
        await stopping.wait()
    finally:
        await web.close(GRACE)
        app.close()
    return 0


def _tls(arguments: argparse.Namespace) -> TlsConfig | None:
    if not arguments.tls_cert and not arguments.tls_key:
        if arguments.tls_client_ca:
            raise InvalidArgument("--tls-client-ca needs --tls-cert and --tls-key")
        return None
    if not (arguments.tls_cert and arguments.tls_key):
        raise InvalidArgument("--tls-cert and --tls-key go together")
    client_ca = arguments.tls_client_ca
    return TlsConfig(arguments.tls_cert, arguments.tls_key, client_ca, verify_peer=bool(client_ca))


def bind(address: str) -> socket.socket:
    """A TCP socket bound to ``HOST:PORT`` (port 0 takes a free one).

    Raises:
        InvalidArgument: not an address of that form.
        System: it cannot be bound; says why.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise InvalidArgument(f"invalid address {address!r}: expected HOST:PORT")
    host = host.strip("[]")
    try:
        family, _, _, _, where = socket.getaddrinfo(
            host or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(where[:2], family=family)
    except OSError as error:
        raise System(f"cannot listen on {address}: {error.strerror or error}") from error


def _collect(root: Path, *, dry_run: bool, untagged: bool) -> int:
    app = App.open(root)
    wanted = collect.plan(app.repositories, untagged=untagged)
    for name, digest in wanted.manifests:
        print(f"manifest {name}@{digest}")
    for digest in wanted.blobs:
        print(f"blob {digest}")
    print(f"{len(wanted.blobs)} blobs, {wanted.size} bytes {'would be' if dry_run else 'are'} removed")
    if not dry_run:
        collect.apply(app.repositories, wanted)
    return 0


def _hash_password() -> int:
    password = sys.stdin.readline().rstrip("\n")
    salt = base64.b64encode(os.urandom(12), altchars=b"./").decode()
    print(shacrypt.sha_crypt(password, f"$6$rounds={HASH_ROUNDS}${salt}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
