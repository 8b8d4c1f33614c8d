"""Registry credentials as the Engine API's clients send them.

Secrets are in memory only while a request needs them, and never in a text that could be logged.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from scow.errors import InvalidArgument

#: Longest X-Registry-Auth header.
MAX_HEADER = 64 << 10


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """What a user is known by at a registry; everything empty is nobody. Its text form shows no secret."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    server: str = ""
    registry_token: str = ""

    @classmethod
    def from_json(cls, value: object) -> "AuthConfig":
        """The AuthConfig object of the Engine API.

        Raises:
            InvalidArgument: not an object, or a field is not text.
        """
        if not isinstance(value, Mapping):
            raise InvalidArgument("invalid registry credentials: expected a JSON object")
        fields = {}
        for name, key in (
            ("username", "username"), ("password", "password"), ("identity_token", "identitytoken"),
            ("server", "serveraddress"), ("registry_token", "registrytoken"),
        ):  # fmt: skip
            found = next((item for given, item in value.items() if given.lower() == key), None) or ""
            if not isinstance(found, str):
                raise InvalidArgument(f"invalid registry credentials: {key} must be a string")
            fields[name] = found
        auth = cls(**fields)
        combined = next((item for given, item in value.items() if given.lower() == "auth"), None)
        if isinstance(combined, str) and combined and not auth.username:
            user, _, password = _unbase64(combined).decode("utf-8", "replace").partition(":")
            auth = replace(auth, username=user, password=password.rstrip("\0"))
        return auth

    @classmethod
    def from_header(cls, text: str) -> "AuthConfig":
        """The value of ``X-Registry-Auth``: base64url of JSON; empty is nobody.

        Raises:
            InvalidArgument: not that.
        """
        if not text:
            return cls()
        if len(text) > MAX_HEADER:
            raise InvalidArgument("invalid X-Registry-Auth header: it is too long")
        try:
            value = json.loads(_unbase64(text) or b"{}")
        except (ValueError, RecursionError):
            raise InvalidArgument("invalid X-Registry-Auth header: expected base64url-encoded JSON") from None
        return cls.from_json({} if value is None else value)

    @property
    def known(self) -> bool:
        """Whether there are any credentials."""
        return bool(self.username or self.identity_token or self.registry_token)

    def __repr__(self) -> str:
        return f"AuthConfig(username={self.username!r}, server={self.server!r})"

    def basic(self) -> str:
        """The Authorization header of HTTP Basic."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


NOBODY = AuthConfig()


def _unbase64(text: str) -> bytes:
    data = text.strip().translate({ord("-"): "+", ord("_"): "/"}).rstrip("=")
    try:
        return base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except binascii.Error:
        raise InvalidArgument("invalid registry credentials: not base64") from None
