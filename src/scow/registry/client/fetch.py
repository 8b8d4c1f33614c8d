"""Reading from a registry: resolve names, fetch manifests, fetch blobs that go on where they stopped.

Everything is verified before it is given out: manifests against their digest, blobs by `Ingest.commit`.
"""

import asyncio
import json
import re
from collections.abc import Callable

from scow.content.ingest import Ingest
from scow.errors import DataLoss, DigestMismatch, InvalidArgument, NotFound, System, Unavailable
from scow.oci.descriptor import Descriptor
from scow.oci.digest import Digest, digest_of
from scow.oci.document import MAX_DOCUMENT
from scow.oci.manifest import sniff
from scow.oci.mediatypes import DOCKER_LIST, DOCKER_MANIFEST, DOCKER_SCHEMA1_SIGNED, OCI_INDEX, OCI_MANIFEST
from scow.oci.reference import Reference
from scow.registry.client.session import ATTEMPTS, PATIENCE, Failure, Session, error_for, failure_of, pause
from scow.registry.transfer import receive
from scow.web.client import Answer, PeerFailed

ACCEPT = ", ".join([OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, f"{DOCKER_SCHEMA1_SIGNED}; q=0.1"])
#: Bytes that must arrive for a broken-off transfer to count as progress, which renews the attempts.
PROGRESS = 1 << 20
#: Names listed and pages followed at most.
MAX_NAMES = 100_000
MAX_PAGES = 1000
PAGE_BYTES = 4 << 20

Arrived = Callable[[int], None]

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/(?:[0-9]{1,18}|\*)")
_NEXT = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')


async def resolve(session: Session, reference: Reference) -> Descriptor:
    """Digest, size and type of what `reference` names (its digest, else its tag).

    Raises:
        NotFound: the registry does not have it.
    """
    wanted = reference.digest or reference.tag or "latest"
    url = session.url(f"manifests/{wanted}")
    answer = await session.request("HEAD", url, headers={"Accept": ACCEPT})
    async with answer:
        length = answer.headers.get("content-length", "")
        stated = answer.headers.get("docker-content-digest", "")
        if answer.status == 200 and stated and length.isascii() and length.isdigit() and len(length) < 12:
            await answer.read(0)
            digest = Digest.parse(stated)
            if reference.digest is not None and digest != reference.digest:
                raise DigestMismatch(reference.digest, digest, f"manifest of {reference.familiar()}")
            return Descriptor(_type_of(answer), digest, int(length))
    # Also after an error: the answer to HEAD has no body that says which one.
    data, media_type = await _get_manifest(session, str(wanted), reference.familiar())
    if reference.digest is not None and digest_of(data) != reference.digest:
        raise DigestMismatch(reference.digest, digest_of(data), f"manifest of {reference.familiar()}")
    return Descriptor(media_type, digest_of(data), len(data))


async def manifest(session: Session, descriptor: Descriptor, name: str) -> tuple[bytes, str]:
    """A manifest's bytes, verified, and its media type; `name` is what errors call it.

    Raises:
        NotFound: the registry does not have it.
        DigestMismatch: it sent another one.
    """
    data, media_type = await _get_manifest(session, descriptor.digest, name)
    actual = digest_of(data)
    if actual != descriptor.digest:
        raise DigestMismatch(descriptor.digest, actual, f"manifest of {name}")
    return data, media_type


async def _get_manifest(session: Session, wanted: str, name: str) -> tuple[bytes, str]:
    url = session.url(f"manifests/{wanted}")
    for attempt in range(1, ATTEMPTS + 1):
        answer = await session.request("GET", url, headers={"Accept": ACCEPT})
        if answer.status != 200:
            raise error_for(await failure_of(answer), f"pulling {name}", f"manifest for {name} not found")
        try:
            async with answer:
                data = await answer.read(MAX_DOCUMENT)
        except PeerFailed:
            if attempt == ATTEMPTS:
                raise
            await asyncio.sleep(pause(attempt))
            continue
        try:
            return data, sniff(data, _type_of(answer))
        except InvalidArgument as error:
            raise System(f"the registry sent no manifest for {name}: {error}") from None
    raise AssertionError("unreachable")


