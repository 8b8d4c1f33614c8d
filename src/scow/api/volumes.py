"""The Engine API's volume requests as types."""

from typing import Any

import msgspec


class VolumeCreate(msgspec.Struct, kw_only=True, rename="pascal"):
    """The body of ``POST /volumes/create``."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] = {}
    labels: dict[str, str] = {}
    cluster_volume_spec: dict[str, Any] | None = None
