"""Writing to a registry: blobs that are there already are not sent, mounts spare the rest, uploads go on where they
stopped.

Source: distribution-spec 1.1 "Pushing Blobs", "Mounting a blob from another repository", "Pushing Manifests".
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO
from urllib.parse import urlencode

from scow.errors import Forbidden, NotFound, System, Unauthorized
from scow.oci.descriptor import Descriptor
from scow.oci.digest import Digest, digest_of
from scow.registry.client.session import ATTEMPTS, Session, error_for, failure_of, pause
from scow.web.client import PeerFailed, Timeouts

CHUNK = 1 << 20
OCTETS = "application/octet-stream"
#: Seconds a registry may take to hash a blob it has received.
COMMIT = Timeouts(connect=15.0, read=600.0)

Sent = Callable[[int], None]
Open = Callable[[], BinaryIO]

_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")


async def has_blob(session: Session, descriptor: Descriptor) -> bool:
    """Whether the repository has the blob already."""
    async with await session.request("HEAD", session.url(f"blobs/{descriptor.digest}")) as answer:
        return answer.status == 200


async def mount(session: Session, digest: Digest, source: str) -> bool | str:
    """Ask for the blob of the repository `source` on the same registry.

    Returns:
        True when it is mounted; otherwise the URL of the upload the registry began instead, or False without one.
    """
    session.widen(f"repository:{source}:pull")
    try:
        return await _start(session, {"mount": digest, "from": source})
    except (NotFound, Forbidden, Unauthorized, System):
        return False  # a registry may not know, or not let us see, the other repository: the blob is sent then


async def _start(session: Session, query: dict[str, str]) -> bool | str:
    suffix = f"?{urlencode(query)}" if query else ""
    answer = await session.request("POST", session.url(f"blobs/uploads/{suffix}"))
    if answer.status == 201 and query:
        answer.close()
        return True
    if answer.status != 202:
        raise error_for(await failure_of(answer), f"cannot push to {session.path}")
    async with answer:
        await answer.read(CHUNK)
        return session.absolute(answer.headers.get("location", ""))


async def blob(
    session: Session, descriptor: Descriptor, open_blob: Open, sent: Sent | None = None, upload: str | None = None
) -> None:
    """Upload a blob.

    Args:
        open_blob: gives the bytes from their beginning, each time it is called.
        sent: told the bytes so far, now and then.
        upload: URL of an upload already begun (by a mount that was declined).

    Raises:
        Forbidden, Unauthorized: pushing is not allowed.
        Unavailable: the connection broke too often.
    """
    location = upload or await _start(session, {})
    assert isinstance(location, str)
    offset = 0
    for attempt in range(1, ATTEMPTS + 1):
        try:
            location = await _patch(session, location, descriptor, open_blob, offset, sent)
            break
        except PeerFailed:
            if attempt == ATTEMPTS:
                raise
            await asyncio.sleep(pause(attempt))
            location, offset = await _where(session, location)
    await _finish(session, location, descriptor)


async def _patch(
    session: Session, location: str, descriptor: Descriptor, open_blob: Open, offset: int, sent: Sent | None
) -> str:
    """Send everything from `offset` on in one request; the upload's next URL."""
    if offset >= descriptor.size:
        return location
    headers = {"Content-Type": OCTETS}
    if offset:
        headers["Content-Range"] = f"{offset}-{descriptor.size - 1}"
    answer = await session.request(
        "PATCH", location, headers=headers, attempts=1, timeouts=COMMIT, length=descriptor.size - offset,
        body=lambda: _pieces(open_blob, offset, descriptor.size, sent),
    )  # fmt: skip
    if answer.status in (416, 408, 429, 500, 502, 503, 504):
        failure = await failure_of(answer)
        raise PeerFailed(
            f"registry {session.endpoint.host} did not take blob {descriptor.digest}: {failure}", sent=True
        )
    if answer.status not in (202, 204):
        raise error_for(await failure_of(answer), f"cannot push blob {descriptor.digest}")
    async with answer:
        await answer.read(CHUNK)
        return session.absolute(answer.headers.get("location", "") or location)


async def _pieces(open_blob: Open, offset: int, size: int, sent: Sent | None) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(open_blob) as file:
        file.seek(offset)
        while offset < size:
            data = await asyncio.to_thread(file.read, min(CHUNK, size - offset))
            if not data:
                raise System("a blob became shorter while it was pushed")
            offset += len(data)
            yield data
            if sent is not None:
                sent(offset)


async def _where(session: Session, location: str) -> tuple[str, int]:
    """How far a broken-off upload got; from the beginning with a new one when the registry has forgotten it."""
    answer = await session.request("GET", location)
    async with answer:
        await answer.read(CHUNK)
        match = _RANGE.fullmatch(answer.headers.get("range", ""))
        if answer.status in (200, 202, 204) and match:
            # "0-0" is both nothing and one byte; one byte again is refused by nobody, so nothing is assumed.
            last = int(match[1])
            return session.absolute(answer.headers.get("location", "") or location), last + 1 if last else 0
    fresh = await _start(session, {})
    assert isinstance(fresh, str)
    return fresh, 0


async def _finish(session: Session, location: str, descriptor: Descriptor) -> None:
    separator = "&" if "?" in location else "?"
    url = f"{location}{separator}{urlencode({'digest': descriptor.digest})}"
    answer = await session.request("PUT", url, headers={"Content-Type": OCTETS}, timeouts=COMMIT)
    if answer.status == 404 and await has_blob(session, descriptor):
        answer.close()  # the first try did it, only its answer was lost
        return
    if answer.status not in (201, 204):
        raise error_for(await failure_of(answer), f"cannot push blob {descriptor.digest}")
    answer.close()


async def manifest(session: Session, data: bytes, media_type: str, reference: str) -> Descriptor:
    """Store a manifest under `reference` (tag or digest).

    Raises:
        System: the registry stored something else, or refused it.
    """
    url = session.url(f"manifests/{reference}")
    answer = await session.request("PUT", url, headers={"Content-Type": media_type}, body=data, timeouts=COMMIT)
    if answer.status not in (200, 201, 202):
        raise error_for(await failure_of(answer), f"cannot push manifest {reference}")
    async with answer:
        await answer.read(CHUNK)
    digest = digest_of(data)
    stated = answer.headers.get("docker-content-digest", "")
    if stated and stated != digest:
        raise System(f"registry {session.endpoint.host} stored the manifest as {stated[:80]} instead of {digest}")
    return Descriptor(media_type, digest, len(data))
