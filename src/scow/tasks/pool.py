"""What the daemon wants of the keeper's pool: how many sandboxes, and prepared for which containers."""

from dataclasses import dataclass, field
from typing import Any

from scow.linux.cgroup import layout
from scow.runtime.prepare import fits, split
from scow.tasks.spec import DEFAULT_SHM_SIZE, default_spec

#: Sandboxes kept ready at most, and made in a second.
MOST, RATE = 8, 100
#: Where the engine's containers have their cgroups.
PARENT = "/scow"


@dataclass(slots=True)
class SandboxPool:
    """Sandboxes for containers without particular wishes.

    Attributes:
        most: how many there may be; how many there are follows demand. 0: none, every start does everything.
        rate: how many are made in a second, at most.
        shm_size: bytes of /dev/shm of such a container.
        parent: cgroup in which such a container has its own.
    """

    most: int = MOST
    rate: int = RATE
    shm_size: int = DEFAULT_SHM_SIZE
    parent: str = PARENT
    _first: dict[str, Any] = field(default_factory=dict)

    def first(self) -> dict[str, Any]:
        """The first part of what such a container is made from, see `scow.runtime.prepare.split`."""
        if not self._first:
            spec = default_spec(args=["true"], cgroup=f"{self.parent}/parked", shm_size=self.shm_size)
            self._first = split(spec, layout())[0]
        return self._first

    def message(self) -> dict[str, Any]:
        """What the keeper is told."""
        return {"most": self.most, "rate": self.rate, "first": self.first()}

    def suits(self, spec: dict[str, Any]) -> bool:
        """Whether a container of `spec` may take a sandbox of the pool."""
        return self.most > 0 and fits(split(spec, layout())[0], self.first())
