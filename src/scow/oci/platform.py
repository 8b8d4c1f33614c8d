"""Platforms: the machine an image is for, ``os/architecture[/variant]``.

Names are Go's (GOOS/GOARCH), as image-spec 1.1 asks; what users and kernels say instead (x86_64, aarch64) is
translated at the door.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from scow.errors import InvalidArgument
from scow.oci import document

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_SYSTEMS = frozenset({"android", "darwin", "freebsd", "illumos", "linux", "netbsd", "openbsd", "solaris", "windows"})
_SYNONYMS: dict[str, tuple[str, str]] = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "ppc64el": ("ppc64le", ""),
    "mips64el": ("mips64le", ""),
}


def _normalized(architecture: str, variant: str) -> tuple[str, str]:
    """The spelling under which equal machines compare equal."""
    architecture, implied = _SYNONYMS.get(architecture.lower(), (architecture.lower(), ""))
    variant = variant.lower() or implied
    if variant and variant[0].isdigit():
        variant = "v" + variant
    if architecture == "arm64" and variant == "v8":
        variant = ""
    elif architecture == "arm" and not variant:
        variant = "v7"
    elif architecture == "amd64" and variant == "v1":
        variant = ""
    return architecture, variant


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and processor; ``variant`` and ``os_version`` are empty where there is no choice."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    @classmethod
    def parse(cls, text: str) -> "Platform":
        """The platform `text` names: ``linux/arm64/v8``, ``linux`` (this processor) or ``arm64`` (this system).

        Raises:
            InvalidArgument: more than three parts, or signs no platform has.
        """
        parts = text.split("/")
        if len(parts) > 3 or not all(_PART.fullmatch(part) for part in parts):
            raise InvalidArgument(f"{text[:100]!r} is an invalid platform: write os/architecture[/variant]")
        if len(parts) == 1:
            host = host_platform()
            if parts[0].lower() in _SYSTEMS:
                return cls(parts[0].lower(), host.architecture, host.variant)
            return cls(host.os, *_normalized(parts[0], ""))
        return cls(parts[0].lower(), *_normalized(parts[1], parts[2] if len(parts) == 3 else ""))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Platform":
        """The platform of a descriptor, as written there (not normalised: it must go back unchanged)."""
        what = "platform"
        return cls(
            os=document.text(value, "os", what, ""),
            architecture=document.text(value, "architecture", what, ""),
            variant=document.text(value, "variant", what, ""),
            os_version=document.text(value, "os.version", what, ""),
        )

    def to_json(self) -> dict[str, Any]:
        """The wire form (image-spec 1.1 image-index.md "platform")."""
        found: dict[str, Any] = {"architecture": self.architecture, "os": self.os}
        if self.os_version:
            found["os.version"] = self.os_version
        if self.variant:
            found["variant"] = self.variant
        return found

    def normalized(self) -> "Platform":
        """The same machine in the one spelling used for comparing."""
        return Platform(self.os.lower(), *_normalized(self.architecture, self.variant), self.os_version)

    def matches(self, other: "Platform") -> bool:
        """Whether an image for `other` is one for this platform: same system, processor and variant, however spelled.

        An empty `os_version` here accepts any.
        """
        mine, its = self.normalized(), other.normalized()
        same = (mine.os, mine.architecture, mine.variant) == (its.os, its.architecture, its.variant)
        return same and (not mine.os_version or mine.os_version == its.os_version)

    def fallbacks(self) -> tuple["Platform", ...]:
        """Platforms whose programs run here too, best first: this one, then older variants of the same processor."""
        mine = self.normalized()
        if mine.architecture == "arm":
            older = [v for v in ("v8", "v7", "v6", "v5") if v <= mine.variant]
        elif mine.architecture == "amd64":
            older = [v for v in ("v4", "v3", "v2") if v <= mine.variant] + [""]
        elif mine.architecture == "arm64" and mine.variant:
            older = [mine.variant, ""]
        else:
            older = [mine.variant]
        return tuple(Platform(mine.os, mine.architecture, variant, mine.os_version) for variant in older)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@lru_cache(maxsize=1)
def host_platform() -> Platform:
    """The platform of this kernel."""
    name = os.uname()
    return Platform(name.sysname.lower(), *_normalized(name.machine, ""))
