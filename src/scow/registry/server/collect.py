"""Garbage collection of the registry: blobs no manifest of their repository names any more.

Mark: every manifest of every repository, its config and layers. Sweep: links to unmarked blobs, then blobs without
links. It runs while the server does not (both hold the lock of the root), so no upload can race with it.
"""

import contextlib
from dataclasses import dataclass

from scow.oci.digest import Digest
from scow.oci.document import MAX_DOCUMENT
from scow.oci.manifest import Index, Manifest
from scow.oci.mediatypes import is_index
from scow.registry.server.repositories import LAYERS, Repositories, Repository


@dataclass(frozen=True, slots=True)
class Plan:
    """What a collection would remove: untagged manifests, links, blobs and the bytes those free."""

    manifests: tuple[tuple[str, Digest], ...]
    links: tuple[tuple[str, Digest], ...]
    blobs: tuple[Digest, ...]
    size: int


def plan(repositories: Repositories, *, untagged: bool = False) -> Plan:
    """Mark. With `untagged`, manifests no tag, index or subject leads to are garbage too. Blocking."""
    kept: set[Digest] = set()
    manifests: list[tuple[str, Digest]] = []
    links: list[tuple[str, Digest]] = []
    for name in _all_names(repositories):
        repository = repositories.get(name)
        alive = _reachable(repository) if untagged else set(repository.manifests())
        manifests += [(name, digest) for digest in repository.manifests() if digest not in alive]
        needed = _blobs_of(repository, alive)
        links += [(name, digest) for digest in _layers(repository) if digest not in needed]
        kept |= alive | needed
    garbage = [(digest, size) for digest, size in repositories.content.walk() if digest not in kept]
    return Plan(
        tuple(manifests), tuple(links), tuple(digest for digest, _ in garbage), sum(size for _, size in garbage)
    )


def apply(repositories: Repositories, wanted: Plan) -> None:
    """Sweep what `wanted` lists: names before bytes, so a crash leaves garbage and never a name without bytes.
    Blocking."""
    for name, digest in wanted.manifests:
        repositories.get(name).delete_manifest(digest)
    for name, digest in wanted.links:
        with contextlib.suppress(FileNotFoundError):
            (repositories.get(name).folder / LAYERS / digest.hex).unlink()
    for digest in wanted.blobs:
        repositories.content.delete(digest)


def _all_names(repositories: Repositories) -> list[str]:
    """Every folder that is a repository, also those without manifests (uploads that were never finished by one)."""
    found = {str(path.parent.relative_to(repositories.root)) for path in repositories.root.rglob(LAYERS)}
    return sorted(found | set(repositories.names()))


def _layers(repository: Repository) -> list[Digest]:
    folder = repository.folder / LAYERS
    return [Digest.parse(f"sha256:{entry.name}") for entry in folder.iterdir()] if folder.is_dir() else []


def _blobs_of(repository: Repository, manifests: set[Digest]) -> set[Digest]:
    found: set[Digest] = set()
    for digest in manifests:
        media_type = repository.manifest_type(digest)
        if not is_index(media_type):
            manifest = Manifest.parse(repository.content.read(digest, MAX_DOCUMENT), media_type)
            found |= {manifest.config.digest, *(layer.digest for layer in manifest.layers)}
    return found


def _reachable(repository: Repository) -> set[Digest]:
    """Manifests a tag leads to, through indexes and as referrers of what is reachable."""
    alive: set[Digest] = set()
    waiting = [repository.tag_digest(tag) for tag in repository.tags()]
    while waiting:
        digest = waiting.pop()
        if digest in alive or not repository.has_manifest(digest):
            continue
        alive.add(digest)
        waiting += repository.referrers(digest)
        media_type = repository.manifest_type(digest)
        if is_index(media_type):
            index = Index.parse(repository.content.read(digest, MAX_DOCUMENT), media_type)
            waiting += [entry.digest for entry in index.manifests]
    return alive
