"""What a caller wants of a build; the names follow the API's parameters. Pure data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from scow.errors import InvalidArgument
from scow.networks.hosts import parse_extra_host
from scow.oci.platform import Platform
from scow.oci.reference import Reference
from scow.registry.auth import AuthConfig

DEFAULT_SHM_SIZE = 64 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for RUN's containers; 0 or "" is none. Memory and shm in bytes, CPU times in microseconds."""

    memory: int = 0
    memory_swap: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    shm_size: int = DEFAULT_SHM_SIZE
    ulimits: tuple[tuple[str, int, int], ...] = ()  # (name without RLIMIT_, soft, hard)


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """One build.

    Attributes:
        tags: names for the result.
        platform: "" for this machine's.
        allow: what a Dockerfile, which may be a stranger's, may ask for beyond a sandbox: "network.host" (also granted
            by `network` being "host"), "security.insecure".
    """

    dockerfile: str = "Dockerfile"
    remote: str = ""
    tags: tuple[str, ...] = ()
    target: str = ""
    platform: str = ""
    build_args: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    cache_from: tuple[str, ...] = ()
    no_cache: bool = False
    pull: bool = False
    quiet: bool = False
    squash: bool = False
    network: str = "default"
    allow: frozenset[str] = frozenset()
    extra_hosts: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    auths: Mapping[str, AuthConfig] = field(default_factory=dict)

    def check(self) -> tuple[Reference, ...]:
        """The tags as references.

        Raises:
            InvalidArgument: a malformed tag, platform, host or size.
        """
        references = tuple(dict.fromkeys(Reference.parse(tag) for tag in self.tags))
        for reference in references:
            if reference.digest is not None:
                raise InvalidArgument("cannot tag the result with a digest: give a name like app:1.0")
        if self.platform:
            Platform.parse(self.platform)
        for host in self.extra_hosts:
            parse_extra_host(host)
        if self.limits.shm_size < 0 or self.limits.memory < 0:
            raise InvalidArgument("shmsize and memory must not be negative")
        return references
