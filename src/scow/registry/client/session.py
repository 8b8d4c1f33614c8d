"""One repository at one endpoint: requests with the right Authorization header, retried where that helps.

`Session.request` answers with any status that is the caller's business; authentication (401), overload (429, 5xx) and
broken connections are dealt with here. `Peers` owns what sessions share: HTTP clients, tokens, and which endpoints
answer.
"""

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from scow.errors import Forbidden, NotFound, System, Unauthorized, Unavailable
from scow.registry.auth import AuthConfig
from scow.registry.client.auth import Challenge, Tokens, challenges, fetch_token
from scow.registry.client.endpoints import Endpoint, RegistryConfig, endpoints, tls_for
from scow.web.client import Answer, HttpClient, PeerFailed, Timeouts, join

log = logging.getLogger("scow.registry")

#: Times a request is made before the failure is the user's.
ATTEMPTS = 5
#: Seconds: first pause (doubled each time), longest pause, longest Retry-After that is honoured.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0
LONGEST_RETRY_AFTER = 60.0
#: Seconds after which a failed request is not tried again: a server that hangs has cost the user enough.
PATIENCE = 45.0
#: Seconds an endpoint that could not be reached is passed over where there is another one.
SHUNNED = 60.0
#: Statuses worth another try.
BUSY = frozenset({408, 429, 500, 502, 503, 504})
#: Largest error body looked at, and characters of it shown.
MAX_ERROR = 64 << 10
MAX_SHOWN = 300
TIMEOUTS = Timeouts(connect=15.0, read=60.0)

RequestBody = bytes | Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Failure:
    """What a registry's error answer says: its first code ("" if none) and message, made safe to show."""

    status: int
    code: str
    message: str

    def __str__(self) -> str:
        code = self.code.lower().replace("_", " ")
        return ": ".join(part for part in (code, self.message) if part) or f"status {self.status}"


async def failure_of(answer: Answer) -> Failure:
    """Read an error answer (at most `MAX_ERROR`) and close it."""
    async with answer:
        try:
            body = await answer.read(MAX_ERROR)
        except (System, Unavailable):
            body = b""
    try:
        entry = json.loads(body)["errors"][0]
        code, message = str(entry.get("code", "")), str(entry.get("message", ""))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        code, message = "", ""
    return Failure(answer.status, _shown(code), _shown(message))


def _shown(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text[:MAX_SHOWN]).strip()


