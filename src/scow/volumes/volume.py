"""One volume: what it is called, how it was made, and its forms on the wire and on disk."""

from dataclasses import dataclass, field
from typing import Any

from scow.api.units import SECOND, rfc3339
from scow.errors import DataLoss

ANONYMOUS = "com.docker.volume.anonymous"
LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume of the local driver. `created` is ns since 1970; `options` are the driver's (type, device, o)."""

    name: str
    mountpoint: str
    created: int
    driver: str = LOCAL
    labels: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)

    @property
    def anonymous(self) -> bool:
        """Whether it was made for a container without a name."""
        return ANONYMOUS in self.labels

    def to_api(self) -> dict[str, Any]:
        """The API's Volume object."""
        return {
            "CreatedAt": rfc3339(self.created - self.created % SECOND),
            "Driver": self.driver,
            "Labels": dict(self.labels),
            "Mountpoint": self.mountpoint,
            "Name": self.name,
            "Options": dict(self.options) or None,
            "Scope": "local",
        }

    def to_json(self) -> dict[str, Any]:
        """The record on disk; where it lies says its name."""
        return {"driver": self.driver, "created": self.created, "labels": self.labels, "options": self.options}

    @classmethod
    def from_json(cls, name: str, mountpoint: str, record: dict[str, Any]) -> "Volume":
        """The volume in a record.

        Raises:
            DataLoss: the record is damaged.
        """
        try:
            labels, options = dict(record["labels"]), dict(record["options"])
            texts = [*labels.items(), *options.items(), (record["driver"],)]
            if not all(isinstance(part, str) for item in texts for part in item):
                raise TypeError("texts expected")
            return cls(name, mountpoint, int(record["created"]), record["driver"], labels, options)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataLoss(f"the record of volume {name} is damaged: {error!r}") from None
