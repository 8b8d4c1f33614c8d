"""Digests: the names of bytes.

A `Digest` is a string of the form ``sha256:<64 hex>`` that was checked once, where it came in; code that holds one may
use it as a file name. sha256 is the only algorithm: image-spec 1.1 makes it the one everybody must support, and a
second would give one blob two names.
"""

import hashlib
import re

from scow.errors import InvalidArgument

_FORM = re.compile(r"sha256:[0-9a-f]{64}")
ALGORITHM = "sha256"


class Digest(str):
    """A checked ``sha256:<64 hex>``; make one with `Digest.parse` or `digest_of`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> "Digest":
        """The digest `text` spells.

        Raises:
            InvalidArgument: not a string, another algorithm, or not 64 lower-case hexadecimal digits.

        Source: image-spec 1.1 descriptor.md "Digests".
        """
        if isinstance(text, cls):
            return text
        if not isinstance(text, str) or not _FORM.fullmatch(text):
            shown = text[:100] if isinstance(text, str) else type(text).__name__
            raise InvalidArgument(f"invalid digest {shown!r}: give sha256: and 64 hexadecimal digits")
        return cls(text)

    @classmethod
    def of_hash(cls, running: "hashlib._Hash") -> "Digest":
        """The digest of everything `running` (a sha256 object) has seen; it may be fed further."""
        return cls(f"{ALGORITHM}:{running.hexdigest()}")

    @property
    def algorithm(self) -> str:
        return ALGORITHM

    @property
    def hex(self) -> str:
        """The 64 digits, which is the blob's file name."""
        return self[len(ALGORITHM) + 1 :]

    @property
    def short(self) -> str:
        """The first 12 digits, as lists show them."""
        return self.hex[:12]


def digest_of(data: bytes | memoryview) -> Digest:
    """The digest of `data`."""
    return Digest.of_hash(hashlib.sha256(data))
