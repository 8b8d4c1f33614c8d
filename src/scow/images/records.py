"""The image names: ``<content>/index.json``, an OCI index other tools read too.

Every name is one entry (annotation ``org.opencontainers.image.ref.name`` = the canonical reference); an image without
names is an entry without that annotation. The file is replaced atomically: its rename is the transaction. Not
thread-safe; `Images` holds the lock.
"""

import contextlib
import logging
import os
from dataclasses import dataclass, field, replace

from scow.content.store import ContentStore
from scow.errors import EngineError, InvalidArgument, NoSpace, NotFound
from scow.fileio import atomic_write
from scow.images.image import now
from scow.oci import document
from scow.oci.config import MAX_CONFIG, ImageConfig
from scow.oci.descriptor import Descriptor
from scow.oci.digest import Digest
from scow.oci.manifest import Manifest
from scow.oci.mediatypes import OCI_INDEX

log = logging.getLogger("scow.images")

REF_NAME = "org.opencontainers.image.ref.name"
_MANIFEST = "scow.manifest"
_MANIFEST_TYPE = "scow.manifest.type"
_MANIFEST_SIZE = "scow.manifest.size"
_TAGGED = "scow.tagged"
_DIGESTS = "scow.digests"
_MAX_INDEX = 64 << 20


@dataclass(frozen=True, slots=True)
class Named:
    """Where a name leads: `target` (an index, or the manifest itself) and the manifest chosen from it."""

    image_id: Digest
    manifest: Descriptor
    target: Descriptor
    tagged_at: str | None


@dataclass(slots=True)
class Known:
    """An image that is here: how it was last put, and the repository digests that lead to it."""

    manifest: Descriptor
    target: Descriptor
    digests: set[str] = field(default_factory=set)
    tagged_at: str | None = None


@dataclass(frozen=True, slots=True)
class Documents:
    """A manifest with its config, parsed."""

    manifest: Manifest
    config: ImageConfig


