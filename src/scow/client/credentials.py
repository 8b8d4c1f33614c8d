"""Registry credentials: ``config.json`` (auths, credsStore, credHelpers) and the helper programs it names.

The file is Docker's own, so a login made by either client serves both. Invariants: the file is replaced atomically,
mode 0600, keys this program does not know are kept; passwords go to helpers by stdin, never by the command line.
"""

from __future__ import annotations

import os

from scow.client import jsontext
from scow.errors import InvalidArgument, NotFound, System

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The key under which Docker's clients store the default registry.
DEFAULT_SERVER = "https://index.docker.io/v1/"
DEFAULT_DOMAINS = ("docker.io", "index.docker.io", "registry-1.docker.io")
MAX_CONFIG = 16 << 20


def server_of(domain: str) -> str:
    """The key of a registry: "docker.io" → the default server's URL, others as they are, without scheme and path."""
    if domain in (DEFAULT_SERVER, "", *DEFAULT_DOMAINS):
        return DEFAULT_SERVER
    return hostname(domain)


def hostname(server: str) -> str:
    """ "https://host:5000/v1/" → "host:5000"."""
    return server.removeprefix("https://").removeprefix("http://").split("/", 1)[0]


def domain_of(reference: str) -> str:
    """The registry of an image name as typed: a first part with a dot or a colon, or localhost; else the default."""
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first
    return "docker.io"


def encode(auth: dict[str, str]) -> str:
    """An auth object as the value of ``X-Registry-Auth`` (base64url of JSON)."""
    import binascii

    data = binascii.b2a_base64(jsontext.dumps(auth).encode(), newline=False)
    return data.decode().translate({ord("+"): "-", ord("/"): "_"})


class ConfigFile:
    """``config.json`` of one directory.

    Raises:
        System: the file exists and cannot be read or is not a JSON object.
    """

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, "config.json")
        self.values: dict[str, Any] = {}
        try:
            with open(self.path, "rb") as file:
                data = file.read(MAX_CONFIG)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            return
        except OSError as error:
            raise System(f"Error loading config file: {self.path}: {error.strerror}") from None
        try:
            value = jsontext.loads(data)
        except System:
            raise System(f"Error loading config file: {self.path}: it is not valid JSON") from None
        if not isinstance(value, dict):
            raise System(f"Error loading config file: {self.path}: it is not a JSON object")
        self.values = value

    def text(self, key: str) -> str:
        """A setting that is text, such as "psFormat" or "detachKeys"; "" when absent."""
        value = self.values.get(key)
        return value if isinstance(value, str) else ""

    def table(self, key: str) -> dict[str, Any]:
        """A setting that is an object; {} when absent."""
        value = self.values.get(key)
        return value if isinstance(value, dict) else {}

    def save(self) -> None:
        """Replace the file.

        Raises:
            System: it cannot be written.
        """
        from scow.fileio import atomic_write

        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            atomic_write(self.path, jsontext.dumps(self.values, indent="\t").encode() + b"\n")
        except OSError as error:
            raise System(f"could not write {self.path}: {error.strerror}") from None

    def helper(self, server: str) -> str:
        """The credential helper that serves `server`, "" for the file itself."""
        chosen = self.table("credHelpers").get(hostname(server)) or self.table("credHelpers").get(server)
        return str(chosen) if chosen else self.text("credsStore")

    def find(self, server: str) -> dict[str, str]:
        """The auth object for `server` ({} for none): username, password or identitytoken, serveraddress."""
        helper = self.helper(server)
        if helper:
            return _from_helper(helper, server)
        auths = self.table("auths")
        entry = auths.get(server)
        if entry is None:
            entry = next((auths[key] for key in auths if hostname(key) == hostname(server)), None)
        if not isinstance(entry, dict):
            return {}
        return _from_entry(entry, server)

    def everything(self) -> dict[str, dict[str, str]]:
        """server → auth object, for every registry in the file: what a build sends as ``X-Registry-Config``."""
        servers = {*self.table("auths"), *self.table("credHelpers")}
        found = {server: self.find(server) for server in sorted(servers)}
        return {server: auth for server, auth in found.items() if auth}

    def store(self, auth: dict[str, str]) -> str:
        """Keep a login; returns the sentence that says where an unencrypted password went ("" with a helper)."""
        server = auth["serveraddress"]
        helper = self.helper(server)
        if helper:
            secret = auth.get("identitytoken") or auth.get("password", "")
            name = "<token>" if auth.get("identitytoken") else auth.get("username", "")
            request = {"ServerURL": server, "Username": name, "Secret": secret}
            _run_helper(helper, "store", jsontext.dumps(request))
            return ""
        import binascii

        pair = f"{auth.get('username', '')}:{auth.get('password', '')}".encode()
        entry: dict[str, str] = {"auth": binascii.b2a_base64(pair, newline=False).decode()}
        if auth.get("identitytoken"):
            entry = {
                "auth": binascii.b2a_base64(f"{auth.get('username', '')}:".encode(), newline=False).decode(),
                "identitytoken": auth["identitytoken"],
            }
        self.values.setdefault("auths", {})[server] = entry
        self.save()
        return (
            f"\nWARNING! Your credentials are stored unencrypted in '{self.path}'.\n"
            'Configure a credential helper ("credsStore") to remove this warning.\n'
        )

    def erase(self, server: str) -> bool:
        """Forget a login; False when there was none."""
        helper = self.helper(server)
        if helper:
            _run_helper(helper, "erase", server)
            return True
        auths = self.table("auths")
        keys = [key for key in auths if key == server or hostname(key) == hostname(server)]
        for key in keys:
            del auths[key]
        if keys:
            self.save()
        return bool(keys)