def _type_of(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip()


async def blob(session: Session, descriptor: Descriptor, ingest: Ingest, arrived: Arrived | None = None) -> Descriptor:
    """Fetch a blob into `ingest`, from where it stands, and commit it.

    A transfer that breaks off is continued; so is one of an earlier process, since the ingest keeps its bytes.

    Args:
        arrived: told the bytes so far, now and then.

    Raises:
        NotFound: the registry does not have it.
        DigestMismatch, DataLoss: it sent something else, also on a second try from the beginning.
        Unavailable: it broke off too often.
    """
    resumed = ingest.offset > 0
    try:
        await _receive(session, descriptor, ingest, arrived)
        return await asyncio.to_thread(ingest.commit, descriptor.digest, descriptor.size)
    except DigestMismatch:
        if not resumed:
            raise
        # What an earlier attempt left may have been the bad part; the caller's ingest is gone with it.
        raise StaleIngest(f"what was left of an earlier download of {descriptor.digest} was damaged: retry") from None


async def small_blob(session: Session, descriptor: Descriptor, limit: int) -> bytes:
    """A blob of at most `limit` bytes in memory, verified.

    Raises:
        InvalidArgument: it is larger.
        NotFound: the registry does not have it.
        DigestMismatch: it sent another one.
    """
    if descriptor.size > limit:
        raise InvalidArgument(f"blob {descriptor.digest} is {descriptor.size} bytes, more than the {limit} allowed")
    answer = await session.request("GET", session.url(f"blobs/{descriptor.digest}"))
    if answer.status != 200:
        raise _blob_error(session, descriptor, await failure_of(answer))
    async with answer:
        data = await answer.read(descriptor.size)
    if digest_of(data) != descriptor.digest:
        raise DigestMismatch(descriptor.digest, digest_of(data), "blob")
    return data


class StaleIngest(DataLoss):
    """The bytes an earlier attempt left were wrong; they are gone, and a fresh ingest may succeed."""


async def _receive(session: Session, descriptor: Descriptor, ingest: Ingest, arrived: Arrived | None) -> None:
    url = session.url(f"blobs/{descriptor.digest}")
    attempt = 0
    clock = asyncio.get_running_loop().time
    progressed = clock()
    if ingest.offset > descriptor.size:
        await asyncio.to_thread(ingest.truncate, 0)
    while ingest.offset < descriptor.size:
        before = ingest.offset
        try:
            await _receive_once(session, url, descriptor, ingest, arrived)
        except PeerFailed:
            if ingest.offset - before >= PROGRESS:
                attempt, progressed = 0, clock()
            attempt += 1
            if attempt >= ATTEMPTS or clock() - progressed > PATIENCE:
                raise
            await asyncio.sleep(pause(attempt))
            continue
        if ingest.offset < descriptor.size:
            attempt += 1
            if attempt >= ATTEMPTS:
                raise Unavailable(
                    f"registry {session.endpoint.host} sent {ingest.offset} of {descriptor.size} bytes of "
                    f"{descriptor.digest}: retry later"
                )


async def _receive_once(
    session: Session, url: str, descriptor: Descriptor, ingest: Ingest, arrived: Arrived | None
) -> None:
    headers = {"Accept-Encoding": "identity"}
    if ingest.offset:
        headers["Range"] = f"bytes={ingest.offset}-{descriptor.size - 1}"
    answer = await session.request("GET", url, headers=headers)
    if answer.status not in (200, 206):
        if answer.status == 416 and ingest.offset:
            answer.close()
            await asyncio.to_thread(ingest.truncate, 0)
            return
        raise _blob_error(session, descriptor, await failure_of(answer))
    async with answer:
        await _align(answer, ingest)
        _check_length(answer, descriptor, ingest)
        if not await receive(answer.stream(), ingest, arrived, limit=descriptor.size):
            ingest.abort()
            raise DataLoss(
                f"registry {session.endpoint.host} sent more than the {descriptor.size} bytes of {descriptor.digest}"
            )


def _blob_error(session: Session, descriptor: Descriptor, failure: Failure) -> Exception:
    if failure.status == 404:
        return NotFound(f"registry {session.endpoint.host} does not have blob {descriptor.digest}: {failure}")
    return error_for(failure, f"blob {descriptor.digest}")


async def _align(answer: Answer, ingest: Ingest) -> None:
    """Make the ingest stand where the answer begins: a server may ignore Range, or send another part."""
    start = 0
    if answer.status == 206:
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        start = int(match[1]) if match else -1
    if start == ingest.offset:
        return
    if not 0 <= start <= ingest.offset:
        await asyncio.to_thread(ingest.truncate, 0)
        raise PeerFailed(f"{answer.url.partition('?')[0]} answers with a part that was not asked for", sent=True)
    await asyncio.to_thread(ingest.truncate, start)


def _check_length(answer: Answer, descriptor: Descriptor, ingest: Ingest) -> None:
    length = answer.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and ingest.offset + int(length[:20]) > descriptor.size:
        raise DataLoss(
            f"blob {descriptor.digest} should be {descriptor.size} bytes, the registry announces "
            f"{ingest.offset + int(length[:20])}"
        )


async def tags(session: Session) -> list[str]:
    """Every tag of the repository, following the pages.

    Raises:
        NotFound: no such repository.
    """
    return await _names(session, session.url("tags/list?n=1000"), "tags", f"tags of {session.path}")


async def catalog(session: Session) -> list[str]:
    """Every repository of the registry, as far as it tells them.

    Raises:
        NotFound, Unauthorized, Forbidden: it does not.
    """
    host = session.endpoint.host
    url = f"{session.endpoint.url}/v2/_catalog?n=1000"
    return await _names(session, url, "repositories", f"registry {host} cannot be searched")


async def _names(session: Session, url: str, key: str, failed: str) -> list[str]:
    """A list of names that comes in pages."""
    found: list[str] = []
    for _ in range(MAX_PAGES):
        answer = await session.request("GET", url)
        if answer.status != 200:
            raise error_for(await failure_of(answer), failed)
        async with answer:
            body = await answer.read(PAGE_BYTES)
        try:
            names = json.loads(body).get(key) or []
            found += [name for name in names if isinstance(name, str)]
        except (ValueError, AttributeError, TypeError, RecursionError):
            raise System(f"registry {session.endpoint.host} sent no list of {key}") from None
        link = _NEXT.search(answer.headers.get("link", ""))
        if link is None or len(found) > MAX_NAMES:
            break
        url = session.absolute(link[1])
    return found[:MAX_NAMES]
