"""scow login, scow logout: credentials for registries, checked by the daemon and kept in config.json."""

import sys

from scow.cli.console import is_terminal
from scow.cli.exits import FAILED, Exit
from scow.cli.flags import Command, Flag, Options
from scow.cli.session import Session
from scow.client.credentials import server_of

LOGIN = Command(
    "[OPTIONS] [SERVER]",
    "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
    most=1,
    flags=(
        Flag("password", "string", "Password or Personal Access Token (PAT)", short="p"),
        Flag("password-stdin", "bool", "Take the Password or Personal Access Token (PAT) from stdin"),
        Flag("username", "string", "Username", short="u"),
    ),
)
LOGOUT = Command(
    "[SERVER]", "Log out from a registry.\nIf no server is specified, the default is defined by the daemon.", most=1
)


def login(session: Session, options: Options, arguments: list[str]) -> int:
    server = server_of(arguments[0] if arguments else "")
    username, password = options.text("username"), options.text("password")
    if options.given("password"):
        session.console.error("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
        if options.on("password-stdin"):
            raise Exit(FAILED, "--password and --password-stdin are mutually exclusive")
    if options.on("password-stdin"):
        if not username:
            raise Exit(FAILED, "the --password-stdin option requires --username to be set")
        password = sys.stdin.read().rstrip("\r\n")
    if not username or not password:
        username, password = _ask(session, server, username, password)
    auth = {"username": username, "password": password, "serveraddress": server}
    answer = session.client.call("POST", "/auth", None, auth) or {}
    if answer.get("IdentityToken"):
        auth = {"username": username, "identitytoken": str(answer["IdentityToken"]), "serveraddress": server}
    warning = session.config.store(auth)
    if warning:
        session.console.error(warning)
    session.console.line(answer.get("Status") or "Login Succeeded")
    return 0


def _ask(session: Session, server: str, username: str, password: str) -> tuple[str, str]:
    """What is missing, from the terminal."""
    if not is_terminal(0):
        raise Exit(FAILED, "Error: Cannot perform an interactive login from a non TTY device")
    known = session.config.find(server).get("username", "")
    if not username:
        session.console.out(f"Username{f' ({known})' if known else ''}: ")
        session.console.flush()
        username = sys.stdin.readline().strip() or known
        if not username:
            raise Exit(FAILED, "Error: Non-null Username Required")
    if not password:
        from getpass import getpass

        session.console.flush()
        password = getpass("Password: ")
        if not password:
            raise Exit(FAILED, "Error: Password Required")
    return username, password


def logout(session: Session, options: Options, arguments: list[str]) -> int:
    server = server_of(arguments[0] if arguments else "")
    session.console.line(f"Removing login credentials for {server}")
    session.config.erase(server)
    return 0


COMMANDS = {"login": (LOGIN, login), "logout": (LOGOUT, logout)}