def _from_entry(entry: dict[str, Any], server: str) -> dict[str, str]:
    found = {"serveraddress": server}
    for key in ("username", "password", "identitytoken", "registrytoken"):
        if isinstance(entry.get(key), str) and entry[key]:
            found[key] = entry[key]
    packed = entry.get("auth")
    if isinstance(packed, str) and packed:
        import binascii

        try:
            pair = binascii.a2b_base64(packed).decode().rstrip("\0")
        except (binascii.Error, UnicodeDecodeError):
            pair = ""
        username, colon, password = pair.partition(":")
        if not colon:
            raise System(f"the entry of {server} in config.json is damaged: run 'scow login {server}' again")
        found.setdefault("username", username)
        if password:
            found.setdefault("password", password)
    return found if len(found) > 1 else {}


def _from_helper(helper: str, server: str) -> dict[str, str]:
    try:
        answer = jsontext.loads(_run_helper(helper, "get", server))
    except NotFound:
        return {}
    if not isinstance(answer, dict):
        raise System(f"the credential helper docker-credential-{helper} answered nonsense")
    secret, username = str(answer.get("Secret", "")), str(answer.get("Username", ""))
    if username == "<token>":
        return {"identitytoken": secret, "serveraddress": server}
    return {"username": username, "password": secret, "serveraddress": server}


def _run_helper(helper: str, verb: str, text: str) -> bytes:
    """Run ``docker-credential-<helper> <verb>`` with `text` on its stdin.

    Raises:
        NotFound: the helper has nothing for that server.
        InvalidArgument: the helper's name is not a plain word.
        System: the helper is missing or failed; the sentence carries its words.
    """
    if not helper.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise InvalidArgument(f"invalid credential helper name in config.json: {helper!r}")
    import subprocess

    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run([program, verb], input=text.encode(), capture_output=True, check=False)
    except OSError as error:
        raise System(f"error getting credentials: cannot run {program}: {error.strerror}") from None
    if done.returncode:
        words = (done.stdout or done.stderr).decode("utf-8", "replace").strip()
        if "credentials not found" in words:
            raise NotFound(words)
        raise System(f"error getting credentials: {program} {verb}: {words or done.returncode}")
    return done.stdout
