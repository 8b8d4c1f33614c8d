"""References: how people name images, ``[domain/]path[:tag][@digest]``.

The grammar and its defaults are Docker's: ``busybox`` means ``docker.io/library/busybox:latest``. The canonical form
is the key names are stored under; the familiar form is what people are shown.
"""

import re
from dataclasses import dataclass, replace

from scow.errors import InvalidArgument
from scow.oci.digest import Digest

DEFAULT_DOMAIN = "docker.io"
_OLD_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
DEFAULT_TAG = "latest"
MAX_NAME = 255
_MAX_TEXT = 1024

_DOMAIN_PART = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PATH_PART}(?:/{_PATH_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HEX64 = re.compile(r"[a-f0-9]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed name; ``tag`` and ``digest`` may both be there, then the digest decides."""

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str, default_tag: str | None = DEFAULT_TAG) -> "Reference":
        """The reference `text` spells, with Docker's defaults filled in.

        Args:
            default_tag: tag for a text with neither tag nor digest; None leaves it without.

        Raises:
            InvalidArgument: "invalid reference format", as Docker words it.

        Source: distribution reference grammar (github.com/distribution/reference).
        """
        if len(text) > _MAX_TEXT:
            raise InvalidArgument("invalid reference format: it is longer than a reference may be")
        rest, at, digest_text = text.partition("@")
        if _HEX64.fullmatch(text):
            raise InvalidArgument(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
        digest = _digest(digest_text) if at else None
        domain, remainder = _split_domain(rest)
        path, colon, tag = remainder.partition(":")
        if colon and not _TAG.fullmatch(tag):
            raise InvalidArgument(f"invalid reference format: {tag[:140]!r} is not a tag")
        if path != path.lower():
            raise InvalidArgument(f"invalid reference format: repository name ({path}) must be lowercase")
        if not _PATH.fullmatch(path) or not _DOMAIN.fullmatch(domain):
            raise InvalidArgument("invalid reference format")
        if len(domain) + 1 + len(path) > MAX_NAME:
            raise InvalidArgument(f"repository name must not be more than {MAX_NAME} characters")
        chosen = tag if colon else (default_tag if digest is None else None)
        return cls(domain, path, chosen, digest)

    @property
    def name(self) -> str:
        """``docker.io/library/busybox``: the repository, canonical."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """``busybox``: the repository as people write it."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        rest = self.path.removeprefix(_OFFICIAL)
        # "docker.io/library/a/b" shortened to "a/b" would be read back as another repository.
        return rest if "/" not in rest else self.path

    def familiar(self) -> str:
        """``busybox:latest``: the whole reference as people write it."""
        return self.familiar_name + self._suffix()

    def with_tag(self, tag: str | None) -> "Reference":
        """The same repository under another tag (None: no tag), without digest."""
        if tag is not None and not _TAG.fullmatch(tag):
            raise InvalidArgument(f"invalid reference format: {tag[:140]!r} is not a tag")
        return replace(self, tag=tag, digest=None)

    def with_digest(self, digest: Digest) -> "Reference":
        """The same repository at `digest`, without tag."""
        return replace(self, tag=None, digest=digest)

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag is not None else "") + (f"@{self.digest}" if self.digest is not None else "")

    def __str__(self) -> str:
        return self.name + self._suffix()


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidArgument:
        raise InvalidArgument(f"invalid reference format: {text[:100]!r} is not a digest") from None


def _split_domain(text: str) -> tuple[str, str]:
    """(domain, rest): the first part is a domain if it looks like a host, else the default applies.

    Docker's rule: a dot, a colon, an upper-case letter or the word localhost makes a host.
    """
    first, slash, rest = text.partition("/")
    host = slash and ("." in first or ":" in first or first == "localhost" or first != first.lower())
    domain, rest = (first, rest) if host else (DEFAULT_DOMAIN, text)
    if domain == _OLD_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in rest.partition(":")[0]:
        rest = _OFFICIAL + rest
    return domain, rest
