"""Finding an image by what a user typed: a name, a name with digest, an id, or the beginning of one."""

import re
from collections.abc import Iterable, Mapping

from scow.errors import InvalidArgument, NoSuchImage
from scow.images.records import Known, Named
from scow.oci.digest import Digest
from scow.oci.reference import Reference

_ID = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")


def find(
    ref: str, names: Mapping[str, Named], images: Mapping[Digest, Known]
) -> tuple[Digest, Reference | None, Named | None]:
    """(id, the reference if it was found by name or repository digest, the record of the name).

    Names come before ids, as in Docker: an image called "abc" hides the id abc….

    Raises:
        NoSuchImage: nothing goes by that.
        InvalidArgument: the beginning of an id fits several images, or the text is neither name nor id.
    """
    found = _ID.fullmatch(ref)
    if found is not None and (len(found[1]) == 64 or ref.startswith("sha256:")):
        return _by_id(ref, found[1], images), None, None
    reference = None
    try:
        reference = Reference.parse(ref)
    except InvalidArgument:
        if found is None:
            raise
    if reference is not None:
        if reference.digest is not None:
            image_id = _by_digest(reference, names, images)
            if image_id is None:
                raise NoSuchImage(ref)
            return image_id, reference.with_digest(reference.digest), None
        named = names.get(str(reference))
        if named is not None:
            return named.image_id, reference, named
    if found is not None:
        return _by_id(reference.familiar() if reference is not None else ref, found[1], images), None, None
    assert reference is not None  # else the text was refused above
    raise NoSuchImage(reference.familiar())


def _by_digest(reference: Reference, names: Mapping[str, Named], images: Mapping[Digest, Known]) -> Digest | None:
    canonical = f"{reference.name}@{reference.digest}"
    for image_id, known in images.items():
        if canonical in known.digests:
            return image_id
    for name, named in names.items():
        same = reference.digest in (named.target.digest, named.manifest.digest, named.image_id)
        if same and Reference.parse(name, None).name == reference.name:
            return named.image_id
    return None


def _by_id(shown: str, digits: str, images: Mapping[Digest, Known]) -> Digest:
    matches = _starting(digits, images)
    if not matches and len(digits) == 64:
        # A manifest's or index's digest is what other tools call the image.
        matches = [i for i, known in images.items() if digits in (known.manifest.digest.hex, known.target.digest.hex)]
    if not matches:
        raise NoSuchImage(shown)
    if len(matches) > 1:
        raise InvalidArgument(f"multiple IDs found with provided prefix: {digits}: give more digits")
    return matches[0]


def _starting(digits: str, images: Iterable[Digest]) -> list[Digest]:
    return [image_id for image_id in images if image_id.hex.startswith(digits)]
