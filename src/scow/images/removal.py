"""``docker rmi``: what a reference removes, when it is refused, and in which order the answer lists it.

The rules and texts are Docker's, since clients show and parse them: a name is untagged; the image goes with its last
name; an id removes every name if they belong to one repository; containers and further names are conflicts, soft ones
yield to force, running containers do not.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from scow.errors import Conflict
from scow.oci.digest import Digest
from scow.oci.reference import Reference

_SHORT = 12


@dataclass(frozen=True, slots=True)
class Users:
    """Who uses images: containers by image id, and which containers run."""

    containers: Mapping[Digest, Sequence[str]]
    running: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Removal:
    """What to do: `untag` these names and digests (canonical, in order), then `delete` the image or not."""

    untag: tuple[str, ...]
    delete: bool


def plan(
    image_id: Digest,
    names: Sequence[str],
    digests: Sequence[str],
    removed: Reference | None,
    users: Users,
    force: bool,
) -> Removal:
    """Decide what removing an image does.

    Args:
        names, digests: canonical references that lead to it.
        removed: the reference the user gave; None when it was given by id.

    Raises:
        Conflict: Docker's "conflict: unable to …" texts.
    """
    references = [*names, *digests]
    if removed is None:
        _check(image_id, users, force, () if _single_repository(names, digests) else references)
        return Removal(tuple(references), True)
    using = users.containers.get(image_id, ())
    if using and not force and _single_repository(names, digests):
        raise Conflict(
            f'conflict: unable to remove repository reference "{removed.familiar()}" (must force) - '
            f"container {using[0][:_SHORT]} is using its referenced image {image_id.short}"
        )
    untag = [str(removed)]
    left = [name for name in references if name != str(removed)]
    if removed.digest is None:
        repository = removed.name + "@"
        if not any(Reference.parse(name, None).name == removed.name for name in names if name != str(removed)):
            untag += [digest for digest in digests if digest.startswith(repository)]
            left = [name for name in left if not name.startswith(repository)]
    if left:
        return Removal(tuple(untag), False)
    _check(image_id, users, force, [])
    return Removal(tuple(untag), True)


def _single_repository(names: Sequence[str], digests: Sequence[str]) -> bool:
    """Docker's isSingleReference: at most one reference, or one tag (or none) beside digests of the same repository."""
    if len(names) + len(digests) <= 1:
        return True
    if len(names) > 1:
        return False
    repositories = {digest.partition("@")[0] for digest in digests}
    first = Reference.parse(names[0], None).name if names else digests[0].partition("@")[0]
    return repositories == {first}


def _check(image_id: Digest, users: Users, force: bool, references: Sequence[str]) -> None:
    using = users.containers.get(image_id, ())
    running = next((container for container in using if container in users.running), None)
    if running is not None:
        raise _conflict(image_id, "cannot be forced", f"image is being used by running container {running[:_SHORT]}")
    if force:
        return
    if references:
        raise _conflict(image_id, "must be forced", "image is referenced in multiple repositories")
    if using:
        raise _conflict(image_id, "must be forced", f"image is being used by stopped container {using[0][:_SHORT]}")


def _conflict(image_id: Digest, how: str, why: str) -> Conflict:
    return Conflict(f"conflict: unable to delete {image_id.short} ({how}) - {why}")