class Records:
    """Names and images in memory, and the file they are kept in."""

    def __init__(self, content: ContentStore) -> None:
        """Read the file; entries whose manifest or config is gone or damaged are dropped.

        A file that cannot be read is set aside; the images are found again by their manifests, without their names.
        """
        self._content = content
        self._path = os.path.join(content.root, "index.json")
        self._documents: dict[Digest, Documents] = {}
        self.names: dict[str, Named] = {}
        self.images: dict[Digest, Known] = {}
        self._read()
        self._written = _copies(self.names, self.images)

    def _read(self) -> None:
        try:
            with open(self._path, "rb") as file:
                data = file.read(_MAX_INDEX + 1)
        except FileNotFoundError:
            self._write()
            return
        try:
            entries = document.load(data, self._path, _MAX_INDEX).get("manifests") or []
            if not isinstance(entries, list):
                raise InvalidArgument(f"{self._path}: manifests must be a list")
        except InvalidArgument as error:
            self._begin_anew(error)
            return
        for entry in entries:
            try:
                self._load(Descriptor.from_json(entry))
            except (EngineError, ValueError) as error:
                log.error("an image is left out: %s", error)

    def _begin_anew(self, error: EngineError) -> None:
        """Keep the damaged file for a person to look at, and take up every image whose documents are here."""
        kept = f"{self._path}.damaged"
        log.error("the names of all images are lost: %s: the file is kept as %s", error, kept)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(kept)
        os.link(self._path, kept)  # it stays in its place, too, until there is another
        for digest, size in list(self._content.walk()):
            if size <= document.MAX_DOCUMENT:
                with contextlib.suppress(EngineError):
                    parsed = Manifest.parse(self._content.read(digest, document.MAX_DOCUMENT))
                    descriptor = Descriptor(parsed.media_type, digest, size)
                    self.put(descriptor, descriptor)
        try:
            self._write()
        except NoSpace as full:
            log.error("%s", full)

    def documents(self, manifest: Descriptor) -> Documents:
        """The parsed manifest and config; read and verified once.

        Raises:
            NotFound: a blob is missing.
            DataLoss, InvalidArgument: a blob is damaged or no manifest.
        """
        found = self._documents.get(manifest.digest)
        if found is None:
            parsed = Manifest.parse(
                self._content.read(manifest.digest, document.MAX_DOCUMENT), manifest.media_type or None
            )
            config = ImageConfig.parse(self._content.read(parsed.config.digest, MAX_CONFIG))
            if len(config.diff_ids) != len(parsed.layers):
                counts = f"{len(parsed.layers)} layers but its config lists {len(config.diff_ids)}"
                raise InvalidArgument(f"the image has {counts}: it is broken, or no container image")
            found = self._documents[manifest.digest] = Documents(parsed, config)
        return found

    def put(self, manifest: Descriptor, target: Descriptor) -> Digest:
        """Make the image known without a name; its id."""
        image_id = self.documents(manifest).manifest.config.digest
        known = self.images.get(image_id)
        if known is None:
            self.images[image_id] = Known(manifest, target)
        else:
            known.manifest, known.target = manifest, target
        return image_id

    def name(self, name: str, image_id: Digest, manifest: Descriptor, target: Descriptor) -> None:
        """Let `name` lead to the image; the one it led to before stays, perhaps without a name."""
        when = now()
        self.names[name] = Named(image_id, manifest, target, when)
        self.images[image_id].tagged_at = when

    def drop(self, image_id: Digest) -> None:
        """Forget an image and every name of it."""
        self.images.pop(image_id, None)
        for name in self.names_of(image_id):
            del self.names[name]
        kept = {known.manifest.digest for known in self.images.values()} | {
            n.manifest.digest for n in self.names.values()
        }
        self._documents = {digest: found for digest, found in self._documents.items() if digest in kept}

    def names_of(self, image_id: Digest) -> list[str]:
        """The names of an image, sorted."""
        return sorted(name for name, named in self.names.items() if named.image_id == image_id)

    def roots(self) -> list[Descriptor]:
        """Every descriptor that keeps blobs alive: targets and manifests of names and images."""
        holders: list[Named | Known] = [*self.names.values(), *self.images.values()]
        return [descriptor for holder in holders for descriptor in (holder.target, holder.manifest)]

    def save(self) -> None:
        """Write the file.

        Raises:
            NoSpace: the disk is full; names and images are what they were when the file was last written.
        """
        try:
            self._write()
        except BaseException:
            self.names, self.images = _copies(*self._written)
            raise
        self._written = _copies(self.names, self.images)

    def _write(self) -> None:
        entries: list[Descriptor] = []
        for image_id, known in self.images.items():
            names = self.names_of(image_id)
            extra = {_DIGESTS: " ".join(sorted(known.digests))} if known.digests else {}
            entries += [_entry(self.names[name], extra | {REF_NAME: name}) for name in names]
            if not names:
                entries.append(_entry(Named(image_id, known.manifest, known.target, known.tagged_at), extra))
        index = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [entry.to_json() for entry in entries],
        }
        atomic_write(self._path, document.dump(index), mode=0o644)

    def _load(self, entry: Descriptor) -> None:
        notes = entry.annotations
        target = entry.bare()
        manifest = target
        try:
            if _MANIFEST in notes:
                size = int(notes.get(_MANIFEST_SIZE, "0"))
                manifest = Descriptor(notes.get(_MANIFEST_TYPE, ""), Digest.parse(notes[_MANIFEST]), size)
            image_id = self.put(manifest, target)
        except NotFound as error:
            log.error("image %s is left out: %s", notes.get(REF_NAME, target.digest), error)
            return
        known = self.images[image_id]
        known.digests.update(notes.get(_DIGESTS, "").split())
        known.tagged_at = max(filter(None, (known.tagged_at, notes.get(_TAGGED))), default=None)
        if REF_NAME in notes:
            self.names[notes[REF_NAME]] = Named(image_id, manifest, target, notes.get(_TAGGED))


def _copies(names: dict[str, Named], images: dict[Digest, Known]) -> tuple[dict[str, Named], dict[Digest, Known]]:
    """Neither changes with the originals."""
    return dict(names), {image_id: replace(known, digests=set(known.digests)) for image_id, known in images.items()}


def _entry(named: Named, extra: dict[str, str]) -> Descriptor:
    notes = dict(extra)
    if named.tagged_at:
        notes[_TAGGED] = named.tagged_at
    if named.manifest.digest != named.target.digest:
        notes[_MANIFEST] = named.manifest.digest
        notes[_MANIFEST_TYPE] = named.manifest.media_type
        notes[_MANIFEST_SIZE] = str(named.manifest.size)
    return replace(named.target, annotations=notes)