class Peers:
    """Connections, tokens and reachable endpoints of all registries; one per `Registry`."""

    def __init__(self, config: RegistryConfig, user_agent: str) -> None:
        self.config = config
        self.tokens = Tokens()
        self._user_agent = user_agent
        self._clients: dict[tuple[str, bool], HttpClient] = {}
        self._challenges: dict[Endpoint, list[Challenge]] = {}
        self._shunned: dict[Endpoint, float] = {}

    async def http(self, endpoint: Endpoint) -> HttpClient:
        """The client for `endpoint`."""
        key = (endpoint.host, endpoint.verify)
        client = self._clients.get(key)
        if client is None:
            tls = await asyncio.to_thread(tls_for, endpoint, self.config)
            client = HttpClient(tls=tls, timeouts=TIMEOUTS, user_agent=self._user_agent, peer_name="registry")
            client = self._clients.setdefault(key, client)
        return client

    async def ping(self, endpoint: Endpoint) -> list[Challenge]:
        """Ask the endpoint whether it speaks the protocol, once; the challenges it answers with.

        Raises:
            PeerFailed: it cannot be reached.
            Unavailable: it is something else than a registry.
        """
        known = self._challenges.get(endpoint)
        if known is not None:
            return known
        http = await self.http(endpoint)
        async with await http.request("GET", f"{endpoint.url}/v2/") as answer:
            await answer.read(MAX_ERROR)
            if answer.status not in (200, 401, 403) and answer.status not in BUSY:
                raise Unavailable(f"{endpoint.host} answers /v2/ with status {answer.status}: it is not a registry")
            found = challenges(answer.headers.get("www-authenticate", ""))
        self._challenges[endpoint] = found
        return found

    def learn(self, endpoint: Endpoint, found: list[Challenge]) -> None:
        """Remember how `endpoint` wants to be asked."""
        self._challenges[endpoint] = found

    def forget(self, endpoint: Endpoint) -> None:
        """Ask again next time."""
        self._challenges.pop(endpoint, None)

    async def reachable(self, domain: str, *, reading: bool) -> AsyncIterator[Endpoint]:
        """The endpoints of `domain` that answer, best first.

        Raises:
            Unavailable: none does; the sentence is that of the last one tried.
        """
        failed: Unavailable | None = None
        now = asyncio.get_running_loop().time
        candidates = await asyncio.to_thread(endpoints, domain, self.config, reading=reading)
        own = [endpoint for endpoint in candidates if not endpoint.mirror]
        own = [endpoint for endpoint in own if endpoint in self._challenges] or own
        for endpoint in [candidate for candidate in candidates if candidate.mirror] + own:
            if endpoint.mirror and now() - self._shunned.get(endpoint, -SHUNNED) < SHUNNED:
                continue
            try:
                await self.ping(endpoint)
            except Unavailable as error:
                log.debug("registry %s: %s", endpoint.url, error)
                self._shunned[endpoint] = now()
                failed = error
                continue
            yield endpoint
            if not endpoint.mirror:
                return
        if failed is not None:
            raise failed

    async def close(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.close()
        self._clients.clear()


class Session:
    """Requests to one repository for one user with one set of rights."""

    def __init__(self, peers: Peers, endpoint: Endpoint, path: str, auth: AuthConfig, actions: str) -> None:
        """`path` is the repository ("" for none), `actions` what is wanted there, such as "pull,push"."""
        self.endpoint = endpoint
        self.path = path
        self._peers = peers
        # A mirror is somebody else: it gets no credentials that were meant for the default domain.
        self._auth = AuthConfig() if endpoint.mirror else auth
        self._scopes = [f"repository:{path}:{actions}"] if path else []
        self._scheme = ""

    def widen(self, scope: str) -> None:
        """Ask for another scope too, from the next token on (a mount reads a second repository)."""
        if scope not in self._scopes:
            self._scopes.append(scope)

    def url(self, path: str) -> str:
        """``manifests/latest`` → the URL inside this repository."""
        return f"{self.endpoint.url}/v2/{self.path}/{path}"

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: RequestBody = b"",
        length: int | None = None,
        attempts: int = ATTEMPTS,
        timeouts: Timeouts | None = None,
    ) -> Answer:
        """Make a request (again, if need be); the answer may have any status but 401 and, until the last try, a busy
        one.

        Args:
            body: bytes, or a function that gives the body from its beginning each time it is called.

        Raises:
            Unauthorized: the credentials do not suffice.
            PeerFailed: the registry cannot be reached or broke off, `attempts` times.
        """
        clock = asyncio.get_running_loop().time
        started = clock()
        for attempt in range(1, attempts + 1):
            try:
                answer = await self._authorized(method, url, headers or {}, body, length, timeouts)
            except PeerFailed:
                if attempt == attempts or clock() - started > PATIENCE:
                    raise
                await asyncio.sleep(pause(attempt))
                continue
            if answer.status not in BUSY or attempt == attempts:
                return answer
            waiting = retry_after(answer.headers.get("retry-after", ""), attempt)
            answer.close()
            log.info("registry %s is busy (status %d), next try in %.1f s", self.endpoint.host, answer.status, waiting)
            await asyncio.sleep(waiting)
        raise AssertionError("unreachable")

    async def _authorized(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: RequestBody,
        length: int | None,
        timeouts: Timeouts | None,
    ) -> Answer:
        """One request; on 401 once more with fresh credentials."""
        http = await self._peers.http(self.endpoint)
        mine = _origin(url) == _origin(self.endpoint.url)
        for fresh in (False, True):
            authorization = await self._authorization(http, fresh=fresh) if mine else None
            sent = dict(headers) | ({"Authorization": authorization} if authorization else {})
            content = body if isinstance(body, bytes) else body()
            answer = await http.request(method, url, headers=sent, body=content, length=length, timeouts=timeouts)
            if answer.status != 401 or not mine:
                return answer
            found = challenges(answer.headers.get("www-authenticate", ""))
            failure = await failure_of(answer)
            if fresh or not found:
                if authorization is not None and authorization.startswith("Bearer "):
                    # The token service knows us, and the token still does not open this repository.
                    raise Forbidden(f"denied: {failure.message or 'requested access to the resource is denied'}")
                raise Unauthorized(_unauthorized(failure))
            self._peers.learn(self.endpoint, found)
        raise AssertionError("unreachable")

    async def _authorization(self, http: HttpClient, *, fresh: bool) -> str | None:
        """The header that proves who we are, if the endpoint asks for one."""
        if self._auth.registry_token:
            return f"Bearer {self._auth.registry_token}"
        for challenge in await self._peers.ping(self.endpoint):
            if challenge.scheme == "bearer":
                return f"Bearer {await self._token(http, challenge, fresh=fresh)}"
            if challenge.scheme == "basic" and self._auth.username:
                return self._auth.basic()
        return None

    async def _token(self, http: HttpClient, challenge: Challenge, *, fresh: bool) -> str:
        scope = " ".join(self._scopes)
        auth = self._auth
        realm, service = (challenge.parameters.get(key, "") for key in ("realm", "service"))
        key = (realm, service, scope, auth.username, auth.password, auth.identity_token)
        tokens = self._peers.tokens
        if fresh:
            tokens.forget(key)
        token = tokens.known(key)
        if token is None:
            token, seconds, _ = await fetch_token(http, challenge, scope, auth, plain=self.endpoint.plain)
            tokens.keep(key, token, seconds)
        return token

    def absolute(self, location: str) -> str:
        """A Location header as a URL; it may be relative.

        Raises:
            Unavailable: there is none.
            InvalidArgument: it is no URL.
        """
        if not location:
            raise Unavailable(
                f"registry {self.endpoint.host} names no place to upload to: it does not follow the protocol"
            )
        found = join(f"{self.endpoint.url}/v2/", location)
        if not found.startswith(("https://", "http://" if self.endpoint.plain else "https://")):
            raise Unavailable(f"registry {self.endpoint.host} leads from https to {found[:200]}: refused")
        return found


