"""`Registry`: everything the engine does with registries, by reference.

Each call tries the endpoints of the reference's domain in order; a mirror that lacks something or fails is passed
over. The object is cheap, holds connections and tokens, and belongs to one event loop.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlencode

from scow import __version__
from scow.content.ingest import Ingest
from scow.errors import EngineError, Forbidden, NotFound, System, Unauthorized, Unavailable
from scow.oci.descriptor import Descriptor
from scow.oci.digest import Digest, digest_of
from scow.oci.reference import DEFAULT_DOMAIN, Reference
from scow.registry.auth import NOBODY, AuthConfig
from scow.registry.client import fetch, push
from scow.registry.client.auth import fetch_token
from scow.registry.client.endpoints import (
    INDEX_HOST,
    INDEX_SERVER,
    Endpoint,
    RegistryConfig,
    domain_of,
    is_insecure,
)
from scow.registry.client.session import Peers, Session

__all__ = ["NOBODY", "AuthConfig", "Registry", "RegistryConfig"]

T = TypeVar("T")

#: Largest answer of a search or catalog, and results given.
SEARCH_BYTES = 4 << 20
MAX_RESULTS = 100
DEFAULT_RESULTS = 25


class Registry:
    """All registries, spoken to as `config` says."""

    def __init__(self, config: RegistryConfig | None = None) -> None:
        self.config = config or RegistryConfig()
        self._peers = Peers(self.config, f"scow/{__version__}")
        self._fetching: dict[Digest, tuple[asyncio.Lock, int]] = {}

    async def close(self) -> None:
        """Close every connection."""
        await self._peers.close()

    # -- reading ---------------------------------------------------------------------------------------------------

    async def resolve(self, reference: Reference, auth: AuthConfig = NOBODY) -> Descriptor:
        """Digest, size and type of what `reference` names.

        Raises:
            NotFound: "manifest for x:y not found: …", or "pull access denied for x, …" as Docker words it.
            Unavailable: no endpoint can be reached; says which and why.
        """
        return await self._read(reference, auth, lambda session: fetch.resolve(session, reference))

    async def fetch_manifest(
        self, reference: Reference, descriptor: Descriptor, auth: AuthConfig = NOBODY
    ) -> tuple[bytes, str]:
        """The bytes of a manifest or index, verified, and its media type; the errors of `resolve`, and
        DigestMismatch."""
        name = reference.familiar()
        return await self._read(reference, auth, lambda session: fetch.manifest(session, descriptor, name))

    async def fetch_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        open_ingest: Callable[[], Ingest],
        auth: AuthConfig = NOBODY,
        arrived: Callable[[int], None] | None = None,
    ) -> Descriptor:
        """Fetch a blob of the reference's repository and commit it to the content store.

        Args:
            open_ingest: opens (or continues) the ingest to write into; called again when what it held proves wrong.

        Raises:
            DigestMismatch, DataLoss: the registry sent something else.
            NotFound, Unavailable, Unauthorized: as `resolve`.
        """

        async def attempt(session: Session) -> Descriptor:
            for last in (False, True):
                with await asyncio.to_thread(open_ingest) as ingest:
                    try:
                        return await fetch.blob(session, descriptor, ingest, arrived)
                    except fetch.StaleIngest:
                        if last:
                            raise
            raise AssertionError("unreachable")

        return await self._read(reference, auth, attempt)

    async def fetch_small(
        self, reference: Reference, descriptor: Descriptor, limit: int, auth: AuthConfig = NOBODY
    ) -> bytes:
        """A small blob (a config) in memory, verified; the errors of `fetch_blob`."""
        return await self._read(reference, auth, lambda session: fetch.small_blob(session, descriptor, limit))

    async def tags(self, reference: Reference, auth: AuthConfig = NOBODY) -> list[str]:
        """Every tag of the reference's repository."""
        return await self._read(reference, auth, fetch.tags)

    @contextlib.asynccontextmanager
    async def alone(self, digest: Digest) -> AsyncIterator[None]:
        """One transfer of `digest` at a time: whoever comes second finds the blob there, and does not fetch it
        again."""
        lock, users = self._fetching.get(digest) or (asyncio.Lock(), 0)
        self._fetching[digest] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            users = self._fetching[digest][1] - 1
            if users:
                self._fetching[digest] = (lock, users)
            else:
                del self._fetching[digest]

    # -- writing ---------------------------------------------------------------------------------------------------

    async def has_blob(self, reference: Reference, descriptor: Descriptor, auth: AuthConfig = NOBODY) -> bool:
        """Whether the repository, as one would push to it, has the blob."""
        return await self._write(reference, auth, lambda session: push.has_blob(session, descriptor))

    async def push_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        open_blob: Callable[[], BinaryIO],
        auth: AuthConfig = NOBODY,
        sent: Callable[[int], None] | None = None,
        mount_from: Sequence[str] = (),
    ) -> str | None:
        """Bring a blob into the repository.

        Args:
            mount_from: repositories of the same registry that may have it, most likely first.

        Returns:
            The repository it was mounted from, or None when it was uploaded.

        Raises:
            Forbidden, Unauthorized: pushing is not allowed.
            Unavailable: the registry cannot be reached or broke off too often.
        """

        async def attempt(session: Session) -> str | None:
            upload: str | None = None
            for source in mount_from:
                mounted = await push.mount(session, descriptor.digest, source)
                if mounted is True:
                    return source
                upload = mounted or None
            await push.blob(session, descriptor, open_blob, sent, upload)
            return None

        return await self._write(reference, auth, attempt)

    async def mount(self, reference: Reference, digest: Digest, source: str, auth: AuthConfig = NOBODY) -> bool:
        """Take a blob over from the repository `source` of the same registry; whether it worked."""
        return await self._write(reference, auth, lambda session: push.mount(session, digest, source)) is True

    async def push_manifest(
        self, reference: Reference, data: bytes, media_type: str, auth: AuthConfig = NOBODY, by_digest: bool = False
    ) -> Descriptor:
        """Store a manifest or index under the reference's tag, or under its digest alone."""
        where = digest_of(data) if by_digest or reference.tag is None else reference.tag
        return await self._write(reference, auth, lambda session: push.manifest(session, data, media_type, where))

    # -- accounts and search ---------------------------------------------------------------------------------------

    async def check_login(self, auth: AuthConfig) -> str:
        """Whether the registry `auth.server` accepts the credentials; the identity token to keep ("" if none).

        Raises:
            Unauthorized: it does not.
            Unavailable: it cannot be reached.
        """
        domain = domain_of(auth.server)
        async for endpoint in self._peers.reachable(domain, reading=False):
            http = await self._peers.http(endpoint)
            for challenge in await self._peers.ping(endpoint):
                if challenge.scheme == "bearer":
                    plain = endpoint.plain
                    _, _, refresh = await fetch_token(http, challenge, "", auth, plain=plain, offline=True)
                    return refresh
            session = Session(self._peers, endpoint, "", auth, "")
            async with await session.request("GET", f"{endpoint.url}/v2/") as answer:
                if answer.status == 200:
                    return ""
                status = answer.status
            raise Unauthorized(f"login attempt to {endpoint.url}/v2/ failed with status: {status}")
        raise Unavailable(f"registry {domain} has no endpoint")

    async def search(self, term: str, limit: int | None = None, auth: AuthConfig = NOBODY) -> list[dict[str, Any]]:
        """Repositories whose name holds `term`, in the API's shape; ``host/term`` asks that registry's catalog.

        Raises:
            Unavailable: the registry cannot be reached.
            NotFound: it offers neither search nor catalog.
        """
        count = min(max(limit or DEFAULT_RESULTS, 1), MAX_RESULTS)
        domain, slash, rest = term.partition("/")
        if slash and ("." in domain or ":" in domain or domain == "localhost"):
            return (await self._catalog(domain, rest, auth))[:count]
        endpoint = Endpoint(f"https://{INDEX_HOST}", INDEX_HOST, verify=True)
        http = await self._peers.http(endpoint)
        query = urlencode({"q": term, "n": count})
        async with await http.request("GET", f"{endpoint.url}/v1/search?{query}") as answer:
            body = await answer.read(SEARCH_BYTES)
            if answer.status != 200:
                raise Unavailable(f"the search answered with status {answer.status}: retry later")
        return _results(body)[:count]

    async def _catalog(self, domain: str, term: str, auth: AuthConfig) -> list[dict[str, Any]]:
        async for endpoint in self._peers.reachable(domain, reading=True):
            session = Session(self._peers, endpoint, "", auth, "")
            session.widen("registry:catalog:*")
            names = await fetch.catalog(session)
            return [_result(f"{domain}/{name}") for name in names if term in name]
        raise Unavailable(f"registry {domain} has no endpoint")

    # -- what `info` tells -----------------------------------------------------------------------------------------

    def index_server(self) -> str:
        """The address logins to the default registry are stored under."""
        return INDEX_SERVER

    def service_config(self) -> dict[str, Any]:
        """The API's RegistryServiceConfig."""
        networks = [entry for entry in self.config.insecure if "/" in entry]
        mirrors = list(self.config.mirrors)
        indexes = {DEFAULT_DOMAIN: {"Name": DEFAULT_DOMAIN, "Mirrors": mirrors, "Secure": True, "Official": True}}
        for name in self.config.insecure:
            if "/" not in name:
                indexes[name] = {"Name": name, "Mirrors": [], "Secure": False, "Official": False}
        return {
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8", *networks],
            "IndexConfigs": indexes,
            "Mirrors": mirrors,
        }

    def secure(self, domain: str) -> bool:
        """Whether `domain` is spoken to over verified TLS only."""
        return not is_insecure(domain, self.config)

    # -- endpoints -------------------------------------------------------------------------------------------------

    async def _read(self, reference: Reference, auth: AuthConfig, use: Callable[[Session], Awaitable[T]]) -> T:
        """`use` a session that may pull, on the first endpoint where that works."""
        failed: EngineError | None = None
        async for endpoint in self._peers.reachable(reference.domain, reading=True):
            session = Session(self._peers, endpoint, reference.path, auth, "pull")
            try:
                return await use(session)
            except (NotFound, Unauthorized, Forbidden, Unavailable, System) as error:
                if isinstance(error, Unavailable):
                    self._peers.forget(endpoint)
                if not endpoint.mirror:
                    raise _pull_error(reference, error) from error
                failed = error
        raise failed or Unavailable(f"registry {reference.domain} has no endpoint")

    async def _write(self, reference: Reference, auth: AuthConfig, use: Callable[[Session], Awaitable[T]]) -> T:
        async for endpoint in self._peers.reachable(reference.domain, reading=False):
            try:
                return await use(Session(self._peers, endpoint, reference.path, auth, "pull,push"))
            except Unavailable:
                self._peers.forget(endpoint)
                raise
            except Forbidden as error:
                raise Forbidden(f"denied: requested access to the resource is denied: {error}") from error
        raise Unavailable(f"registry {reference.domain} has no endpoint")


def _pull_error(reference: Reference, error: EngineError) -> EngineError:
    """Docker's sentence for a repository one may not see: registries do not tell "private" from "absent"."""
    if isinstance(error, Forbidden):
        return NotFound(
            f"pull access denied for {reference.familiar_name}, repository does not exist or may require "
            f"'docker login': {error}"
        )
    return error


def _results(body: bytes) -> list[dict[str, Any]]:
    try:
        found = json.loads(body)["results"]
        return [
            _result(str(entry["name"]), str(entry.get("description") or ""), int(entry.get("star_count") or 0),
                    entry.get("is_official") is True)
            for entry in found
        ]  # fmt: skip
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise System("the search answered with something that is no result") from None


def _result(name: str, description: str = "", stars: int = 0, official: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "description": description[:1000],
        "star_count": stars,
        "is_official": official,
        "is_automated": False,
    }
