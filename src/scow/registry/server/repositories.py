"""What the registry keeps on disk: repositories as folders of small files that link to blobs of one content store.

::

    <root>/content/blobs/sha256/<hex>                     every blob once, whichever repositories have it
    <root>/repositories/<name>/_layers/<hex>              the repository has this blob (empty file)
    <root>/repositories/<name>/_manifests/<hex>           … this manifest; holds its media type
    <root>/repositories/<name>/_tags/<tag>                holds a digest; moved by atomic rename
    <root>/repositories/<name>/_referrers/<hex>/<hex>     the second manifest names the first one as its subject

Every change is one file and durable before it is answered. Names and tags are checked against the specification's
grammar here, once; no part of a name can begin with a dot or an underscore, so no name leads out of its folder or
into these. Everything blocks; callers use threads.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from scow.content.store import ContentStore
from scow.errors import InvalidArgument
from scow.fileio import atomic_write, fsync_dir, sweep_temporaries
from scow.oci.digest import Digest
from scow.registry.codes import RegistryError

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
MAX_NAME = 255

LAYERS, MANIFESTS, TAGS, REFERRERS = "_layers", "_manifests", "_tags", "_referrers"


def parse_digest(text: str) -> Digest:
    """The digest in a path or query; anything else is DIGEST_INVALID."""
    try:
        return Digest.parse(text)
    except InvalidArgument as error:
        raise RegistryError("DIGEST_INVALID", str(error)) from None


def is_tag(text: str) -> bool:
    """Whether `text` can be a tag."""
    return _TAG.fullmatch(text) is not None


class Repositories:
    """All repositories under `root`, over `content`."""

    def __init__(self, root: Path, content: ContentStore) -> None:
        self.root = root / "repositories"
        self.content = content
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in self._folders():
            for kind in (MANIFESTS, TAGS):
                with contextlib.suppress(FileNotFoundError):
                    sweep_temporaries(folder / kind)

    def _folders(self) -> Iterator[Path]:
        """Every folder that is a repository, or has some below."""
        for folder, folders, _ in os.walk(self.root):
            folders[:] = [entry for entry in folders if not entry.startswith("_")]
            yield Path(folder)

    def get(self, name: str) -> "Repository":
        """The repository `name`, which need not exist yet.

        Raises:
            RegistryError: NAME_INVALID.
        """
        if len(name) > MAX_NAME or not _NAME.fullmatch(name):
            raise RegistryError("NAME_INVALID", f"invalid repository name {name[:300]!r}", {"name": name[:300]})
        return Repository(name, self.root / name, self.content)

    def names(self) -> list[str]:
        """Every repository with at least one manifest, sorted."""
        found: list[str] = []
        for folder in self._folders():
            with contextlib.suppress(FileNotFoundError):
                if any((folder / MANIFESTS).iterdir()):
                    found.append(str(folder.relative_to(self.root)))
        return sorted(found)


class Repository:
    """One repository; every method blocks."""

    def __init__(self, name: str, folder: Path, content: ContentStore) -> None:
        self.name = name
        self.folder = folder
        self.content = content

    def exists(self) -> bool:
        """Whether anything was ever pushed here."""
        return (self.folder / MANIFESTS).is_dir()

    # -- blobs -----------------------------------------------------------------------------------------------------

    def blob_size(self, digest: Digest) -> int:
        """Bytes of a blob of this repository.

        Raises:
            RegistryError: BLOB_UNKNOWN, also when another repository has it.
        """
        if not (self.folder / LAYERS / digest.hex).exists() or not self.content.has(digest):
            raise RegistryError("BLOB_UNKNOWN", "blob unknown to registry", {"digest": digest})
        return self.content.size(digest)

    def has_blob(self, digest: Digest) -> bool:
        """Whether the repository has the blob."""
        return (self.folder / LAYERS / digest.hex).exists() and self.content.has(digest)

    def link_blob(self, digest: Digest) -> None:
        """Make a blob of the content store one of this repository's."""
        self._link(LAYERS, digest.hex, b"")

    def unlink_blob(self, digest: Digest) -> None:
        """Forget a blob; its bytes go with the next garbage collection unless others have it."""
        self.blob_size(digest)
        self._unlink(LAYERS, digest.hex)

    # -- manifests -------------------------------------------------------------------------------------------------

    def manifest_type(self, digest: Digest) -> str:
        """The media type a manifest was pushed with.

        Raises:
            RegistryError: MANIFEST_UNKNOWN.
        """
        try:
            return (self.folder / MANIFESTS / digest.hex).read_text("ascii")
        except FileNotFoundError:
            raise RegistryError("MANIFEST_UNKNOWN", "manifest unknown", {"digest": digest}) from None

    def has_manifest(self, digest: Digest) -> bool:
        """Whether the repository has the manifest."""
        return (self.folder / MANIFESTS / digest.hex).exists()

    def put_manifest(self, data: bytes, media_type: str, subject: Digest | None) -> Digest:
        """Store a checked manifest; `subject` makes it one of that digest's referrers."""
        digest = self.content.write(data, media_type).digest
        if subject is not None:
            self._link(f"{REFERRERS}/{subject.hex}", digest.hex, b"")
        self._link(MANIFESTS, digest.hex, media_type.encode("ascii"))
        return digest

    def delete_manifest(self, digest: Digest) -> None:
        """Forget a manifest and every tag that points to it.

        Raises:
            RegistryError: MANIFEST_UNKNOWN.
        """
        self.manifest_type(digest)
        for tag in self.tags():
            if self.tag_digest(tag) == digest:
                self._unlink(TAGS, tag)
        self._unlink(MANIFESTS, digest.hex)
        with contextlib.suppress(FileNotFoundError):
            for subject in (self.folder / REFERRERS).iterdir():
                (subject / digest.hex).unlink(missing_ok=True)

    def manifests(self) -> Iterator[Digest]:
        """Every manifest of the repository."""
        with contextlib.suppress(FileNotFoundError):
            for entry in (self.folder / MANIFESTS).iterdir():
                yield Digest.parse(f"sha256:{entry.name}")

    def referrers(self, subject: Digest) -> list[Digest]:
        """Manifests whose subject is `subject`, sorted; empty when there are none."""
        try:
            entries = sorted(entry.name for entry in (self.folder / REFERRERS / subject.hex).iterdir())
        except FileNotFoundError:
            return []
        found = [Digest.parse(f"sha256:{name}") for name in entries]
        return [digest for digest in found if self.has_manifest(digest)]

    # -- tags ------------------------------------------------------------------------------------------------------

    def tags(self) -> list[str]:
        """Every tag, sorted."""
        try:
            return sorted(entry.name for entry in (self.folder / TAGS).iterdir() if not entry.name.endswith(".tmp"))
        except FileNotFoundError:
            return []

    def tag_digest(self, tag: str) -> Digest:
        """What a tag points to.

        Raises:
            RegistryError: MANIFEST_UNKNOWN.
        """
        if is_tag(tag):
            with contextlib.suppress(FileNotFoundError):
                return Digest.parse((self.folder / TAGS / tag).read_text("ascii"))
        raise RegistryError("MANIFEST_UNKNOWN", "manifest unknown", {"tag": tag[:128]})

    def put_tag(self, tag: str, digest: Digest) -> None:
        """Point `tag` to `digest`; readers see the old target or the new one."""
        self._link(TAGS, tag, digest.encode("ascii"))

    def delete_tag(self, tag: str) -> None:
        """Forget a tag; the manifest stays.

        Raises:
            RegistryError: MANIFEST_UNKNOWN.
        """
        self.tag_digest(tag)
        self._unlink(TAGS, tag)

    # -- files -----------------------------------------------------------------------------------------------------

    def _link(self, kind: str, name: str, data: bytes) -> None:
        folder = self.folder / kind
        path = folder / name
        with contextlib.suppress(FileNotFoundError):
            if path.read_bytes() == data:
                return
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic_write(path, data)

    def _unlink(self, kind: str, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self.folder / kind / name).unlink()
            fsync_dir(self.folder / kind)