def pause(attempt: int) -> float:
    """Seconds before the next try, with chance in it so that many clients do not come back at once."""
    longest: float = min(FIRST_PAUSE * 2.0 ** (attempt - 1), LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1.0)


def retry_after(text: str, attempt: int) -> float:
    """Seconds a busy registry asked for, within bounds; our own pause when it named none (or a date)."""
    if text.isascii() and text.isdigit() and len(text) < 9:
        return min(float(text), LONGEST_RETRY_AFTER)
    return pause(attempt)


def error_for(failure: Failure, what: str, missing: str = "") -> Exception:
    """The exception for an answer nobody expected; `what` says what was tried, `missing` what a 404 means."""
    if failure.status == 401:
        return Unauthorized(_unauthorized(failure))
    if failure.status == 403:
        return Forbidden(f"{what}: denied: {failure.message or 'requested access to the resource is denied'}")
    if failure.status == 404:
        return NotFound(f"{missing or what}: {failure}")
    if failure.status == 429:
        return Unavailable(f"{what}: toomanyrequests: {failure.message or 'retry later'}")
    if failure.status in BUSY:
        return Unavailable(f"{what}: the registry answered with status {failure.status}: {failure}: retry later")
    return System(f"{what}: the registry answered with status {failure.status}: {failure}")


def _unauthorized(failure: Failure) -> str:
    return f"unauthorized: {failure.message or 'authentication required'}"


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
