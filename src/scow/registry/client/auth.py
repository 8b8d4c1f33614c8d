"""Credentials and tokens: how a registry's 401 becomes an Authorization header.

The dance: a request answers 401 with ``WWW-Authenticate: Bearer realm=…,service=…,scope=…``; the realm exchanges the
user's credentials (or none) for a token of that scope; the request is made again with it. ``Basic`` sends the
credentials themselves.
Invariants: secrets never appear in error texts, and never go over plain http unless the registry itself is spoken to
that way.
Source: distribution "Token Authentication Specification", RFC 9110 section 11.
"""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from scow.errors import Unauthorized, Unavailable
from scow.registry.auth import AuthConfig
from scow.web.client import HttpClient

#: Longest token, and answer of a token service.
MAX_TOKEN = 64 << 10
MAX_TOKEN_ANSWER = 1 << 20
#: Seconds a token is good for when the service does not say (the specification's default), and seconds of safety.
TOKEN_SECONDS = 60.0
TOKEN_MARGIN = 10.0
#: Tokens remembered at a time.
MAX_TOKENS = 1024
CLIENT_ID = "scow"

_PARAMETER = re.compile(r'([A-Za-z_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_TOKEN_TEXT = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One ``WWW-Authenticate`` challenge."""

    scheme: str
    parameters: Mapping[str, str]


def challenges(header: str) -> list[Challenge]:
    """The Bearer and Basic challenges of a ``WWW-Authenticate`` header, in order; others are left out."""
    found = []
    starts = list(re.finditer(r"(?:^|,)\s*(bearer|basic)(?=\s|,|$)", header, re.IGNORECASE))
    for index, match in enumerate(starts):
        end = starts[index + 1].start() if index + 1 < len(starts) else len(header)
        parameters = {
            field[1].lower(): re.sub(r"\\(.)", r"\1", field[2]) if field[2] is not None else field[3]
            for field in _PARAMETER.finditer(header[match.end() : end])
        }
        found.append(Challenge(match[1].lower(), parameters))
    return found


class Tokens:
    """Tokens by realm, scope and user, until they expire."""

    def __init__(self) -> None:
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}

    def known(self, key: tuple[str, ...]) -> str | None:
        """A token that is still good, if there is one."""
        token, expires = self._tokens.get(key, ("", 0.0))
        return token if expires > asyncio.get_running_loop().time() else None

    def keep(self, key: tuple[str, ...], token: str, seconds: float) -> None:
        """Remember a token for as long as it is good."""
        if len(self._tokens) >= MAX_TOKENS:
            self._tokens.clear()
        self._tokens[key] = (token, asyncio.get_running_loop().time() + max(seconds, TOKEN_SECONDS) - TOKEN_MARGIN)

    def forget(self, key: tuple[str, ...]) -> None:
        """Drop a token the registry refused."""
        self._tokens.pop(key, None)


async def fetch_token(
    http: HttpClient, challenge: Challenge, scope: str, auth: AuthConfig, *, plain: bool, offline: bool = False
) -> tuple[str, float, str]:
    """Ask the challenge's realm for a token of `scope`.

    Args:
        plain: whether the registry itself is spoken to over http, so that its realm may be too.
        offline: ask for a refresh token as well (login).

    Returns:
        The token, the seconds it is good for, and the refresh token ("" if none came).

    Raises:
        Unauthorized: the service refused the credentials.
        Unavailable: it failed, or answered something else than a token.
    """
    realm = challenge.parameters.get("realm", "")
    if not realm.startswith(("https://", "http://")):
        raise Unavailable("the registry's authentication challenge names no realm: its configuration is broken")
    if realm.startswith("http://") and not plain:
        raise Unavailable(
            "the registry is https but wants tokens fetched over http: refused, since credentials would leak"
        )
    service = challenge.parameters.get("service", "")
    scopes = [("scope", scope)] if scope else []
    if auth.identity_token:
        form = [("grant_type", "refresh_token"), ("service", service), ("client_id", CLIENT_ID), *scopes,
                ("refresh_token", auth.identity_token)]  # fmt: skip
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        request = http.request("POST", realm, headers=headers, body=urlencode(form).encode())
    else:
        query = [("service", service)] * bool(service) + scopes
        if offline:
            query += [("offline_token", "true"), ("client_id", CLIENT_ID)]
        if auth.username:
            query.append(("account", auth.username))
        headers = {"Authorization": auth.basic()} if auth.username else {}
        separator = "&" if "?" in realm else "?"
        request = http.request("GET", f"{realm}{separator}{urlencode(query)}", headers=headers)
    async with await request as answer:
        body = await answer.read(MAX_TOKEN_ANSWER)
        if answer.status in (400, 401, 403):
            reason = "incorrect username or password" if auth.known else "authentication required"
            raise Unauthorized(f"unauthorized: {reason}")
        if answer.status != 200:
            raise Unavailable(f"the registry's token service answered with status {answer.status}: retry later")
    return _token_of(body)


def _token_of(body: bytes) -> tuple[str, float, str]:
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        token = value.get("token") or value.get("access_token")
        seconds = value.get("expires_in")
        refresh = value.get("refresh_token")
        if isinstance(token, str) and len(token) <= MAX_TOKEN and _TOKEN_TEXT.fullmatch(token):
            good = float(seconds) if isinstance(seconds, int) and 0 < seconds < 10**9 else TOKEN_SECONDS
            return token, good, refresh if isinstance(refresh, str) else ""
    raise Unavailable("the registry's token service sent no token: retry later")
