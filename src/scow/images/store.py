"""The images of this engine: names, lookup, life and death. The entrance to the room; the work is in the modules
beside.

Disk: blobs in the content store, names in its index.json (`records`), trees in the snapshotter. Invariant: a name
leads to an image whose manifest, config and layers are in the content store and whose layers are unpacked. One lock
guards the records; unpacking, hashing and compressing run outside of it. Every method blocks and may be called from
any thread.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from scow.api.filters import Filters
from scow.content.store import ContentStore
from scow.errors import AlreadyExists, Conflict, EngineError, InvalidArgument, NoSpace, NoSuchImage, NotFound
from scow.images import archive, gc, inspect, lookup, removal, unpack
from scow.images.history import history
from scow.images.image import Image
from scow.images.layer import LayerWriter
from scow.images.records import Known, Named, Records
from scow.oci.config import History, ImageConfig
from scow.oci.descriptor import Descriptor
from scow.oci.digest import Digest
from scow.oci.manifest import Index, Manifest
from scow.oci.mediatypes import OCI_CONFIG, OCI_MANIFEST, is_index, is_manifest
from scow.oci.reference import Reference
from scow.snapshots.compression import unpacked
from scow.snapshots.diff import write_diff
from scow.snapshots.layers import chain_id, chain_ids
from scow.snapshots.snapshotter import Snapshotter
from scow.snapshots.tarstream import Readable

log = logging.getLogger("scow.images")

_PIECE = 1 << 20
# Inside the class `list` is the method.
UsersOf = Mapping[Digest, list[str]]
Lines = list[dict[str, str]]
Objects = list[dict[str, Any]]
Found = list[Image]
Loaded = list[str]
_NO_USERS: UsersOf = {}
Output = Callable[[bytes], object]
Progress = Callable[[dict[str, Any]], object]


class Images:
    """Every image of the engine."""

    def __init__(self, content: ContentStore, snapshots: Snapshotter) -> None:
        """Open the image names of `content`.

        Raises:
            InvalidArgument: the names file is not an index.
        """
        self.content = content
        self.snapshots = snapshots
        self._lock = threading.RLock()
        self._claims: list[Callable[[], Iterable[str]]] = []
        unpack.sweep(snapshots)
        self._records = Records(content)

    # ── finding ──

    def resolve(self, ref: str) -> Image:
        """The image `ref` names: name, name@digest, id, or the beginning of an id (at least one digit).

        Raises:
            NoSuchImage: there is none.
            InvalidArgument: several ids begin so, or `ref` cannot be a name.
        """
        with self._lock:
            image_id, _, named = lookup.find(ref, self._records.names, self._records.images)
            return self._image(image_id, named)

    def get(self, image_id: Digest) -> Image:
        """The image with this id; NoSuchImage."""
        return self.resolve(image_id)

    def list(self) -> Found:
        """All images, in no order."""
        with self._lock:
            return [self._image(image_id) for image_id in list(self._records.images)]

    # ── adding ──

    def add(self, config: ImageConfig, layers: Sequence[Descriptor], name: Reference | None) -> Image:
        """Make an image of `layers`, which are in the content store, one for every diff id of `config`.

        Raises:
            InvalidArgument: layers and diff ids are not equally many.
            NotFound: a layer is missing.
        """
        if len(layers) != len(config.diff_ids):
            raise InvalidArgument(f"{len(layers)} layers were given but the config lists {len(config.diff_ids)}")
        with self.content.leases.hold():
            stored = self.content.write(config.to_bytes(), OCI_CONFIG)
            bare = tuple(layer.bare() for layer in layers)
            manifest = self.content.write(Manifest(OCI_MANIFEST, stored, bare).to_bytes(), OCI_MANIFEST)
            return self.put(manifest, name)

    def put(
        self,
        manifest: Descriptor,
        name: Reference | None,
        index: Descriptor | None = None,
        *,
        pulled: bool = True,
        progress: unpack.Progress | None = None,
    ) -> Image:
        """Make the image of a manifest in the content store known, and let `name` lead to it.

        Missing snapshots are unpacked. A name that led to another image leaves that one without it (dangling, if it
        was the last).

        Args:
            name: becomes a name of the image; with a digest (and whatever tag) it is known as repository@digest.
            index: what the manifest was chosen from.
            pulled: whether repository@digest leads to it from now on, when `index` is given or `name` has a digest.
            progress: told about unpacking (layer's index, bytes done, bytes in all).

        Raises:
            NotFound: a blob is missing.
            InvalidArgument: manifest or config is broken, or no container image.
            DigestMismatch: a layer is not what the config says.
            NoSpace: the disk is full.
        """
        manifest, target = manifest.bare(), (index or manifest).bare()
        with self.content.leases.hold():
            found = self._records.documents(manifest)
            for layer in found.manifest.layers:
                if not self.content.has(layer.digest):
                    raise NotFound(f"layer {layer.digest} is not in the content store: pull or load the image again")
            while True:
                top = unpack.unpack(
                    self.content, self.snapshots, found.manifest.layers, found.config.diff_ids, progress
                )
                with self._lock:
                    if top is not None and not self.snapshots.exists(top):
                        continue  # removed with another image between unpacking and now
                    image = self._record(manifest, target, name, pulled and (index is not None or _by_digest(name)))
                    break
            self.content.leases.settle(gc.mark([target, manifest], self._children))
            return image

    def tag(self, ref: str, target: Reference) -> Image:
        """Let the name `target` lead to the image `ref`.

        Raises:
            NoSuchImage: no image `ref`.
            InvalidArgument: `target` has a digest.
        """
        if target.digest is not None:
            raise InvalidArgument("refusing to create a tag with a digest reference")
        with self._lock:
            image_id, _, named = lookup.find(ref, self._records.names, self._records.images)
            known = self._records.images[image_id]
            source = named or Named(image_id, known.manifest, known.target, None)
            self._records.name(_canonical(target), image_id, source.manifest, source.target)
            self._records.save()
            return self._image(image_id)

    def note_digest(self, image_id: Digest, reference: Reference) -> None:
        """Remember that a registry has the image as `reference` (repository@digest), after a push.

        Raises:
            NoSuchImage: the image is gone.
        """
        with self._lock:
            self.get(image_id)
            self._records.images[image_id].digests.add(f"{reference.name}@{reference.digest}")
            self._records.save()

    def add_layer(self, key: str, *, compression: str = "gzip", keep: bool = False) -> tuple[Descriptor, Digest, str]:
        """Make a layer of what the active snapshot `key` changed: (blob, diff id, chain id).

        The snapshot is committed under its chain id (if that exists already, `key` is just removed).

        Args:
            keep: leave `key` as it is (``docker commit`` of a container that goes on) and unpack the layer beside it.

        Raises:
            NotFound: no active snapshot `key`.
            NoSpace: the disk is full; nothing changed.
        """
        parent = self.snapshots.info(key).parent
        with LayerWriter(self.content, compression) as writer:
            write_diff(self.snapshots, key, writer.write)
            layer, diff_id = writer.commit()
        name = chain_id([Digest(parent), diff_id]) if parent is not None else str(diff_id)
        if keep:
            unpack.unpack_one(self.content, self.snapshots, layer, diff_id, name, parent)
        else:
            with contextlib.suppress(AlreadyExists):
                self.snapshots.commit(name, key)
        return layer, diff_id, name

    def import_rootfs(
        self, stream: Readable, name: Reference | None, changes: Mapping[str, Any] | None = None, message: str = ""
    ) -> Image:
        """Make an image of one layer from a tar of a whole file system, packed or not.

        Args:
            changes: the container config of the new image (Cmd, Env, …).
            message: comment of its history.

        Raises:
            InvalidArgument: no tar archive, or a hostile one.
        """
        blobs: set[Digest] = set()
        try:
            with self.content.leases.hold():
                with LayerWriter(self.content) as writer:
                    plain = unpacked(stream)
                    while piece := plain.read(_PIECE):
                        writer.write(piece)
                    layer, diff_id = writer.commit()
                blobs.add(layer.digest)
                made = archive.new_config(changes or {}, diff_id, History(comment=message or "Imported from -"))
                return self.add(made, [layer], name)
        finally:
            self._release(blobs)

    # ── removing ──

    def remove(
        self,
        ref: str,
        *,
        force: bool = False,
        prune: bool = True,
        users: UsersOf = _NO_USERS,
        running: Collection[str] = (),
    ) -> Lines:
        """Take away a name, and the image with its last one; the API's list of Untagged and Deleted lines.

        Args:
            force: remove in spite of stopped containers and further names.
            prune: kept for the API: layers nobody uses any more always go.
            users: containers by the image they were made from.
            running: those of them that run.

        Raises:
            NoSuchImage: no such image.
            Conflict: it is in use; Docker's texts.
        """
        del prune
        with self._lock:
            image_id, reference, _ = lookup.find(ref, self._records.names, self._records.images)
            image = self._image(image_id)
            if reference is not None and str(reference) not in (*image.names, *image.digests):
                raise NoSuchImage(ref)
            plan = removal.plan(image_id, image.names, image.digests, reference, removal.Users(users, running), force)
            lines = [{"Untagged": Reference.parse(name, None).familiar()} for name in plan.untag]
            candidates = gc.mark(self._roots_of(image_id), self._children) if plan.delete else set()
            known = self._records.images[image_id]
            for name in plan.untag:
                self._records.names.pop(name, None)
                known.digests.discard(name)
            if not plan.delete:
                self._records.save()
                return lines
            saved = self._dropped(image_id)
            chains = list(reversed(chain_ids(image.config.diff_ids)))
            removed, _ = gc.sweep_chains(self.snapshots, self._live_chains(), chains)
            gc.sweep_blobs(self.content, self._live_blobs(), candidates)
            if not saved and not self._dropped(image_id):
                log.error("%s is removed, but the disk has no room to write that down", image_id.short)
            return [*lines, {"Deleted": str(image_id)}, *({"Deleted": name} for name in removed)]

    def prune(
        self,
        *,
        dangling: bool,
        keep: Callable[[Image], bool],
        users: UsersOf = _NO_USERS,
        running: Collection[str] = (),
    ) -> tuple[Lines, int]:
        """Remove unused images: (lines as `remove` gives them, bytes freed).

        Args:
            dangling: only those without a name; else all that no container uses.
            keep: images to spare (filters).
        """
        lines: Lines = []
        before = self._stored()
        with self._lock:
            for image in self.list():
                if (dangling and image.names) or users.get(image.id) or keep(image):
                    continue
                # By name as long as there are names: an image in several repositories goes name by name.
                for ref in [*image.names, *image.digests] or [str(image.id)]:
                    with contextlib.suppress(NotFound, Conflict):
                        lines += self.remove(ref, users=users, running=running)
            live = self._live_chains()
            gc.sweep_chains(self.snapshots, live, gc.unreferenced_chains(self.snapshots, live))
            gc.sweep_blobs(self.content, self._live_blobs(), [digest for digest, _ in self.content.walk()])
            self.content.drop_partials()
        return lines, max(0, before - self._stored())

    def claim(self, claim: Callable[[], Iterable[str]]) -> None:
        """Let `claim` be asked, before anything is collected, for digests and chain ids that must stay (build
        cache)."""
        self._claims.append(claim)

    # ── telling ──

    def history(self, ref: str) -> Objects:
        """The API's image history of `ref`; NoSuchImage."""
        return history(self.resolve(ref), self._usage)

    def inspect(self, ref: str) -> dict[str, Any]:
        """The API's ImageInspect of `ref`; NoSuchImage."""
        image = self.resolve(ref)
        details = self.snapshots.details(image.top) if image.top and self.snapshots.exists(image.top) else None
        return inspect.inspect(image, self.snapshots.driver, details)

    def select(self, filters: Filters) -> Found:
        """The images that meet `filters`, newest first.

        Raises:
            InvalidArgument: an unknown filter or an unreadable value.
        """
        return inspect.select(self.list(), filters, self.resolve)

    def summaries(
        self,
        filters: Filters | None = None,
        *,
        shared_size: bool = False,
        users: UsersOf | None = None,
    ) -> Objects:
        """The API's image list.

        Args:
            shared_size: whether to count what images share; else -1.
            users: containers by image, to count them; None: -1.
        """
        shared = inspect.shared_sizes(self.list(), self._usage) if shared_size else {}
        return [
            inspect.summary(image, -1 if users is None else len(users.get(image.id, ())), shared.get(image.id, -1))
            for image in self.select(filters or Filters())
        ]

    def layers_size(self) -> int:
        """Bytes on disk of all unpacked layers (`docker system df`)."""
        names = {name for image in self.list() for name in chain_ids(image.config.diff_ids)}
        return sum(self._usage(name) for name in names)

    # ── archives ──

    def save(self, refs: Sequence[str], out: Output) -> None:
        """Write one tar with the images `refs`, readable as OCI layout and by ``docker load``, to `out`.

        A repository without tag means all its tags, as with Docker.

        Raises:
            NoSuchImage: a name leads nowhere; nothing was written.
        """
        archive.save(self.content, self._expand(refs), out)

    def load(self, stream: Readable, progress: Progress) -> Loaded:
        """Load the images in an archive (docker-archive or OCI layout, packed or not); lines "Loaded image: name".

        Raises:
            InvalidArgument: no such archive, or a hostile one.
            DigestMismatch: a blob is not what it is called.
            NoSpace: the disk is full.
        """
        blobs: set[Digest] = set()
        lines: Loaded = []
        try:
            with self.content.leases.hold():
                for item in archive.load(self.content, stream, progress, blobs):
                    names: Sequence[Reference | None] = item.names or [None]
                    for name in names:
                        image = self.put(item.manifest, name, item.index, pulled=False)
                        lines.append(f"Loaded image: {name.familiar()}" if name else f"Loaded image ID: {image.id}")
        finally:
            self._release(blobs)
        return lines

    # ── inside ──

    def _image(self, image_id: Digest, named: Named | None = None) -> Image:
        known = self._records.images[image_id]
        source = named or known
        found = self._records.documents(source.manifest)
        chain = chain_ids(found.config.diff_ids)
        return Image(
            id=image_id,
            manifest=source.manifest,
            config=found.config,
            layers=found.manifest.layers,
            names=tuple(self._records.names_of(image_id)),
            digests=tuple(sorted(known.digests)),
            size=sum(self._usage(name) for name in chain),
            top=chain[-1] if chain else None,
            tagged_at=known.tagged_at,
            index=source.target if source.target.digest != source.manifest.digest else None,
        )

    def _record(self, manifest: Descriptor, target: Descriptor, name: Reference | None, pulled: bool) -> Image:
        image_id = self._records.put(manifest, target)
        if name is not None:
            if pulled:
                self._records.images[image_id].digests.add(f"{name.name}@{target.digest}")
            if name.tag is not None and name.digest is None:
                self._records.name(_canonical(name), image_id, manifest, target)
        self._records.save()
        return self._image(image_id)

    def _dropped(self, image_id: Digest) -> bool:
        """Forget an image; whether that could be written.

        On a full disk it cannot before something is deleted. An entry whose blobs are gone is left out when the file
        is read, so deleting them first is safe.
        """
        self._records.drop(image_id)
        try:
            self._records.save()
        except NoSpace:
            self._records.drop(image_id)
            return False
        return True

    def _usage(self, name: str) -> int:
        try:
            return self.snapshots.usage(name)
        except NotFound:
            return 0

    def _children(self, descriptor: Descriptor) -> Sequence[Descriptor]:
        """What a manifest or index refers to; of an index only what is here."""
        try:
            if is_manifest(descriptor.media_type):
                manifest = Manifest.parse(self.content.read(descriptor.digest), descriptor.media_type)
                return [manifest.config, *manifest.layers]
            if is_index(descriptor.media_type):
                index = Index.parse(self.content.read(descriptor.digest), descriptor.media_type)
                return [entry for entry in index.manifests if os.path.exists(self.content.path(entry.digest))]
        except EngineError:
            return []  # a damaged document leads nowhere; its image was dropped when the records were read
        return []

    def _roots_of(self, image_id: Digest) -> Sequence[Descriptor]:
        known = self._records.images[image_id]
        named = [named for named in self._records.names.values() if named.image_id == image_id]
        holders: Sequence[Known | Named] = [known, *named]
        return [descriptor for holder in holders for descriptor in (holder.target, holder.manifest)]

    def _claimed(self) -> set[str]:
        return {str(item) for claim in self._claims for item in claim()}

    def _live_blobs(self) -> set[str]:
        return {str(digest) for digest in gc.mark(self._records.roots(), self._children)} | self._claimed()

    def _live_chains(self) -> set[str]:
        live = self._claimed()
        holders: Sequence[Known | Named] = [*self._records.images.values(), *self._records.names.values()]
        for descriptor in {holder.manifest.digest: holder.manifest for holder in holders}.values():
            live.update(chain_ids(self._records.documents(descriptor).config.diff_ids))
        return live

    def _release(self, blobs: Iterable[Digest]) -> None:
        """Collect those of `blobs` no image has taken."""
        with self._lock:
            blobs = list(blobs)
            self.content.leases.settle(blobs)
            gc.sweep_blobs(self.content, self._live_blobs(), blobs)

    def _stored(self) -> int:
        blobs = sum(size for _, size in self.content.walk())
        return blobs + sum(self._usage(info.name) for info in self.snapshots.walk() if info.name.startswith("sha256:"))

    def _expand(self, refs: Sequence[str]) -> Sequence[archive.Saved]:
        with self._lock:
            return [saved for ref in refs for saved in self._expand_one(ref)]

    def _expand_one(self, ref: str) -> Iterator[archive.Saved]:
        repository = None
        with contextlib.suppress(InvalidArgument):
            reference = Reference.parse(ref, None)
            if reference.tag is None and reference.digest is None:
                repository = reference.name + ":"
        names = [name for name in self._records.names if repository is not None and name.startswith(repository)]
        for name in sorted(names):
            tagged = self._records.names[name]
            yield archive.Saved(self._image(tagged.image_id, tagged), Reference.parse(name))
        if not names:
            image_id, found, named = lookup.find(ref, self._records.names, self._records.images)
            yield archive.Saved(self._image(image_id, named), found if found is not None and found.tag else None)


def _canonical(reference: Reference) -> str:
    """The key of a name: repository and tag."""
    return str(replace(reference, tag=reference.tag or "latest", digest=None))


def _by_digest(name: Reference | None) -> bool:
    return name is not None and name.digest is not None
